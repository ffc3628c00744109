//! Rolls: what each node's run tells of who is present, kept where sessions live, for nodes that the bus does not reach.
//!
//! What is told is not read here. A run's messages are texts, numbered by the run; the first of them has everything, and the others follow
//! it without a gap. The time is that of whoever keeps them, so the nodes' clocks say nothing.

use async_trait::async_trait;

use super::StoreError;

/// How long a run may give no sign of life before everything of it may be forgotten, in milliseconds: long after nobody counts on it.
pub const ROLL_KEPT_MS: i64 = 60_000;

/// Runs that are told of at once, those first that gave a sign of life last.
pub(crate) const RUNS_MAX: i64 = 1_000;

/// A run of a node of which there is something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub run: String,
    /// The number of its latest message.
    pub number: i64,
    /// How long ago it gave a sign of life, in milliseconds.
    pub age_ms: i64,
}

/// A message of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollMessage {
    /// Whose.
    pub run: String,
    /// Its number.
    pub number: i64,
    /// What it tells.
    pub text: String,
}

/// Keeps rolls. All of it can be repeated: a message of a number is always the same.
#[async_trait]
pub trait Rolls: Send + Sync {
    /// Begins a run's roll, or begins it anew: this message takes the place of all up to its number. A sign of life.
    async fn begin_roll(&self, run: &str, number: i64, text: &str) -> Result<(), StoreError>;

    /// A sign of life of a run, and the messages that follow what there is. Gives all runs of which there is something. When the own one is
    /// not among them, nothing was kept, and it is to be begun.
    async fn add_to_roll(&self, run: &str, messages: &[(i64, String)]) -> Result<Vec<Run>, StoreError>;

    /// The messages of these runs that come after these numbers, `limit` at most, each run's in their order.
    async fn read_rolls(&self, after: &[(String, i64)], limit: usize) -> Result<Vec<RollMessage>, StoreError>;

    /// Forgets everything of a run.
    async fn end_roll(&self, run: &str) -> Result<(), StoreError>;

    /// Forgets everything of runs that gave no sign of life for [`ROLL_KEPT_MS`].
    async fn forget_rolls(&self) -> Result<(), StoreError>;
}

/// What is read of a run, and of a message.
pub(super) type RunRow = (String, i64, i64);
pub(super) type RollMessageRow = (String, i64, String);

/// A row as a run.
pub(super) fn run((run, number, age_ms): RunRow) -> Run {
    Run { run, number, age_ms }
}

/// A row as a message.
pub(super) fn message((run, number, text): RollMessageRow) -> RollMessage {
    RollMessage { run, number, text }
}

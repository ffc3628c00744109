//! The room logs: the only truth, and the only room that knows SQL.
//!
//! Owns accounts, rooms, members, outboxes and events behind one trait with two implementations. What decides (which `seq`,
//! which duplicate, which gap) is [`plan`], pure and shared; the implementations only read what it needs, under locks, and
//! write what it says. Nothing here knows connections or the bus.

mod announcements;
mod attempts;
mod bots;
mod commit;
mod dead_letter;
mod directory;
mod expiry;
mod gate;
mod logins;
mod messages;
mod moderation;
mod outboxes;
mod plan;
mod postgres;
mod rolls;
mod rooms;
mod rows;
mod sqlite;
mod statements;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

pub(crate) use self::rolls::RUNS_MAX;
pub use self::{
    announcements::{
        ANNOUNCEMENT_KEYS_MAX, ANNOUNCEMENTS_MAX, Announced, Announcement, AnnouncementKey, Announcements,
    },
    attempts::Attempts,
    bots::{BotToken, Bots, Given, NewBotToken, TOKENS_PER_BOT_MAX},
    commit::commit,
    dead_letter::{DeadLetter, DeadReason},
    directory::{Directory, Listed},
    expiry::Expired,
    logins::{LOGINS_PER_USER_MAX, Login, Logins, NewLogin, Refreshed, Seen, Sessions, SharedSessions, Sightings},
    outboxes::{Outboxes, Walked},
    plan::{Answer, Append, Content, Message, SendKey},
    postgres::PostgresStore,
    rolls::{ROLL_KEPT_MS, RollMessage, Rolls, Run},
    sqlite::SqliteStore,
};
use crate::{
    event::{Event, Membership, Role, Room, RoomKind, Seat, Seq, User},
    protocol::{Code, Command, HistoryRange, Position, RoomReference},
};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or did not answer; what was asked may have happened.
    #[error("the database cannot be reached: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Redis, where sessions live, cannot be reached, or did not answer; what was asked may have happened.
    #[error("Redis cannot be used: {0}")]
    NoSessions(String),
    /// Its schema is not there yet, and it was not asked.
    #[error("the database's tables are not there yet")]
    Unmigrated,
    /// It did not answer in time; what was asked may have happened.
    #[error("the database did not answer in time")]
    Silent,
    /// It refused what it was given: one of the values cannot be stored.
    #[error("the database refused a value: {0}")]
    Poisoned(#[source] sqlx::Error),
    /// The request breaks a rule, and nothing happened.
    #[error("refused: {}", .0.as_str())]
    Refused(Code),
}

/// Bounds a question: a database that was cut off does not even say no.
///
/// # Errors
/// The question's, and [`StoreError::Silent`] when there is no answer in time.
pub(crate) async fn within<T, E: Into<StoreError>>(
    limit: Duration,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    timeout(limit, question).await.map_err(|_| StoreError::Silent)?.map_err(Into::into)
}

/// Bounds a question that no request bounds, and that is asked again when it had no answer.
///
/// # Errors
/// Those of [`within`].
pub(crate) async fn answered<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(STATEMENT_SECONDS_MAX, question).await
}

impl StoreError {
    /// What the client is told.
    pub fn code(&self) -> Code {
        match self {
            StoreError::Unavailable(_) | StoreError::NoSessions(_) | StoreError::Unmigrated | StoreError::Silent => {
                Code::Unavailable
            }
            StoreError::Poisoned(_) => Code::BadText,
            StoreError::Refused(code) => *code,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    /// Classes 22 (data exception) and 23 (constraint) speak of the values, all others of the connection or the server
    /// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database)
                if database.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23")) =>
            {
                StoreError::Poisoned(error)
            }
            sqlx::Error::Encode(_) => StoreError::Poisoned(error),
            _ => StoreError::Unavailable(error),
        }
    }
}

/// Bounds that only the store can hold.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Rooms of one user.
    pub rooms_per_user_max: usize,
    /// Members of one room.
    pub members_per_room_max: usize,
    /// Latest results of an outbox that are kept.
    pub outbox_results_kept: i64,
}

/// What a user finds on arrival.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// All rooms of the user, at their present heads.
    pub rooms: Vec<Seat>,
    /// The last number of the outbox that was taken; 0 for a new one.
    pub outbox_last: i64,
    /// Rooms in which the event at the client's position is another one: the history was set back.
    pub contradicted: Vec<Uuid>,
}

/// A change of membership, done.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The room as it was just before, so that the change's own events follow its head.
    pub room: Room,
    /// What entered the log; empty when nothing had to change.
    pub events: Vec<Event>,
    /// Who became a member or ceased to be one.
    pub memberships: Vec<Membership>,
}

/// How often a message has a reaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The message.
    pub seq: Seq,
    /// The reaction.
    pub reaction: String,
    /// By how many people.
    pub count: i64,
    /// Whether the one who asks is among them.
    pub mine: bool,
}

/// A member of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: User,
    /// As what.
    pub role: Role,
    /// Until when the member may not write, in milliseconds since 1970 UTC; 0 for never.
    pub muted_until: i64,
}

/// What a user has not read of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The room.
    pub room: Uuid,
    /// How far the user has read.
    pub read: Seq,
    /// Messages of others after that: at most 100, and of the next 1,000 events only.
    pub messages: i64,
    /// How many of them name the user, at most 100.
    pub mentions: i64,
}

/// A page of a room's log, in order.
#[derive(Clone, Debug)]
pub struct Page {
    /// The room's epoch.
    pub epoch: i32,
    /// The events.
    pub events: Vec<Event>,
    /// Whether there are more in the direction that was read.
    pub more: bool,
}

/// Where a room's log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The room.
    pub room: Uuid,
    /// The room's epoch.
    pub epoch: i32,
    /// The position of its latest event.
    pub seq: Seq,
}

/// What another node's commit, or ours, told through the database itself: a hint that there is something to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Rooms have these heads now, and these users' memberships changed.
    Changed {
        /// Rooms and the positions of their latest events.
        heads: Vec<(Uuid, Seq)>,
        /// Users.
        users: Vec<User>,
    },
    /// These logins are over.
    Ended(Vec<Uuid>),
    /// The announcements in force are other ones.
    Announced,
    /// Hints may have been missed: look at everything that matters.
    Missed,
}

/// A store of room logs.
///
/// Every method may fail with [`StoreError::Unavailable`] and can then be repeated: a repetition finds what the first did. Until
/// [`migrate`](Store::migrate) is done, all that needs tables fails with [`StoreError::Unmigrated`] and asks the database nothing.
#[async_trait]
pub trait Store: Announcements + Attempts + Bots + Directory + Outboxes + Sessions {
    /// `postgres` or `sqlite`.
    fn kind(&self) -> &'static str;

    /// Brings the schema up to date. Safe from several nodes at once.
    async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError>;

    /// Whether it answers and can be written to.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Whether a commit is on a second machine before it is acknowledged. `None` where there is no such thing.
    async fn is_synchronous(&self) -> Result<Option<bool>, StoreError>;

    /// Makes an account. `false` when the name is taken.
    async fn create_account(&self, user: &str, password_hash: &str, now_ms: i64) -> Result<bool, StoreError>;

    /// The password hash of an account.
    async fn password_hash(&self, user: &str) -> Result<Option<String>, StoreError>;

    /// Notes that the user was here, opens the outbox, compares the client's positions with the log, and tells what the user finds.
    async fn arrive(
        &self,
        user: &str,
        outbox: Option<Uuid>,
        resume: &[Position],
        now_ms: i64,
    ) -> Result<Arrival, StoreError>;

    /// Makes a public or a private room with its owner.
    async fn create_room(&self, user: &User, name: &str, kind: RoomKind, now_ms: i64) -> Result<Changed, StoreError>;

    /// Makes the user a member.
    async fn join(&self, user: &User, room: &RoomReference, now_ms: i64) -> Result<Changed, StoreError>;

    /// Ends the user's membership.
    async fn leave(&self, user: &User, room: Uuid, now_ms: i64) -> Result<Changed, StoreError>;

    /// Finds or makes the direct room of two users.
    async fn direct(&self, user: &User, other: &User, now_ms: i64) -> Result<Changed, StoreError>;

    /// Carries a [checked](Command::check) command out, if the user may.
    async fn carry_out(&self, user: &User, command: &Command, now_ms: i64) -> Result<Changed, StoreError>;

    /// The reactions of a room's messages from one position to another, as the user sees them.
    async fn tallies(&self, room: Uuid, user: &str, from: Seq, to: Seq) -> Result<Vec<Tally>, StoreError>;

    /// Moves a member's cursor on to a position that exists; never back. Tells where it is, and whether it moved.
    async fn read(&self, user: &str, room: Uuid, seq: Seq) -> Result<(Seq, bool), StoreError>;

    /// What the user has not read, in the rooms where there is something.
    async fn unread(&self, user: &str) -> Result<Vec<Unread>, StoreError>;

    /// Commits sends together: each is answered in its place. See [`plan`] for the rules.
    async fn append(&self, batch: &[Append]) -> Result<Vec<Answer>, StoreError>;

    /// What became of sends: `None` for one that was not taken yet.
    async fn outcomes(&self, sends: &[SendKey]) -> Result<Vec<Option<Answer>>, StoreError>;

    /// Keeps dead letters, each once.
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError>;

    /// Reads a page of a room's log; `limit` is at least 1.
    async fn page(&self, room: Uuid, range: HistoryRange, limit: usize) -> Result<Page, StoreError>;

    /// Drops events that are of before `before_ms`, at most `limit` of them and of one room: a beginning of its log, never its latest
    /// event. Nothing is dropped twice however many nodes do this at once.
    async fn expire(&self, before_ms: i64, now_ms: i64, limit: usize) -> Result<Expired, StoreError>;

    /// Where these rooms' logs end. Rooms that do not exist are left out.
    async fn heads(&self, rooms: &[Uuid]) -> Result<Vec<Head>, StoreError>;

    /// All rooms of these users.
    async fn memberships(&self, users: &[User]) -> Result<Vec<(User, Seat)>, StoreError>;

    /// Hints about commits, until the receiver is dropped. `None` where there is no other node.
    async fn hints(&self) -> Option<mpsc::Receiver<Hint>>;

    /// Goes on over new connections, and leaves those that there are to what is under way.
    fn renew(&self);

    /// Ends all connections, after what is under way.
    async fn close(&self);
}

/// A store that any part of the node may hold.
pub type SharedStore = Arc<dyn Store>;

/// The key of an outbox: its id within its owner, so that nobody can send by another's outbox.
pub(crate) fn outbox_key(owner: &str, outbox: Uuid) -> Uuid {
    Uuid::new_v5(&outbox, owner.as_bytes())
}

/// The keys of the sends' outboxes, in the batch's order.
fn outbox_keys(batch: &[Append]) -> Vec<Uuid> {
    batch.iter().map(|append| outbox_key(&append.sender, append.outbox)).collect()
}

/// The one name of two users' direct room, whoever asks.
fn direct_key(first: &str, second: &str) -> String {
    let (low, high) = if first <= second { (first, second) } else { (second, first) };
    // The length makes it unique even where a name holds the separator.
    format!("{}:{low}:{high}", low.len())
}

/// Makes a page of rows that were read in the direction of travel, one more than `limit` if there is more.
fn page_of(mut rows: Vec<rows::EventRow>, epoch: i32, limit: usize, forwards: bool) -> Page {
    let more = rows.len() > limit;
    rows.truncate(limit);
    if !forwards {
        rows.reverse();
    }
    Page { epoch, events: rows.into_iter().map(|row| rows::event(row).encode()).collect(), more }
}

/// How long a statement may take before the database counts as away.
const STATEMENT_SECONDS_MAX: Duration = Duration::from_secs(10);

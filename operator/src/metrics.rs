//! What the operator counts. Every label comes from a closed set, never from names of objects.

use std::{collections::BTreeSet, time::Duration};

use parking_lot::Mutex;

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster is as far as it can be for now.
    Done,
    /// The spec cannot be built until it changes.
    Invalid,
    /// Another write came in between; it is observed again.
    Conflict,
    /// The API server refused or could not be reached.
    Failed,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Invalid => "invalid",
            Outcome::Conflict => "conflict",
            Outcome::Failed => "failed",
        }
    }
}

/// A reconcile ended.
pub fn reconciled(outcome: Outcome, took: Duration) {
    metrics::counter!("chatcluster_reconciles_total", "outcome" => outcome.label()).increment(1);
    metrics::histogram!("chatcluster_reconcile_duration_seconds").record(took.as_secs_f64());
}

/// A reconcile began (+1) or ended (-1).
pub fn in_flight(change: f64) {
    metrics::gauge!("chatcluster_reconciles_in_flight").increment(change);
}

/// A write to the API server. Kinds are those that the operator makes.
pub fn write(kind: &str, verb: &'static str) {
    metrics::counter!("chatcluster_api_writes_total", "kind" => kind.to_owned(), "verb" => verb).increment(1);
}

/// A rollout reached a step.
pub fn rollout(phase: &'static str) {
    metrics::counter!("chatcluster_rollout_steps_total", "phase" => phase).increment(1);
}

/// A rollout has not come forward within its deadline.
pub fn rollout_stuck() {
    metrics::counter!("chatcluster_rollouts_stuck_total").increment(1);
}

/// A rollout's new nodes were not good enough.
pub fn rollout_has_failed() {
    metrics::counter!("chatcluster_rollout_failures_total").increment(1);
}

/// Whether the spec of a cluster stands as failed. The gauge tells how many do.
pub fn rollout_failed(cluster: &str, failed: bool) {
    static FAILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut clusters = FAILED.lock();
    let changed = if failed { clusters.insert(cluster.to_owned()) } else { clusters.remove(cluster) };
    if changed {
        metrics::gauge!("chatcluster_rollouts_failed").set(clusters.len() as f64);
    }
}

/// Whether this process is the leader.
pub fn leader(leads: bool) {
    metrics::gauge!("chatcluster_leader").set(f64::from(u8::from(leads)));
}

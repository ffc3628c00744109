//! What the operator counts: a closed set of metrics, their labels from closed sets, never from user data.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::ErrorKind;

const RECONCILES: &str = "chatcluster_operator_reconciles_total";
const RECONCILE_SECONDS: &str = "chatcluster_operator_reconcile_seconds";
const IN_FLIGHT: &str = "chatcluster_operator_reconciles_in_flight";
const QUEUED: &str = "chatcluster_operator_reconciles_queued";
const ERRORS: &str = "chatcluster_operator_errors_total";
const API_CALLS: &str = "chatcluster_operator_api_calls_total";
const ROLLOUTS: &str = "chatcluster_operator_rollouts_total";
const NODES_MOVED: &str = "chatcluster_operator_nodes_moved_total";
const LEADER: &str = "chatcluster_operator_leader";

/// A call to the API server beyond watches and the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// An object is read.
    Get,
    /// An object is created.
    Create,
    /// An object is applied or patched.
    Patch,
    /// An object is deleted.
    Delete,
}

/// A kind of object that is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the Kubernetes kind of that name")]
pub enum Kind {
    ChatCluster,
    ConfigMap,
    Event,
    PodDisruptionBudget,
    Secret,
    Service,
    ServiceAccount,
    StatefulSet,
}

/// How a rollout fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// A new revision begins to replace another.
    Started,
    /// Every node is of the new revision.
    Completed,
    /// It did not come forward for longer than its deadline.
    DeadlineExceeded,
}

/// Installs the recorder of this process. Until then, and in tests, everything that is counted is dropped.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let buckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(RECONCILE_SECONDS.into()), &buckets)?
        .install_recorder()?;
    describe_counter!(RECONCILES, "Reconciles that ended");
    describe_histogram!(RECONCILE_SECONDS, "Duration of a reconcile");
    describe_gauge!(IN_FLIGHT, "Reconciles that run now");
    describe_gauge!(QUEUED, "Clusters whose changed children wait to be reconciled");
    describe_counter!(ERRORS, "Reconciles that failed, by kind of error");
    describe_counter!(API_CALLS, "Calls to the API server beyond watches and the Lease, by verb and kind");
    describe_counter!(ROLLOUTS, "Rollouts by what became of them");
    describe_counter!(NODES_MOVED, "Nodes that a rollout replaced");
    describe_gauge!(LEADER, "Whether this process holds the Lease");
    gauge!(LEADER).set(0.0);
    Ok(handle)
}

/// A reconcile began.
pub fn reconcile_began() {
    gauge!(IN_FLIGHT).increment(1.0);
}

/// A reconcile ended.
pub fn reconcile_ended(took: Duration, error: Option<ErrorKind>) {
    gauge!(IN_FLIGHT).decrement(1.0);
    histogram!(RECONCILE_SECONDS).record(took.as_secs_f64());
    counter!(RECONCILES).increment(1);
    if let Some(kind) = error {
        counter!(ERRORS, "kind" => kind.as_str()).increment(1);
    }
}

/// So many clusters wait.
pub fn queued(waiting: usize) {
    // Exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!(QUEUED).set(waiting as f64);
}

/// The API server was called.
pub fn api_call(call: Call, kind: Kind) {
    let verb = match call {
        Call::Get => "get",
        Call::Create => "create",
        Call::Patch => "patch",
        Call::Delete => "delete",
    };
    counter!(API_CALLS, "verb" => verb, "kind" => kind.as_str()).increment(1);
}

/// A rollout took a turn.
pub fn rollout(what: Rollout) {
    let outcome = match what {
        Rollout::Started => "started",
        Rollout::Completed => "completed",
        Rollout::DeadlineExceeded => "deadline_exceeded",
    };
    counter!(ROLLOUTS, "outcome" => outcome).increment(1);
}

/// So many nodes were sent away by a rollout.
pub fn nodes_moved(nodes: i32) {
    counter!(NODES_MOVED).increment(u64::try_from(nodes).unwrap_or(0));
}

/// This process leads, or does not.
pub fn leader(leads: bool) {
    gauge!(LEADER).set(if leads { 1.0 } else { 0.0 });
}

impl Kind {
    /// The name, as in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ChatCluster => "ChatCluster",
            Kind::ConfigMap => "ConfigMap",
            Kind::Event => "Event",
            Kind::PodDisruptionBudget => "PodDisruptionBudget",
            Kind::Secret => "Secret",
            Kind::Service => "Service",
            Kind::ServiceAccount => "ServiceAccount",
            Kind::StatefulSet => "StatefulSet",
        }
    }
}

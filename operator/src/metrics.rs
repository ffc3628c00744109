//! What the operator counts. Every label comes from a closed set, never from names of objects.

use std::{collections::BTreeSet, time::Duration};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;

/// Bounds of the buckets of durations, in seconds.
const DURATION_SECONDS: [f64; 8] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

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
    const ALL: [Outcome; 4] = [Outcome::Done, Outcome::Invalid, Outcome::Conflict, Outcome::Failed];

    fn label(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Invalid => "invalid",
            Outcome::Conflict => "conflict",
            Outcome::Failed => "failed",
        }
    }
}

/// Keeps metrics for `/metrics` from now on.
///
/// # Errors
/// When the process keeps metrics already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &DURATION_SECONDS)?;
    let handle = builder.install_recorder()?;
    begin();
    Ok(handle)
}

/// Puts on the page what counts from zero: of a counter that appears with its first count Prometheus sees no increase, and no alert would
/// tell of it.
fn begin() {
    for outcome in Outcome::ALL {
        metrics::counter!("chatcluster_reconciles_total", "outcome" => outcome.label()).increment(0);
    }
    metrics::counter!("chatcluster_watch_failures_total").increment(0);
    metrics::counter!("chatcluster_rollouts_stuck_total").increment(0);
    metrics::counter!("chatcluster_rollout_failures_total").increment(0);
    in_flight(0.0);
    metrics::gauge!("chatcluster_rollouts_stuck").set(0.0);
    metrics::gauge!("chatcluster_rollouts_failed").set(0.0);
    leader(false);
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

/// A list or a watch was refused, or got no answer.
pub fn watch_failed() {
    metrics::counter!("chatcluster_watch_failures_total").increment(1);
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
pub fn rollout_has_got_stuck() {
    metrics::counter!("chatcluster_rollouts_stuck_total").increment(1);
}

/// A rollout's new nodes were not good enough.
pub fn rollout_has_failed() {
    metrics::counter!("chatcluster_rollout_failures_total").increment(1);
}

/// Whether the rollout of a cluster is past its deadline, and whether its spec stands as failed. The gauges tell of how many that is so, also of
/// those of which a former process has told.
pub fn rollout_stands(cluster: &str, stuck: bool, failed: bool) {
    static STUCK: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    static FAILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    count(&STUCK, cluster, stuck, &metrics::gauge!("chatcluster_rollouts_stuck"));
    count(&FAILED, cluster, failed, &metrics::gauge!("chatcluster_rollouts_failed"));
}

/// Takes a cluster into a set, or out of it, and tells how many are in it.
fn count(clusters: &Mutex<BTreeSet<String>>, cluster: &str, is_in: bool, gauge: &metrics::Gauge) {
    let mut clusters = clusters.lock();
    let changed = if is_in { clusters.insert(cluster.to_owned()) } else { clusters.remove(cluster) };
    if changed {
        gauge.set(clusters.len() as f64);
    }
}

/// Whether this process is the leader.
pub fn leader(leads: bool) {
    metrics::gauge!("chatcluster_leader").set(f64::from(u8::from(leads)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands on the page after this, without comments.
    fn page(told: impl FnOnce()) -> Vec<String> {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            begin();
            told();
        });
        let page = recorder.handle().render();
        page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// Prometheus sees no increase of a counter that appears with a count.
    #[test]
    fn every_metric_that_an_alert_reads_is_on_the_page_before_anything_has_happened() {
        let page = page(|| {});
        let rules = include_str!("../../config/monitoring/rules.yaml");
        let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let read = rules.split(|c| !is_of_name(c)).filter(|word| word.starts_with("chatcluster_"));
        let mut read: Vec<_> = read.collect();
        read.dedup();
        assert!(read.contains(&"chatcluster_rollouts_stuck"), "{read:?}");
        for name in read {
            let zero = |line: &&String| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
            let zeros: Vec<_> = page.iter().filter(zero).collect();
            assert!(!zeros.is_empty() && zeros.iter().all(|line| line.ends_with(" 0")), "{name}: {zeros:?}");
        }
        for counter in ["chatcluster_rollouts_stuck_total 0", "chatcluster_rollout_failures_total 0"] {
            assert!(page.iter().any(|line| line == counter), "{counter}: {page:?}");
        }
        let failed = r#"chatcluster_reconciles_total{outcome="failed"} 0"#;
        assert!(page.iter().any(|line| line == failed), "{page:?}");
    }

    #[test]
    fn every_metric_is_in_the_page_of_the_docs() {
        let page = include_str!("../../docs/operations.md");
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let names = include_str!("metrics.rs").split("(\"chatcluster_").skip(1);
        let names: BTreeSet<&str> = names.filter_map(|rest| rest.split('"').next()).filter(is_name).collect();
        assert!(names.len() > 9, "{names:?}");
        for name in names {
            assert!(
                page.contains(&format!("\n| `chatcluster_{name}` |")),
                "docs/operations.md has no row of chatcluster_{name}"
            );
        }
    }

    #[test]
    fn a_stuck_rollout_counts_once_for_as_long_as_it_is_stuck() {
        let gauge =
            |told: &dyn Fn()| page(told).into_iter().find(|line| line.starts_with("chatcluster_rollouts_stuck "));
        let twice = || {
            rollout_stands("chat/demo", true, false);
            rollout_stands("chat/demo", true, false);
        };
        assert_eq!(gauge(&twice).as_deref(), Some("chatcluster_rollouts_stuck 1"));
        assert_eq!(
            gauge(&|| rollout_stands("chat/demo", false, false)).as_deref(),
            Some("chatcluster_rollouts_stuck 0")
        );
    }
}

//! What a pod's object says of it. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;

use crate::{names, rollout::PodView};

/// Pods, as far as a rollout and the status depend on them.
pub fn views(pods: &[Pod], cluster: &str, lost: &BTreeSet<String>) -> Vec<PodView> {
    pods.iter().filter_map(|pod| view(pod, cluster, lost)).collect()
}

fn view(pod: &Pod, cluster: &str, lost: &BTreeSet<String>) -> Option<PodView> {
    let name = pod.name_any();
    let ordinal = name.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()?;
    Some(PodView {
        ordinal,
        revision: pod.labels().get(names::REVISION).cloned().unwrap_or_default(),
        ready: is_ready(pod),
        since: since(pod),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        lost: lost.contains(&name),
        name,
    })
}

/// When a pod became ready, or ceased to be.
pub fn since(pod: &Pod) -> Timestamp {
    let changed = condition(pod).and_then(|ready| ready.last_transition_time.clone());
    changed.or_else(|| pod.creation_timestamp()).map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

fn condition(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod).is_some_and(|ready| ready.status == "True")
}

/// Whether the grace of a leaving pod is over.
pub fn is_overdue(pod: &Pod, now: Timestamp) -> bool {
    pod.metadata.deletion_timestamp.as_ref().is_some_and(|end| end.0 < now)
}

/// Whether Kubernetes has deleted the pod because its machine does not answer
/// (<https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>).
pub fn was_given_up(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut target = conditions.filter(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
    target.any(|condition| condition.reason.as_deref() == Some("DeletionByTaintManager"))
}

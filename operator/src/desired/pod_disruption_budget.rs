//! How many nodes an eviction may take: as many as a rollout may.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, OwnerReference},
        util::intstr::IntOrString,
    },
};

use super::metadata;
use crate::{names, validate::Cluster};

pub(super) fn build(cluster: &Cluster, owner: &OwnerReference) -> PodDisruptionBudget {
    // A number, not a percentage: surge nodes must not count. One node may always be evicted, or a machine could never be drained
    // of a small cluster, whose share of unavailable nodes is rounded to none.
    let must_stay = (cluster.policy.replicas - cluster.policy.unavailable.max(1)).max(0);
    PodDisruptionBudget {
        metadata: metadata(cluster, owner, cluster.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(must_stay)),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector(&cluster.name)),
                ..LabelSelector::default()
            }),
            // A paused or broken rollout never blocks the drain of a machine.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

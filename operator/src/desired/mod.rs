//! What should exist: every child of a cluster, built without a client.
//!
//! One file per child. [`Children`] is taken apart without `..` where it is applied, so a child that nobody applies does not
//! compile.

mod auth_secret;
mod client_service;
mod config_map;
mod headless_service;
mod managed;
mod pod_disruption_budget;
mod service_account;
mod shape;
mod stateful_set;
#[cfg(test)]
mod tests;
mod volumes;

use crds::ChatCluster;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service, ServiceAccount},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;

pub use self::{
    auth_secret::build as auth_secret,
    managed::build as managed,
    shape::{Choice, POD_TEMPLATE_VERSION, choose},
};
pub(crate) use self::{client_service::serving, config_map::checked};
use crate::{names, rollout::Decision, validate::Cluster};

/// All children but those that come before the bindings are complete: the signing Secret, made once and never again, and the clusters
/// of other operators.
pub struct Children {
    /// Who the pods are.
    pub service_account: ServiceAccount,
    /// What the nodes read; `None`: it is there.
    pub config_map: Option<ConfigMap>,
    /// Names of the pods.
    pub headless_service: Service,
    /// Where clients connect.
    pub client_service: Service,
    /// How many may be evicted.
    pub pod_disruption_budget: PodDisruptionBudget,
    /// The pods.
    pub stateful_set: StatefulSet,
}

/// All children, at a step of the rollout. The pods' template does not depend on the rollout, and the rollout depends on it: so the
/// StatefulSet is chosen first, at rest.
pub fn children(
    cluster: &Cluster,
    owner: &OwnerReference,
    config_map: Option<ConfigMap>,
    stateful_set: StatefulSet,
    decision: &Decision,
) -> Children {
    Children {
        service_account: service_account::build(cluster, owner),
        config_map,
        headless_service: headless_service::build(cluster, owner),
        client_service: client_service::build(cluster, owner, decision.serving.as_deref()),
        pod_disruption_budget: pod_disruption_budget::build(cluster, owner),
        stateful_set: stateful_set::at(stateful_set, decision.window),
    }
}

/// The reference that lets Kubernetes delete the children with their cluster.
pub fn owner(cluster: &ChatCluster) -> OwnerReference {
    cluster.controller_owner_ref(&()).unwrap_or_default()
}

/// Of a child that nobody waits for when its cluster is deleted, however the deletion was asked for.
fn metadata(cluster: &Cluster, owner: &OwnerReference, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(names::labels(&cluster.name)),
        owner_references: Some(vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Of a child that a deletion in the foreground waits for, as long as it may ([`crate::ending`]).
fn awaited(cluster: &Cluster, owner: &OwnerReference, name: String) -> ObjectMeta {
    metadata(cluster, &OwnerReference { block_owner_deletion: Some(true), ..owner.clone() }, name)
}

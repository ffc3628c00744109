//! Clusters of other operators that belong to a chat: a CloudNativePG `Cluster` and a `RabbitmqCluster`.
//!
//! No more is written than the chat depends on; server-side apply leaves the rest, such as backups, to whoever writes it.

use std::collections::BTreeMap;

use crds::chatcluster::{ManagedPostgres, ManagedRabbitmq, OnDelete};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DynamicObject, TypeMeta};
use serde_json::{Value, json};

use super::awaited;
use crate::{bindings::Foreign, names, validate::Cluster};

/// Keeps Argo CD from deleting an object, in a sync or with its application.
const KEPT: (&str, &str) = ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false");

/// Connections that Postgres takes, unless the user says otherwise: those of 40 nodes, and some for people.
const MAX_CONNECTIONS: &str = "420";

/// The clusters that a chat asks for.
pub fn build(cluster: &Cluster, owner: &OwnerReference) -> Vec<(Foreign, DynamicObject)> {
    let postgres = cluster.spec.postgres.as_ref().and_then(|binding| binding.managed.as_ref());
    let rabbitmq = cluster.spec.rabbitmq.as_ref().and_then(|binding| binding.managed.as_ref());
    let postgres = postgres.map(|wanted| {
        let reference = Foreign::postgres(&names::managed_postgres(&cluster.name));
        object(cluster, owner, reference, wanted.on_delete, postgres_spec(wanted))
    });
    let rabbitmq = rabbitmq.map(|wanted| {
        let reference = Foreign::rabbitmq(&names::managed_rabbitmq(&cluster.name));
        object(cluster, owner, reference, wanted.on_delete, rabbitmq_spec(wanted))
    });
    [postgres, rabbitmq].into_iter().flatten().collect()
}

fn object(
    cluster: &Cluster,
    owner: &OwnerReference,
    reference: Foreign,
    on_delete: OnDelete,
    spec: Value,
) -> (Foreign, DynamicObject) {
    let mut metadata = awaited(cluster, owner, reference.name.clone());
    if let Some(labels) = &mut metadata.labels {
        // It is no chat node, and nothing that selects chat nodes may ever find what is made of it.
        labels.remove(names::NAME);
    }
    if on_delete == OnDelete::Retain {
        // Kubernetes deletes what has an owner with it.
        metadata.owner_references = None;
        // Argo CD takes what has its application's label and no owner for its own
        // (<https://argo-cd.readthedocs.io/en/stable/user-guide/sync-options/>).
        metadata.annotations.get_or_insert_default().insert(KEPT.0.into(), KEPT.1.into());
    }
    let types = TypeMeta { api_version: reference.api_version.clone(), kind: reference.kind.clone() };
    (reference, DynamicObject { types: Some(types), metadata, data: json!({"spec": spec}) })
}

fn postgres_spec(wanted: &ManagedPostgres) -> Value {
    let mut parameters = BTreeMap::from([("max_connections".to_owned(), MAX_CONNECTIONS.to_owned())]);
    parameters.extend(wanted.parameters.clone());
    let mut postgresql = json!({"parameters": parameters});
    if wanted.instances > 1 {
        // An acknowledged message is on a second instance, or it is not acknowledged.
        postgresql["synchronous"] = json!({"method": "any", "number": 1, "dataDurability": "required"});
    }
    let mut spec = json!({
        "instances": wanted.instances,
        "storage": {"size": wanted.storage},
        "bootstrap": {"initdb": {"database": "chat", "owner": "chat"}},
        "postgresql": postgresql,
    });
    if let Some(class) = &wanted.storage_class_name {
        spec["storage"]["storageClass"] = json!(class);
    }
    if let Some(image) = &wanted.image {
        spec["imageName"] = json!(image);
    }
    spec
}

fn rabbitmq_spec(wanted: &ManagedRabbitmq) -> Value {
    let mut spec = json!({
        "replicas": wanted.replicas,
        "persistence": {"storage": wanted.storage},
    });
    if let Some(class) = &wanted.storage_class_name {
        spec["persistence"]["storageClassName"] = json!(class);
    }
    if let Some(image) = &wanted.image {
        spec["image"] = json!(image);
    }
    if let Some(secret) = &wanted.tls_secret {
        spec["tls"] = json!({"secretName": secret.name, "disableNonTLSListeners": true});
    }
    spec
}

//! Names and labels of everything that the operator makes. Decides nothing else.

use std::collections::BTreeMap;

use crds::{ChatCluster, chatcluster::BindingSpec};
use kube::ResourceExt;

/// The one field manager of all writes.
pub const FIELD_MANAGER: &str = "chatcluster-operator";

/// Selects everything that the operator made.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=chatcluster-operator";

/// The label that names the cluster an object belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// The label that the StatefulSet controller gives each pod: its revision.
pub const REVISION: &str = "controller-revision-hash";

/// The annotation that tells what was applied, so that a field that is no longer wanted is noticed too.
pub const APPLIED: &str = "chatcluster.dev/applied";

/// The annotation on the pod template that tells what the Secrets held.
pub const SECRETS: &str = "chatcluster.dev/secrets";

/// The ConfigMap's key, and the file that the node reads.
pub const CONFIG_FILE: &str = "config.yaml";

/// The key of the signing Secret that the operator makes.
pub const TOKEN_KEY: &str = "key";

/// Labels of every object of a cluster.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.insert("app.kubernetes.io/managed-by".into(), FIELD_MANAGER.into());
    labels.insert("app.kubernetes.io/part-of".into(), "chatcluster".into());
    labels
}

/// Labels that select a cluster's pods. They can never change: a StatefulSet's selector is immutable.
pub fn selector(cluster: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "chat-node"), (INSTANCE, cluster)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The selector as `scale` wants it.
pub fn selector_string(cluster: &str) -> String {
    selector(cluster).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The headless Service, which gives pods their names.
pub fn headless(cluster: &str) -> String {
    format!("{cluster}-nodes")
}

/// The signing Secret that the operator makes when none is named.
pub fn auth_secret(cluster: &str) -> String {
    format!("{cluster}-auth")
}

/// The Secret of a Postgres binding. CloudNativePG names that of an application `<cluster>-app`.
pub fn postgres_secret(binding: &BindingSpec) -> Option<String> {
    secret(binding, "-app")
}

/// The Secret of a RabbitMQ binding. The RabbitMQ Cluster Operator names it `<cluster>-default-user`.
pub fn rabbitmq_secret(binding: &BindingSpec) -> Option<String> {
    secret(binding, "-default-user")
}

fn secret(binding: &BindingSpec, suffix: &str) -> Option<String> {
    let named = binding.secret.as_ref().map(|secret| secret.name.clone());
    named.or_else(|| binding.cluster.as_ref().map(|cluster| format!("{}{suffix}", cluster.name)))
}

/// Every Secret that a cluster reads.
pub fn secrets(cluster: &ChatCluster) -> Vec<String> {
    let spec = &cluster.spec;
    let token = spec.auth.as_ref().and_then(|auth| auth.token_secret.as_ref()).map(|token| token.name.clone());
    let bindings = [spec.postgres.as_ref().and_then(postgres_secret), spec.rabbitmq.as_ref().and_then(rabbitmq_secret)];
    let token = token.unwrap_or_else(|| auth_secret(&cluster.name_any()));
    bindings.into_iter().flatten().chain([token]).collect()
}

//! Names and labels of everything that the operator makes. Decides nothing else.

use std::collections::BTreeMap;

use crds::ChatCluster;
use kube::ResourceExt;

/// The one field manager of all writes.
pub const FIELD_MANAGER: &str = "chatcluster-operator";

/// Selects everything that the operator made.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=chatcluster-operator";

/// The label that tells what an object is.
pub const NAME: &str = "app.kubernetes.io/name";

/// The label of everything that the operator made.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The label that names the cluster an object belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// The label that the StatefulSet controller gives each pod: its revision.
pub const REVISION: &str = "controller-revision-hash";

/// The annotation that tells what was applied, so that a field that is no longer wanted is noticed too.
pub const APPLIED: &str = "chatcluster.dev/applied";

/// The annotation on the pod template that tells what the Secrets held.
pub const SECRETS: &str = "chatcluster.dev/secrets";

/// The annotation on a ChatCluster by which a person commands its rollout: `promote`, `abort` or `resume`. It acts once, when its
/// value is first seen; a suffix (`abort/2`) gives the same command again.
pub const ROLLOUT: &str = "chatcluster.dev/rollout";

/// The ConfigMap's key, and the file that the node reads.
pub const CONFIG_FILE: &str = "config.yaml";

/// The key of the signing Secret that the operator makes.
pub const TOKEN_KEY: &str = "key";

/// Labels of every object of a cluster.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.insert(MANAGED_BY.into(), FIELD_MANAGER.into());
    labels.insert("app.kubernetes.io/part-of".into(), "chatcluster".into());
    labels
}

/// Labels that select a cluster's pods. They can never change: a StatefulSet's selector is immutable.
pub fn selector(cluster: &str) -> BTreeMap<String, String> {
    [(NAME, "chat-node"), (INSTANCE, cluster)]
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

/// The CloudNativePG cluster that the operator makes.
pub fn managed_postgres(cluster: &str) -> String {
    format!("{cluster}-postgres")
}

/// The `RabbitmqCluster` that the operator makes.
pub fn managed_rabbitmq(cluster: &str) -> String {
    format!("{cluster}-rabbitmq")
}

/// Secret and key that tokens are signed with.
pub fn token(cluster: &ChatCluster) -> (String, String) {
    let named = cluster.spec.auth.as_ref().and_then(|auth| auth.token_secret.clone());
    named.map_or_else(|| (auth_secret(&cluster.name_any()), TOKEN_KEY.into()), |token| (token.name, token.key))
}

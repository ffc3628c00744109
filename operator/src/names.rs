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

/// The container of a chat node, and what it is called in labels.
pub const CONTAINER: &str = "chat-node";

/// Labels of every object of a cluster.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.insert(MANAGED_BY.into(), FIELD_MANAGER.into());
    labels.insert("app.kubernetes.io/part-of".into(), "chatcluster".into());
    labels
}

/// Labels that select a cluster's pods. They can never change: a StatefulSet's selector is immutable.
pub fn selector(cluster: &str) -> BTreeMap<String, String> {
    [(NAME, CONTAINER), (INSTANCE, cluster)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters of a label's value (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
    const LABEL_MAX: usize = 63;

    /// Characters of the name of a CloudNativePG `Cluster` (`validateName` of its webhook).
    const POSTGRES_MAX: usize = 50;

    /// The longest hash of a revision: a number of 32 bits, which is encoded digit by digit.
    const HASH: &str = "4294967295";

    /// Characters of a name that the rule of the schema for such clusters allows.
    fn allowed(condition: &str) -> usize {
        let crd = <ChatCluster as kube::CustomResourceExt>::crd();
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let rules = schema.x_kubernetes_validations.iter().flatten();
        let start = format!("{condition}size(self.metadata.name) <= ");
        let mut found = rules.filter_map(|rule| rule.rule.strip_prefix(&start)?.parse().ok());
        found.next().unwrap_or_else(|| panic!("no rule begins with {start:?}"))
    }

    /// The label of a revision is the name of its StatefulSet and the hash.
    fn revision(stateful_set: &str) -> usize {
        format!("{stateful_set}-{HASH}").len()
    }

    #[test]
    fn the_longest_name_that_the_schema_takes_is_the_longest_that_runs() {
        let name = |condition: &str| "a".repeat(allowed(condition));
        assert_eq!(revision(&name("")), LABEL_MAX);
        let postgres = name("!has(self.spec.postgres) || !has(self.spec.postgres.managed) || ");
        assert_eq!(managed_postgres(&postgres).len(), POSTGRES_MAX);
        // The RabbitMQ Cluster Operator names its StatefulSet so.
        let rabbitmq = name("!has(self.spec.rabbitmq) || !has(self.spec.rabbitmq.managed) || ");
        assert_eq!(revision(&format!("{}-server", managed_rabbitmq(&rabbitmq))), LABEL_MAX);
    }
}

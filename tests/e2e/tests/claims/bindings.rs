//! The forms of a binding, against the real CRDs of CloudNativePG and the RabbitMQ Cluster Operator and, where they are built, against these
//! operators. No node is needed to see what is bound, so these clusters have none.

use anyhow::{Context, Result, ensure};
use e2e::{
    operators,
    stage::{NAMESPACE, Stage, apply, chat_cluster, kubectl, secret},
};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use serde_json::{Value, json};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

/// Waits until a condition has a reason, and words in its message.
pub(crate) async fn told(stage: &Stage, cluster: &str, type_: &str, reason: &str, words: &str) -> Result<()> {
    stage
        .until(&format!("{cluster}: {type_} {reason} {words:?}"), || async {
            let told = stage.condition(cluster, type_).await?;
            Ok(told.filter(|(_, now, message)| now == reason && message.contains(words)).map(drop))
        })
        .await
}

async fn stateful_set(stage: &Stage, name: &str) -> Result<StatefulSet> {
    let api: Api<StatefulSet> = Api::namespaced(stage.client.clone(), NAMESPACE);
    stage.until(&format!("the StatefulSet {name}"), || async { Ok(api.get_opt(name).await?) }).await
}

/// The volumes of a StatefulSet's pods, as JSON.
async fn volumes(stage: &Stage, name: &str) -> Result<Value> {
    let set = stateful_set(stage, name).await?;
    let template = set.spec.context("a spec")?.template.spec.context("a pod")?;
    Ok(serde_json::to_value(template.volumes)?)
}

/// A kind that is not installed, an object that is not there and a Secret that is not written are three different things, and each is waited
/// for.
pub(crate) async fn clusters_of_other_operators(stage: &Stage) -> Result<String> {
    for crd in [operators::POSTGRES_CRD, operators::RABBITMQ_CRD] {
        operators::remove(crd)?;
    }
    let form = |name: &str| json!({"cluster": {"name": name}});
    apply(&chat_cluster("guest", json!({"replicas": 0, "postgres": form("chat-db"), "rabbitmq": form("chat-mq")})))?;
    told(stage, "guest", "PostgresBound", "KindNotInstalled", "Cluster of postgresql.cnpg.io/v1").await?;
    told(stage, "guest", "RabbitmqBound", "KindNotInstalled", "RabbitmqCluster").await?;
    operators::install(operators::POSTGRES_CRD)?;
    operators::install(operators::RABBITMQ_CRD)?;
    told(stage, "guest", "PostgresBound", "ClusterNotFound", "\"chat-db\"").await?;
    told(stage, "guest", "RabbitmqBound", "ClusterNotFound", "\"chat-mq\"").await?;
    let object = |api_version: &str, kind: &str, name: &str, spec: Value| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec});
    let postgres = json!({"instances": 3, "storage": {"size": "1Gi"}});
    apply(&object("postgresql.cnpg.io/v1", "Cluster", "chat-db", postgres))?;
    let rabbitmq = json!({"tls": {"secretName": "chat-mq-tls"}});
    apply(&object("rabbitmq.com/v1beta1", "RabbitmqCluster", "chat-mq", rabbitmq))?;
    told(stage, "guest", "PostgresBound", "SecretNotFound", "\"chat-db-app\"").await?;
    apply(&secret("chat-db-app", &[("uri", "postgresql://chat:p@chat-db-rw:5432/chat"), ("pgpass", "x")]))?;
    told(stage, "guest", "PostgresBound", "SecretNotFound", "\"chat-db-ca\"").await?;
    apply(&secret("chat-db-ca", &[("ca.crt", PEM), ("ca.key", "x")]))?;
    told(stage, "guest", "PostgresBound", "Bound", "\"chat-db-app\"").await?;
    told(stage, "guest", "DurabilityReduced", "Asynchronous", "synchronous").await?;
    apply(&secret("chat-mq-default-user", &[("connection_string", "amqp://u:p@chat-mq:5672/")]))?;
    apply(&secret("chat-mq-tls", &[("tls.crt", PEM), ("tls.key", "x")]))?;
    told(stage, "guest", "RabbitmqBound", "KeyMissing", "spec.rabbitmq.ca").await?;
    apply(&secret("chat-mq-tls", &[("tls.crt", PEM), ("tls.key", "x"), ("ca.crt", PEM)]))?;
    told(stage, "guest", "RabbitmqBound", "Invalid", "write amqps://").await?;
    apply(&secret("chat-mq-default-user", &[("connection_string", "amqps://u:p@chat-mq:5671/")]))?;
    told(stage, "guest", "RabbitmqBound", "Bound", "\"chat-mq-default-user\"").await?;
    let volumes = volumes(stage, "guest").await?.to_string();
    for mounted in ["chat-db-app", "chat-db-ca", "chat-mq-default-user", "chat-mq-tls"] {
        ensure!(volumes.contains(mounted), "{mounted} is not mounted: {volumes}");
    }
    ensure!(!volumes.contains("tls.key") && !volumes.contains("ca.key"), "a private key is mounted: {volumes}");
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "guest"])?;
    kubectl(&[
        "-n",
        NAMESPACE,
        "delete",
        "clusters.postgresql.cnpg.io/chat-db",
        "rabbitmqclusters.rabbitmq.com/chat-mq",
    ])?;
    Ok("absent kinds, objects, Secrets and keys were named in turn, and each arrival was enough".into())
}

/// A managed binding makes what it needs, and what it owns goes with it.
pub(crate) async fn managed(stage: &Stage) -> Result<String> {
    let running = operators::start()?;
    let form = |field: &str| json!({"managed": {field: 3, "storage": "1Gi"}});
    apply(&chat_cluster("own", json!({"replicas": 0, "postgres": form("instances"), "rabbitmq": form("replicas")})))?;
    let made = ["clusters.postgresql.cnpg.io/own-postgres", "rabbitmqclusters.rabbitmq.com/own-rabbitmq"];
    for object in made {
        let owner = stage
            .until(object, || async {
                let path = "-o=jsonpath={.metadata.ownerReferences[?(@.controller==true)].kind}";
                Ok(Some(kubectl(&["-n", NAMESPACE, "get", object, path])?))
            })
            .await?;
        ensure!(owner == "ChatCluster", "{object} is owned by {owner:?}");
    }
    let seen = if running.is_some() {
        told(stage, "own", "PostgresBound", "Bound", "\"own-postgres-app\"").await?;
        told(stage, "own", "RabbitmqBound", "Bound", "\"own-rabbitmq-default-user\"").await?;
        "the real operators wrote their Secrets"
    } else {
        apply(&secret("own-postgres-app", &[("uri", "postgresql://chat:p@own-postgres-rw:5432/chat")]))?;
        apply(&secret("own-postgres-ca", &[("ca.crt", PEM)]))?;
        apply(&secret("own-rabbitmq-default-user", &[("connection_string", "amqp://u:p@own-rabbitmq:5672/")]))?;
        told(stage, "own", "PostgresBound", "Bound", "\"own-postgres-app\"").await?;
        told(stage, "own", "RabbitmqBound", "Bound", "\"own-rabbitmq-default-user\"").await?;
        "their operators are not built (tests/setup/operators build), so the test wrote their Secrets"
    };
    told(stage, "own", "DurabilityReduced", "Synchronous", "second instance").await?;
    stateful_set(stage, "own").await?;
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "own"])?;
    for object in made {
        stage
            .until(&format!("{object} to go with its owner"), || async {
                let left = kubectl(&["-n", NAMESPACE, "get", object, "--ignore-not-found", "-o", "name"])?;
                Ok(left.trim().is_empty().then_some(()))
            })
            .await?;
    }
    if running.is_none() {
        // What the test wrote has no owner, and would be taken for the work of the operators.
        let written = ["own-postgres-app", "own-postgres-ca", "own-rabbitmq-default-user"];
        kubectl(&[&["-n", NAMESPACE, "delete", "secret"][..], &written[..]].concat())?;
    }
    drop(running);
    Ok(format!("made, owned and gone; {seen}"))
}

/// Any kind with `status.binding.name` will do, once the operator may read it.
pub(crate) async fn provisioned_service(stage: &Stage) -> Result<String> {
    let service =
        |kind: &str| json!({"serviceBinding": {"apiVersion": "e2e.chatcluster.dev/v1", "kind": kind, "name": "given"}});
    let bus = json!({"secret": {"name": "given-mq"}});
    apply(&secret("given-mq", &[("uri", "amqp://u:p@mq/v")]))?;
    apply(&chat_cluster("taker", json!({"replicas": 0, "postgres": service("Nonsense"), "rabbitmq": bus.clone()})))?;
    told(stage, "taker", "PostgresBound", "KindNotInstalled", "Nonsense of e2e.chatcluster.dev/v1").await?;
    apply(&chat_cluster("taker", json!({"replicas": 0, "postgres": service("Database"), "rabbitmq": bus})))?;
    apply(&database_crd())?;
    told(stage, "taker", "PostgresBound", "Forbidden", "servicebinding.io/controller").await?;
    let rules =
        json!([{"apiGroups": ["e2e.chatcluster.dev"], "resources": ["databases"], "verbs": ["get", "list", "watch"]}]);
    apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": rules,
        "metadata": {"name": "chatcluster-e2e-databases", "labels": {"servicebinding.io/controller": "true"}}}))?;
    told(stage, "taker", "PostgresBound", "ClusterNotFound", "\"given\"").await?;
    let database = |status: Value| {
        json!({"apiVersion": "e2e.chatcluster.dev/v1", "kind": "Database", "status": status,
        "metadata": {"name": "given", "namespace": NAMESPACE}})
    };
    apply(&database(json!({})))?;
    told(stage, "taker", "PostgresBound", "NotProvisioned", "status.binding.name").await?;
    apply(&database(json!({"binding": {"name": "given-secret"}})))?;
    told(stage, "taker", "PostgresBound", "SecretNotFound", "\"given-secret\"").await?;
    apply(&secret("given-secret", &[("uri", "nonsense")]))?;
    told(stage, "taker", "PostgresBound", "Invalid", "\"uri\" is not a URL").await?;
    apply(&secret("given-secret", &[("uri", "postgres://u:p@db/chat"), ("note", "1")]))?;
    told(stage, "taker", "PostgresBound", "Bound", "\"given-secret\"").await?;
    only_used_keys_count(stage).await?;
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "taker"])?;
    kubectl(&["delete", "customresourcedefinition", "databases.e2e.chatcluster.dev"])?;
    kubectl(&["delete", "clusterrole", "chatcluster-e2e-databases"])?;
    Ok("an unknown kind, a missing right, a missing name and a garbled Secret were named in turn".into())
}

/// A key that no node reads changes no template, and one that they read does.
async fn only_used_keys_count(stage: &Stage) -> Result<()> {
    let before = stateful_set(stage, "taker").await?.metadata.generation;
    apply(&secret("given-secret", &[("uri", "postgres://u:p@db/chat"), ("note", "2")]))?;
    // The Service tells that the cluster was reconciled since.
    let patch = json!({"spec": {"service": {"annotations": {"seen": "1"}}}}).to_string();
    kubectl(&["-n", NAMESPACE, "patch", "chatcluster", "taker", "--type=merge", "-p", &patch])?;
    stage
        .until("the Service to be annotated", || async {
            let seen =
                kubectl(&["-n", NAMESPACE, "get", "service", "taker", "-o=jsonpath={.metadata.annotations.seen}"])?;
            Ok((seen == "1").then_some(()))
        })
        .await?;
    let after = stateful_set(stage, "taker").await?.metadata.generation;
    ensure!(after == before, "an unrelated key rolled the pods: generation {before:?}, then {after:?}");
    apply(&secret("given-secret", &[("uri", "postgres://u:pw@db/chat"), ("note", "2")]))?;
    let rolled = || async { Ok((stateful_set(stage, "taker").await?.metadata.generation > before).then_some(())) };
    stage.until("a new password to roll the pods", rolled).await
}

/// A kind whose objects are Provisioned Services.
fn database_crd() -> Value {
    let binding = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let status = json!({"type": "object", "properties": {"binding": binding}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"status": status}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "databases.e2e.chatcluster.dev"},
        "spec": {
            "group": "e2e.chatcluster.dev",
            "scope": "Namespaced",
            "names": {"plural": "databases", "singular": "database", "kind": "Database", "listKind": "DatabaseList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

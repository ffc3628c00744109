//! What becomes of a cluster that is paused, put to sleep, orphaned, or looked after by an operator of another age.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::ChatCluster;
use e2e::{
    people::Party,
    stage::{BOUND, NAMESPACE, OTHER_NAMESPACE, Stage, apply, chat_cluster, kubectl, secret},
};
use futures::future::try_join;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::PersistentVolumeClaim};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::reach::uids;

fn patch(name: &str, patch: &Value) -> Result<String> {
    kubectl(&["-n", NAMESPACE, "patch", "chatcluster", name, "--type=merge", "-p", &patch.to_string()])
}

async fn stateful_set(stage: &Stage, namespace: &str, name: &str) -> Result<StatefulSet> {
    let api: Api<StatefulSet> = Api::namespaced(stage.client.clone(), namespace);
    stage.until(&format!("the StatefulSet {namespace}/{name}"), || async { Ok(api.get_opt(name).await?) }).await
}

fn restarted(value: &str) -> Value {
    json!({"spec": {"pod": {"annotations": {"restarted": value}}}})
}

/// A newer operator restarts nothing by itself, says what it would change, and does so with the user's next change.
pub(crate) async fn another_shape(stage: &Stage) -> Result<String> {
    stage.bound().await?;
    let pods = uids(stage).await?;
    stage.install(&["podTemplateVersion=1"])?;
    apply(&secret("aged-pg", &[("uri", "postgres://u:p@db/chat")]))?;
    apply(&secret("aged-mq", &[("uri", "amqp://u:p@mq/chat")]))?;
    let form = |name: &str| json!({"secret": {"name": name}});
    // No node is needed: a new generation would restart them.
    apply(&chat_cluster("aged", json!({"replicas": 0, "postgres": form("aged-pg"), "rabbitmq": form("aged-mq")})))?;
    let shape = |shape: i32| {
        stage.until("a shape of the pods", move || async move {
            let status = stage.cluster("aged").await?.status.unwrap_or_default();
            Ok((status.pod_template_version == Some(shape)).then_some(status.update_available))
        })
    };
    shape(1).await?;
    let generation =
        || async { Ok::<_, anyhow::Error>(stateful_set(stage, NAMESPACE, "aged").await?.metadata.generation) };
    let before = generation().await?;
    stage.install(&[])?;
    let told = stage
        .until("the operator to tell of its newer shape", || async {
            Ok(Some(shape(1).await?).filter(|told| told.contains("pod template")))
        })
        .await?;
    ensure!(generation().await? == before, "an upgrade made a new generation");
    patch("aged", &restarted("1"))?;
    ensure!(shape(2).await?.is_empty(), "the newest shape is told to be available");
    ensure!(generation().await? > before, "the newer shape was not taken");
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "aged"])?;
    stage.at_rest(BOUND, pods.len()).await?;
    ensure!(uids(stage).await? == pods, "an operator that is held at an older shape restarted pods of the newer one");
    Ok(format!("generation {before:?} stayed; then {told}"))
}

/// Paused, nothing is written but the status. Asleep, everything but the nodes stays. A volume goes with its cluster when it is asked to.
pub(crate) async fn paused_and_asleep(stage: &Stage) -> Result<String> {
    let storage = json!({"size": "1Gi", "onDelete": "Delete"});
    apply(&chat_cluster("sleeper", json!({"storage": storage, "updateStrategy": {"drainSeconds": 0}})))?;
    stage.at_rest("sleeper", 1).await?;
    let service = stage.service("sleeper");
    let party = Party::gather(&[service.clone(), service]).await?;
    party.converse().await?;

    let before = stateful_set(stage, NAMESPACE, "sleeper").await?.metadata.generation;
    let mut change = restarted("1");
    change["spec"]["paused"] = json!(true);
    patch("sleeper", &change)?;
    let progressing = |reason: &'static str| {
        stage.until(reason, move || async move {
            let told = stage.condition("sleeper", "Progressing").await?;
            Ok(told.filter(|(_, now, _)| now == reason).map(drop))
        })
    };
    progressing("Paused").await?;
    kubectl(&["-n", NAMESPACE, "delete", "pod", "sleeper-0", "--wait=false"])?;
    stage
        .until("the status to tell of the missing node", || async {
            Ok((stage.cluster("sleeper").await?.status.unwrap_or_default().ready_replicas == 0).then_some(()))
        })
        .await?;
    ensure!(
        stateful_set(stage, NAMESPACE, "sleeper").await?.metadata.generation == before,
        "it was written while paused"
    );
    patch("sleeper", &json!({"spec": {"paused": false}}))?;
    stage.at_rest("sleeper", 1).await?;
    ensure!(stateful_set(stage, NAMESPACE, "sleeper").await?.metadata.generation > before, "the change was lost");

    kubectl(&["-n", NAMESPACE, "scale", "chatcluster", "sleeper", "--replicas", "0"])?;
    stage.until("it to sleep", || async { Ok(stage.pods("sleeper").await?.is_empty().then_some(())) }).await?;
    kubectl(&["-n", NAMESPACE, "scale", "chatcluster", "sleeper", "--replicas", "1"])?;
    stage.at_rest("sleeper", 1).await?;
    party.converse().await?;
    let report = party.judge().await?;
    ensure!(report.is_clean(), "{report}");
    party.end().await;

    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "sleeper"])?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(stage.client.clone(), NAMESPACE);
    let gone = || async { Ok(claims.get_opt("data-sleeper-0").await?.is_none().then_some(())) };
    stage.until("the volume to go with its cluster", gone).await?;
    Ok(format!("nothing was written while it was paused; after its sleep: {report}"))
}

/// What does not go with its cluster.
struct Holder {
    cluster: &'static str,
    spec: Value,
    /// As kubectl takes it.
    resource: &'static str,
    /// As the status names it.
    named: &'static str,
}

/// A deletion that waits for what the cluster owns says for whom, and ends in time though one of these does not: of its own children, or of
/// those that it has another operator make.
pub(crate) async fn held_up(stage: &Stage) -> Result<String> {
    let child = Holder {
        cluster: "held",
        spec: json!({"updateStrategy": {"drainSeconds": 0}}),
        resource: "statefulset/held",
        named: "StatefulSet \"held\"",
    };
    let managed = Holder {
        cluster: "host",
        spec: json!({"replicas": 0, "postgres": {"managed": {}}, "rabbitmq": {"managed": {}}}),
        resource: "clusters.postgresql.cnpg.io/host-postgres",
        named: "Cluster \"host-postgres\"",
    };
    let (child, managed) = try_join(held_up_by(stage, child), held_up_by(stage, managed)).await?;
    let [child, managed] = [child, managed].map(|took| took.as_secs());
    Ok(format!("it was told who holds it up; gone after {child} s (its StatefulSet), {managed} s (its Postgres)"))
}

async fn held_up_by(stage: &Stage, Holder { cluster, spec, resource, named }: Holder) -> Result<Duration> {
    const HOLD: &str = "e2e.chatcluster.dev/hold";
    let of_ours = |arguments: &[&str]| kubectl(&[&["-n", NAMESPACE], arguments].concat());
    apply(&chat_cluster(cluster, spec))?;
    stage.until(resource, || async { Ok(of_ours(&["get", resource]).ok()) }).await?;
    if resource.starts_with("statefulset") {
        stage.at_rest(cluster, 1).await?;
    }
    let hold = |by: Value| {
        let patch = json!({"metadata": {"finalizers": by}}).to_string();
        of_ours(&["patch", resource, "--type=merge", "-p", &patch])
    };
    hold(json!([HOLD]))?;
    let began = Instant::now();
    of_ours(&["delete", "chatcluster", cluster, "--cascade=foreground", "--wait=false"])?;
    let is_told = || async {
        let told = stage.condition(cluster, "Progressing").await?;
        Ok(told.filter(|(_, now, why)| now == "Deleting" && why.contains(named) && why.contains(HOLD)))
    };
    stage.until(&format!("{cluster} to tell of its holder"), is_told).await?;
    stage.until("the pods to go", || async { Ok(stage.pods(cluster).await?.is_empty().then_some(())) }).await?;
    let clusters: Api<ChatCluster> = Api::namespaced(stage.client.clone(), NAMESPACE);
    let is_gone = || async { Ok(clusters.get_opt(cluster).await?.is_none().then_some(())) };
    stage.until(&format!("{cluster} to go"), is_gone).await?;
    let took = began.elapsed();
    // The drain and the margins of the pods, a minute, and what a busy machine adds.
    ensure!(took > Duration::from_secs(60), "{cluster} was not waited for: {took:?}");
    ensure!(took < Duration::from_secs(75 + 30), "{cluster} took {took:?}");
    let selector = format!("--field-selector=reason=DeletionHeldUp,involvedObject.name={cluster}");
    let event = of_ours(&["get", "events", &selector, "-o=jsonpath={.items[*].message}"])?;
    ensure!(event.contains(HOLD), "no Event tells who holds {cluster} up: {event:?}");
    let left = of_ours(&["get", resource, "-o=jsonpath={.metadata.deletionTimestamp}"])?;
    ensure!(!left.is_empty(), "{resource} does not go");
    hold(Value::Null)?;
    let is_rid_of = || async { Ok(of_ours(&["get", resource, "--ignore-not-found"])?.is_empty().then_some(())) };
    stage.until(&format!("{resource} to go"), is_rid_of).await?;
    Ok(took)
}

/// Orphans are taken up again, and their pods go on.
pub(crate) async fn orphans(stage: &Stage) -> Result<String> {
    let cluster = chat_cluster("parent", json!({"updateStrategy": {"drainSeconds": 0}}));
    apply(&cluster)?;
    stage.at_rest("parent", 1).await?;
    let pod = stage.pods("parent").await?.first().context("a pod")?.uid();
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "parent", "--cascade=orphan"])?;
    apply(&cluster)?;
    let uid = stage.cluster("parent").await?.uid();
    stage
        .until("the StatefulSet to have its new owner", || async {
            let owners = stateful_set(stage, NAMESPACE, "parent").await?.owner_references().to_vec();
            Ok(owners.iter().any(|owner| Some(&owner.uid) == uid.as_ref()).then_some(()))
        })
        .await?;
    stage.at_rest("parent", 1).await?;
    ensure!(stage.pods("parent").await?.first().context("a pod")?.uid() == pod, "the pod was restarted");
    // A key counts when the spec names it, not because it has the right name.
    let told = stage.condition("parent", "AuthConfigured").await?;
    ensure!(told.as_ref().is_some_and(|(_, reason, _)| reason == "SecretNotOwned"), "the key was taken up: {told:?}");
    patch("parent", &json!({"spec": {"auth": {"tokenSecret": {"name": "parent-auth", "key": "key"}}}}))?;
    stage
        .until("the key to be used", || async {
            let told = stage.condition("parent", "AuthConfigured").await?;
            Ok(told.filter(|(_, reason, _)| reason == "KeyUsable").map(drop))
        })
        .await?;
    stage.at_rest("parent", 1).await?;
    ensure!(stage.pods("parent").await?.first().context("a pod")?.uid() == pod, "naming the key restarted the pod");
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "parent"])?;
    kubectl(&["-n", NAMESPACE, "delete", "secret", "parent-auth", "--ignore-not-found"])?;
    Ok("the same pod runs under its new owner, with its key once that was named".into())
}

/// A name belongs to whoever had it first, and the same name in another namespace is another cluster.
pub(crate) async fn names(stage: &Stage) -> Result<String> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 7}]}});
    apply(&service)?;
    apply(&chat_cluster("mine", json!({"replicas": 0})))?;
    stage
        .until("the Service to be told of", || async {
            let told = stage.condition("mine", "Ready").await?;
            Ok(told
                .filter(|(_, _, message)| message.contains("Service \"mine\" exists and is not this cluster's"))
                .map(drop))
        })
        .await?;
    let selector = kubectl(&["-n", NAMESPACE, "get", "service", "mine", "-o=jsonpath={.spec.selector}"])?;
    ensure!(selector == r#"{"app":"mine"}"#, "somebody else's Service was changed: {selector}");
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster/mine", "service/mine"])?;

    for namespace in [NAMESPACE, OTHER_NAMESPACE] {
        let mut twin = chat_cluster("twin", json!({"replicas": 0}));
        twin["metadata"]["namespace"] = json!(namespace);
        apply(&twin)?;
        stateful_set(stage, namespace, "twin").await?;
    }
    kubectl(&["-n", OTHER_NAMESPACE, "delete", "chatcluster", "twin"])?;
    let other: Api<StatefulSet> = Api::namespaced(stage.client.clone(), OTHER_NAMESPACE);
    stage.until("the twin to go", || async { Ok(other.get_opt("twin").await?.is_none().then_some(())) }).await?;
    let left = stateful_set(stage, NAMESPACE, "twin").await?;
    ensure!(left.metadata.deletion_timestamp.is_none(), "the wrong twin went");
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "twin"])?;
    Ok("a taken name was told of and left alone; twins of two namespaces live apart".into())
}

/// A field of the future that is stored is still there after a reconcile.
pub(crate) async fn future_fields(stage: &Stage) -> Result<String> {
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let open = json!([{"op": "add", "path": format!("{spec}/x-kubernetes-preserve-unknown-fields"), "value": true}]);
    let crd = "chatclusters.chatcluster.dev";
    kubectl(&["patch", "customresourcedefinition", crd, "--type=json", "-p", &open.to_string()])?;
    let field = || kubectl(&["-n", NAMESPACE, "get", "chatcluster", "newer", "-o=jsonpath={.spec.fromTheFuture}"]);
    stage
        .until("a field of the future to be stored", || async {
            apply(&chat_cluster("newer", json!({"replicas": 0, "fromTheFuture": {"a": [1]}})))?;
            Ok((field()? == r#"{"a":[1]}"#).then_some(()))
        })
        .await?;
    stateful_set(stage, NAMESPACE, "newer").await?;
    patch("newer", &restarted("1"))?;
    stage
        .until("the change to be reconciled", || async {
            let cluster = stage.cluster("newer").await?;
            let observed = cluster.status.unwrap_or_default().observed_generation;
            Ok((observed == cluster.metadata.generation).then_some(()))
        })
        .await?;
    ensure!(field()? == r#"{"a":[1]}"#, "the field is {:?}", field()?);
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "newer"])?;
    stage.install(&[])?;
    Ok("a field that this version does not know survived".into())
}

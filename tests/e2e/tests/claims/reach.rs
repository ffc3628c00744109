//! How far the operator reaches: all namespaces, and machines that are dead.

use anyhow::{Context, Result, ensure};
use daemon::{Process, Signal};
use e2e::stage::{BOUND, NAMESPACE, OTHER_NAMESPACE, Stage, apply, chat_cluster, kubectl};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;

/// A namespace of which the release was never told.
const FAR: &str = "chatcluster-e2e-far";

/// The values with which the operator watches everything.
const EVERYWHERE: &str = "watchNamespaces=null";

/// An operator of all namespaces serves a cluster wherever it is, and restarts nothing for having become one.
pub(crate) async fn everywhere(stage: &Stage) -> Result<String> {
    let others = kubectl(&[
        "get",
        "chatclusters",
        "--all-namespaces",
        "--no-headers",
        "-o=custom-columns=:.metadata.namespace",
    ])?;
    if let Some(other) = others.split_whitespace().find(|name| ![NAMESPACE, OTHER_NAMESPACE, FAR].contains(name)) {
        return Ok(format!("not looked at: the clusters of {other} are another operator's"));
    }
    stage.bound().await?;
    let before = uids(stage).await?;
    stage.install(&[EVERYWHERE])?;
    apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FAR}}))?;
    let mut far = chat_cluster("far", json!({"updateStrategy": {"drainSeconds": 0}}));
    far["metadata"]["namespace"] = json!(FAR);
    apply(&far)?;
    kubectl(&["-n", FAR, "wait", "chatcluster/far", "--for=condition=Ready", "--timeout=120s"])?;
    kubectl(&["delete", "namespace", FAR, "--timeout=120s"])?;
    stage.install(&[])?;
    ensure!(uids(stage).await? == before, "a wider reach restarted pods");
    Ok(format!("{FAR} was served, and {} pods elsewhere are as they were", before.len()))
}

/// A pod of a machine that does not answer any more is made again elsewhere, once its grace is over, though nobody says that it has ended.
pub(crate) async fn dead_machine(stage: &Stage) -> Result<String> {
    let kubelets = Process::all_with_arguments(|arguments| {
        arguments.first().is_some_and(|program| program.rsplit('/').next() == Some("kubelet"))
    });
    let [kubelet] = kubelets.as_slice() else {
        return Ok(format!("not looked at: {} kubelets run on this machine, not one", kubelets.len()));
    };
    stage.install(&[EVERYWHERE])?;
    stage.bound().await?;
    let doomed = stage.pods(BOUND).await?.first().context("a pod")?.name_any();
    let before = uids(stage).await?;
    kubelet.signal(Signal::STOP)?;
    let replaced = replaced(stage, &doomed, &before).await;
    // Whatever was seen, the machine comes back.
    kubelet.signal(Signal::CONT)?;
    replaced?;
    stage.at_rest(BOUND, 3).await?;
    stage.install(&[])?;
    Ok(format!("{doomed} was made again while its machine was silent, and the cluster is at rest now that it is back"))
}

/// Waits until the machine counts as dead, and until the pod that is then deleted has given way to another.
async fn replaced(stage: &Stage, doomed: &str, before: &[String]) -> Result<()> {
    let machines: Api<Node> = Api::all(stage.client.clone());
    let is_silent = |machine: &Node| {
        let conditions = machine.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.filter(|condition| condition.type_ == "Ready").all(|condition| condition.status != "True")
    };
    stage
        .until("the machine to count as dead", || async {
            let machines = machines.list(&ListParams::default()).await?;
            Ok(machines.items.iter().all(is_silent).then_some(()))
        })
        .await?;
    kubectl(&["-n", NAMESPACE, "delete", "pod", doomed, "--wait=false"])?;
    stage
        .until("the pod to be made again", || async {
            let pods = stage.pods(BOUND).await?;
            let made = pods.iter().find(|pod| pod.name_any() == doomed).and_then(ResourceExt::uid);
            Ok(made.filter(|uid| !before.contains(uid)).map(drop))
        })
        .await
}

/// The ids of the bound cluster's pods: a pod that is made again has another.
pub(crate) async fn uids(stage: &Stage) -> Result<Vec<String>> {
    let mut uids: Vec<String> = stage.pods(BOUND).await?.iter().filter_map(ResourceExt::uid).collect();
    uids.sort_unstable();
    Ok(uids)
}

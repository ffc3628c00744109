//! What stays as it is, what comes back, and what is left in the end.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use e2e::stage::{BOUND, NAMESPACE, OPERATOR_NAMESPACE, OTHER_NAMESPACE, RELEASE, Stage, kubectl, run};
use serde_json::Value;

/// The kinds of a cluster's children.
const CHILDREN: &str = "statefulsets,services,configmaps,serviceaccounts,poddisruptionbudgets,secrets";

/// Name and resource version of each child.
fn children() -> Result<BTreeMap<String, String>> {
    let selector = format!("app.kubernetes.io/instance={BOUND}");
    let list: Value =
        serde_json::from_str(&kubectl(&["-n", NAMESPACE, "get", CHILDREN, "-l", &selector, "-o", "json"])?)?;
    let children = list["items"].as_array().into_iter().flatten().map(|child| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            format!("{}/{}", text(&child["kind"]), text(&child["metadata"]["name"])),
            text(&child["metadata"]["resourceVersion"]),
        )
    });
    Ok(children.collect())
}

/// Whatever of the children is deleted is made again.
pub(crate) async fn deleted_children(stage: &Stage) -> Result<String> {
    let before: Vec<String> = children()?.into_keys().collect();
    ensure!(before.len() == 7, "the children are {before:?}");
    for child in &before {
        kubectl(&["-n", NAMESPACE, "delete", child])?;
        stage
            .until(&format!("{child} to come back"), || async { Ok(children()?.contains_key(child).then_some(())) })
            .await?;
        stage.at_rest(BOUND, 3).await?;
    }
    Ok(format!("{} came back", before.join(", ")))
}

/// A steady state writes nothing.
pub(crate) async fn idle(stage: &Stage) -> Result<String> {
    const MINUTE: Duration = Duration::from_secs(60);
    stage.at_rest(BOUND, 3).await?;
    let before = children()?;
    let resource = kubectl(&["-n", NAMESPACE, "get", "chatcluster", BOUND, "-o", "json"])?;
    let mut resource: Value = serde_json::from_str(&resource)?;
    if let Some(object) = resource.as_object_mut() {
        object.remove("status");
    }
    let metadata = serde_json::json!({"name": BOUND, "namespace": NAMESPACE});
    resource["metadata"] = metadata;
    for _ in 0..2 {
        e2e::stage::apply(&resource)?;
    }
    let writes_before = writes()?;
    tokio::time::sleep(MINUTE).await;
    let after = children()?;
    ensure!(before == after, "children changed: {before:?} {after:?}");
    let written = writes()? - writes_before;
    ensure!(written == 0, "{written} writes in an idle minute");
    Ok(format!("no write in {} s, and {} children as they were", MINUTE.as_secs(), after.len()))
}

/// The operator's writes so far, without those to its Lease: from the API server's audit log, or else from the operator's metrics.
fn writes() -> Result<u64> {
    let Some(log) = std::env::var_os("CHATCLUSTER_AUDIT_LOG") else { return writes_by_metrics() };
    let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:");
    let is_write = |line: &&str| {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { return false };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let verb = text(&entry["verb"]);
        text(&entry["user"]["username"]).starts_with(&user)
            && ["create", "update", "patch", "delete", "deletecollection"].contains(&verb.as_str())
            && entry["objectRef"]["resource"] != "leases"
    };
    Ok(std::fs::read_to_string(log)?.lines().filter(is_write).count() as u64)
}

fn writes_by_metrics() -> Result<u64> {
    let pods = kubectl(&["-n", OPERATOR_NAMESPACE, "get", "pods", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{}:8080/proxy/metrics", pods.trim());
    let metrics = kubectl(&["get", "--raw", &path])?;
    let written = metrics
        .lines()
        .filter(|line| line.starts_with("chatcluster_api_writes_total") && !line.contains("leases"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(written.sum::<f64>() as u64)
}

/// The chart and the clusters leave nothing behind but the CRD.
pub(crate) async fn uninstall(stage: &Stage) -> Result<String> {
    kubectl(&["-n", NAMESPACE, "delete", "chatclusters", "--all"])?;
    let kinds = format!("{CHILDREN},pods,controllerrevisions,endpointslices");
    stage
        .until("the children to be gone", || async {
            let left = kubectl(&[
                "-n",
                NAMESPACE,
                "get",
                &kinds,
                "-l",
                "app.kubernetes.io/managed-by=chatcluster-operator",
                "-o",
                "name",
            ])?;
            Ok(left.trim().is_empty().then_some(()))
        })
        .await?;
    run(std::process::Command::new("helm").args(["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait"]))?;
    let selector = format!("app.kubernetes.io/instance={RELEASE}");
    let everything = "deployments,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings";
    let left = kubectl(&["get", everything, "--all-namespaces", "-l", &selector, "-o", "name"])?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    kubectl(&["get", "customresourcedefinition", "chatclusters.chatcluster.dev"])?;
    for namespace in [NAMESPACE, OTHER_NAMESPACE, OPERATOR_NAMESPACE] {
        kubectl(&["delete", "namespace", namespace, "--wait=false"])?;
    }
    Ok("only the CRD is left".into())
}

//! The controllers: which pods there are at which revision, and what StatefulSet and EndpointSlices tell, after each step of a rollout.
//!
//! No pod ever runs: on the real side the test is the kubelet of a machine that does not exist.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::side::{LOOK, LOOKS_MAX, NAMESPACE, Side};

const SETS: &str = "/apis/apps/v1/namespaces/chatcluster-conformance/statefulsets";

/// A machine that is only an object: pods are bound to it, and nobody runs them. Its name is also a label.
const MACHINE: &str = "chatcluster-conformance";

/// Replicas, start, partition and template of each step. The last two slide back to the template that was there before.
const STEPS: [(i32, i32, i32, i32); 11] = [
    (2, 0, 2, 1),
    (2, 0, 2, 2),
    (3, 0, 2, 2),
    (2, 1, 1, 2),
    (3, 1, 1, 2),
    (2, 2, 0, 2),
    (2, 2, 2, 2),
    (4, 2, 4, 2),
    (4, 2, 0, 3),
    (4, 2, 4, 3),
    (1, 2, 1, 2),
];

fn set((replicas, start, partition, template): (i32, i32, i32, i32)) -> Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web", "labels": labels}, "spec": {
        "replicas": replicas, "serviceName": "web", "podManagementPolicy": "Parallel", "selector": {"matchLabels": labels},
        "ordinals": {"start": start}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
        "template": {"metadata": {"labels": labels, "annotations": {"template": template.to_string()}}, "spec": {
            "nodeSelector": {MACHINE: "yes"}, "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "none:1"}],
        }},
    }})
}

/// Leads both through all steps.
pub(crate) async fn alike() -> Result<String, String> {
    let (mut model, mut real) = (Side::model(), Side::real().await?);
    let labels = json!({"app": "web"});
    let service =
        json!({"metadata": {"name": "web", "labels": labels}, "spec": {"selector": labels, "ports": [{"port": 80}]}});
    let services = format!("/api/v1/namespaces/{NAMESPACE}/services");
    let room = json!({"cpu": "4", "memory": "4Gi", "pods": "50"});
    // The taint keeps away the pods of whatever else runs on the cluster meanwhile.
    let taint = json!({"key": MACHINE, "effect": "NoSchedule"});
    let machine = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": MACHINE, "labels": {MACHINE: "yes"}},
        "spec": {"taints": [taint]},
        "status": {"capacity": room, "allocatable": room}});
    real.send("create", "/api/v1/nodes", &machine).await?;
    let led = lead(&mut model, &mut real, &service, &services).await;
    real.send("delete", &format!("/api/v1/nodes/{MACHINE}"), &json!({})).await?;
    real.send("delete", &format!("/api/v1/namespaces/{NAMESPACE}"), &json!({})).await?;
    led.map(|()| format!("{} steps of a StatefulSet were taken alike", STEPS.len()))
}

async fn lead(model: &mut Side, real: &mut Side, service: &Value, services: &str) -> Result<(), String> {
    for side in [&mut *model, &mut *real] {
        side.send("create", services, service).await?;
    }
    for (number, step) in STEPS.into_iter().enumerate() {
        for side in [&mut *model, &mut *real] {
            let path = format!("{SETS}/web?fieldManager=conformance&force=true");
            let (code, answer) = side.send("apply", &path, &set(step)).await?;
            if code > 201 {
                return Err(format!("step {number}: {code} {answer}"));
            }
        }
        let expected = rest(model, false, None).await?;
        let seen = rest(real, true, Some(&expected)).await?;
        if seen != expected {
            return Err(format!("step {number} {step:?}:\n  model {expected}\n  real  {seen}"));
        }
    }
    Ok(())
}

/// What is there when nothing moves any more, or when it is as expected.
async fn rest(side: &mut Side, is_real: bool, expected: Option<&Value>) -> Result<Value, String> {
    let mut last = Value::Null;
    let mut same = 0;
    for _ in 0..LOOKS_MAX {
        let seen = look(side, is_real).await?;
        same = if seen == last { same + 1 } else { 0 };
        last = seen;
        // Longer than the model's kubelet needs for anything.
        if expected.is_some_and(|expected| *expected == last) || (expected.is_none() && same > 15) {
            break;
        }
        sleep(LOOK).await;
    }
    Ok(last)
}

async fn look(side: &mut Side, is_real: bool) -> Result<Value, String> {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let (_, list) = side.send("get", &format!("{pods}?labelSelector=app%3Dweb"), &Value::Null).await?;
    let (_, set) = side.send("get", &format!("{SETS}/web"), &Value::Null).await?;
    let mut found = BTreeMap::new();
    for (number, pod) in list["items"].as_array().into_iter().flatten().enumerate() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        if is_real && pod["status"]["phase"] != "Running" {
            let address = format!("10.1.2.{}", number + 1);
            let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}});
            side.send("merge", &format!("{pods}/{name}/status?fieldManager=kubelet"), &status).await?;
        }
        let leaving = pod["metadata"]["deletionTimestamp"].is_string();
        found.insert(
            name.to_owned(),
            json!({"template": pod["metadata"]["annotations"]["template"], "leaving": leaving}),
        );
    }
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices");
    let (_, slices) =
        side.send("get", &format!("{slices}?labelSelector=kubernetes.io%2Fservice-name%3Dweb"), &Value::Null).await?;
    let endpoints = slices["items"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let ready: BTreeSet<&str> = ready.filter_map(|endpoint| endpoint["targetRef"]["name"].as_str()).collect();
    let status = &set["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    Ok(json!({
        "pods": found, "endpoints": ready, "replicas": number("replicas"), "ready": number("readyReplicas"),
        "updated": number("updatedReplicas"), "complete": status["currentRevision"] == status["updateRevision"],
        "fresh": status["observedGeneration"] == set["metadata"]["generation"],
    }))
}

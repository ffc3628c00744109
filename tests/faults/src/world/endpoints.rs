//! The controller of EndpointSlices: which pods a Service leads to.

use serde_json::{Value, json};

use crate::api::{Server, store::Who};

/// Makes the slice of every Service be as its pods are.
pub(super) fn sync(server: &Server) {
    let services: Vec<_> = server.store().list("services", None).cloned().collect();
    // For a Service that is deleted nothing is made, or it would be a race with the garbage collector.
    for service in services.iter().filter(|service| service["metadata"]["deletionTimestamp"].is_null()) {
        let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let slice = format!("{name}-slice");
        if service["spec"]["selector"].as_object().is_none_or(|selector| selector.is_empty()) {
            continue;
        }
        let mut labels = service["metadata"]["labels"].clone();
        labels["kubernetes.io/service-name"] = json!(name);
        labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
        let pods: Vec<_> = server.store().list("pods", Some(&namespace)).cloned().collect();
        let endpoints: Vec<Value> =
            pods.iter().filter(|pod| selects(service, pod)).filter_map(|pod| endpoint(service, pod)).collect();
        let owner = json!({
            "apiVersion": "v1", "kind": "Service", "name": name, "uid": text("uid"), "controller": true, "blockOwnerDeletion": true,
        });
        let wanted = json!({
            "metadata": {"labels": labels, "ownerReferences": [owner]},
            "addressType": "IPv4", "endpoints": endpoints, "ports": service["spec"]["ports"],
        });
        let there = server.get("endpointslices", &namespace, &slice);
        if there.is_some_and(|there| {
            there["endpoints"] == wanted["endpoints"] && there["metadata"]["labels"] == wanted["metadata"]["labels"]
        }) {
            continue;
        }
        // A Service that has gone in between takes its slice with it.
        drop(server.put(Who::Kubernetes, "endpointslices", &namespace, &slice, wanted));
    }
}

/// Whether a Service's selector takes a pod.
pub(crate) fn selects(service: &Value, pod: &Value) -> bool {
    let selector = service["spec"]["selector"].as_object();
    selector.is_some_and(|selector| selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value))
}

fn endpoint(service: &Value, pod: &Value) -> Option<Value> {
    let address = pod["status"]["podIP"].as_str()?;
    let leaving = pod["metadata"]["deletionTimestamp"].is_string();
    let serving = pod["status"]["conditions"][0]["status"] == "True";
    let ready = service["spec"]["publishNotReadyAddresses"] == true || (serving && !leaving);
    let metadata = &pod["metadata"];
    Some(json!({
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": leaving},
        "targetRef": {"kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
    }))
}

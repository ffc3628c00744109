//! What the API server refuses of each kind: fields that cannot change, and for the custom resource its schema.

use serde_json::Value;

use super::{refusal::Refusal, schema};

/// Fields of a StatefulSet's spec that can change (`pkg/apis/apps/validation` of Kubernetes 1.36).
const STATEFUL_SET_MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// Checks a new object, or one that takes the place of `live`.
///
/// # Errors
/// 422, naming the field.
pub(super) fn check(plural: &str, live: Option<&Value>, object: &Value) -> Result<(), Refusal> {
    match (plural, live) {
        ("chatclusters", _) => match schema::violations(schema::of_chat_cluster(), object).first() {
            Some(violation) => Err(Refusal::invalid(violation.clone())),
            None => Ok(()),
        },
        ("statefulsets", _) if !selects_its_pods(object) => {
            Err(Refusal::invalid("spec.template.metadata.labels: `selector` does not match template `labels`"))
        }
        ("statefulsets", Some(live)) => {
            let fixed = |object: &Value| {
                let mut spec = object["spec"].clone();
                if let Some(map) = spec.as_object_mut() {
                    map.retain(|name, _| !STATEFUL_SET_MUTABLE.contains(&name.as_str()));
                }
                spec
            };
            if fixed(live) == fixed(object) {
                return Ok(());
            }
            Err(Refusal::invalid(
                "spec: Forbidden: updates to statefulset spec for fields other than these are forbidden",
            ))
        }
        ("configmaps" | "secrets", Some(live)) if live["immutable"] == true => {
            if live["data"] == object["data"] && object["immutable"] == true {
                return Ok(());
            }
            Err(Refusal::invalid("data: Forbidden: field is immutable when `immutable` is set"))
        }
        ("services", Some(live)) if live["spec"]["clusterIP"] != object["spec"]["clusterIP"] => {
            Err(Refusal::invalid("spec.clusterIPs[0]: Invalid value: may not change once set"))
        }
        _ => Ok(()),
    }
}

fn selects_its_pods(set: &Value) -> bool {
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let wanted = set["spec"]["selector"]["matchLabels"].as_object();
    wanted.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value))
}

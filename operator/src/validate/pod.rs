//! What of the pods the API server would not take, though the schema of a `ChatCluster` does: it refuses the child then, with an answer that
//! names no field of the user's.

use std::collections::{BTreeMap, BTreeSet};

use crds::chatcluster::{ChatClusterSpec, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Invalid;
use crate::same::quantity;

pub(super) fn check(spec: &ChatClusterSpec) -> Result<(), Invalid> {
    if let Some(storage) = &spec.storage {
        let size = &storage.size.0;
        is_quantity(size).map_err(|reason| Invalid { field: "spec.storage.size", reason })?;
    }
    let Some(Pod { resources, env, image_pull_secrets, topology_spread_constraints, .. }) = &spec.pod else {
        return Ok(());
    };
    let resources =
        resources.iter().flat_map(|resources| [("requests", &resources.requests), ("limits", &resources.limits)]);
    for (kind, amounts) in resources {
        for (resource, Quantity(amount)) in amounts.iter().flat_map(BTreeMap::iter) {
            is_quantity(amount).map_err(|reason| {
                let reason = format!("{kind}.{resource}: {reason}");
                Invalid { field: "spec.pod.resources", reason }
            })?;
        }
    }
    once("spec.pod.env", env.iter().map(|env| env.name.clone()))?;
    once("spec.pod.imagePullSecrets", image_pull_secrets.iter().map(|secret| secret.name.clone()))?;
    let spread = topology_spread_constraints.iter();
    let spread = spread.map(|spread| format!("{} with {}", spread.topology_key, spread.when_unsatisfiable));
    once("spec.pod.topologySpreadConstraints", spread)
}

fn is_quantity(text: &str) -> Result<(), String> {
    match quantity(&text.into()) {
        Some(number) if number >= 0.0 => Ok(()),
        _ => Err(format!(
            "{text:?} is no quantity: write a number with a suffix that Kubernetes knows, such as 512Mi or 100m"
        )),
    }
}

/// Nothing may be there twice: the API server finds items of these lists by it.
fn once(field: &'static str, keys: impl Iterator<Item = String>) -> Result<(), Invalid> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key.clone()) {
            return Err(Invalid { field, reason: format!("{key:?} is there twice: remove one") });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn refused(spec: Value, expected: &str) {
        let spec: ChatClusterSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(check(&spec).map_err(|invalid| invalid.to_string()), Err(expected.to_owned()));
    }

    #[test]
    fn what_is_no_quantity_is_named() {
        let told = "is no quantity: write a number with a suffix that Kubernetes knows, such as 512Mi or 100m";
        refused(json!({"storage": {"size": "10GB"}}), &format!("spec.storage.size: \"10GB\" {told}"));
        refused(
            json!({"pod": {"resources": {"limits": {"memory": "512Mb"}}}}),
            &format!("spec.pod.resources: limits.memory: \"512Mb\" {told}"),
        );
        refused(
            json!({"pod": {"resources": {"requests": {"cpu": "-1"}}}}),
            &format!("spec.pod.resources: requests.cpu: \"-1\" {told}"),
        );
        for good in ["1", "1.5", "100m", "512Mi", "1e3", "2E"] {
            let amount = json!({"storage": {"size": good}, "pod": {"resources": {"limits": {"memory": good}}}});
            assert!(check(&serde_json::from_value(amount).unwrap()).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_there_twice_is_named() {
        let env = json!({"name": "A", "value": "1"});
        refused(json!({"pod": {"env": [env, {"name": "B"}, env]}}), "spec.pod.env: \"A\" is there twice: remove one");
        let secret = json!({"name": "pull"});
        refused(
            json!({"pod": {"imagePullSecrets": [secret, secret]}}),
            "spec.pod.imagePullSecrets: \"pull\" is there twice: remove one",
        );
        let spread = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
        refused(
            json!({"pod": {"topologySpreadConstraints": [spread, spread]}}),
            "spec.pod.topologySpreadConstraints: \"zone with DoNotSchedule\" is there twice: remove one",
        );
    }
}

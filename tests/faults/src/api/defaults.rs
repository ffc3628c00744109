//! What the API server fills in, as far as clients here could trip over it.

use serde_json::{Map, Value, json};

use super::schema;

/// Fills in the defaults of a kind.
pub(super) fn fill(plural: &str, object: &mut Value) {
    match plural {
        "chatclusters" => schema::prune_and_fill(schema::of_chat_cluster(), object),
        "services" => service(object),
        "statefulsets" => {
            let spec = &mut object["spec"];
            or(spec, "replicas", json!(1));
            or(spec, "revisionHistoryLimit", json!(10));
            or(spec, "podManagementPolicy", json!("OrderedReady"));
            or(spec, "updateStrategy", json!({"type": "RollingUpdate"}));
            or(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
            or(&mut spec["updateStrategy"]["rollingUpdate"], "partition", json!(0));
            or(spec, "persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
            pod(&mut spec["template"]["spec"]);
            or(object, "status", json!({"replicas": 0, "availableReplicas": 0}));
        }
        "pods" => {
            pod(&mut object["spec"]);
            or(object, "status", json!({"phase": "Pending", "qosClass": "Burstable"}));
        }
        "secrets" => or(object, "type", json!("Opaque")),
        _ => {}
    }
}

/// Sets a field that is absent.
fn or(object: &mut Value, name: &str, default: Value) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if object[name].is_null() {
        object[name] = default;
    }
}

fn service(object: &mut Value) {
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let number = u32::from_str_radix(uid.rsplit('-').next().unwrap_or_default(), 16).unwrap_or(0);
    let spec = &mut object["spec"];
    or(spec, "type", json!("ClusterIP"));
    or(spec, "sessionAffinity", json!("None"));
    or(spec, "internalTrafficPolicy", json!("Cluster"));
    or(spec, "clusterIP", json!(format!("10.96.{}.{}", number / 250 % 250, number % 250 + 1)));
    or(spec, "clusterIPs", json!([spec["clusterIP"]]));
    or(spec, "ipFamilies", json!(["IPv4"]));
    or(spec, "ipFamilyPolicy", json!("SingleStack"));
    let outside = matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer"));
    if outside {
        or(spec, "externalTrafficPolicy", json!("Cluster"));
    } else if let Some(spec) = spec.as_object_mut() {
        spec.remove("externalTrafficPolicy");
    }
    for (index, port) in spec["ports"].as_array_mut().into_iter().flatten().enumerate() {
        or(port, "protocol", json!("TCP"));
        or(port, "targetPort", port["port"].clone());
        if outside {
            or(port, "nodePort", json!(30_000 + number % 1_000 * 2 + u32::try_from(index).unwrap_or(0)));
        } else if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
    or(object, "status", json!({"loadBalancer": {}}));
}

fn pod(spec: &mut Value) {
    or(spec, "restartPolicy", json!("Always"));
    or(spec, "dnsPolicy", json!("ClusterFirst"));
    or(spec, "schedulerName", json!("default-scheduler"));
    or(spec, "terminationGracePeriodSeconds", json!(30));
    or(spec, "securityContext", json!({}));
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        or(spec, "serviceAccount", account);
    }
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        or(container, "terminationMessagePath", json!("/dev/termination-log"));
        or(container, "terminationMessagePolicy", json!("File"));
        or(container, "resources", json!({}));
        let image = container["image"].as_str().unwrap_or_default();
        let is_latest = !image.rsplit('/').next().unwrap_or_default().contains(':') || image.ends_with(":latest");
        or(container, "imagePullPolicy", json!(if is_latest { "Always" } else { "IfNotPresent" }));
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            if container[probe].is_object() {
                or(&mut container[probe], "successThreshold", json!(1));
            }
        }
        for env in container["env"].as_array_mut().into_iter().flatten() {
            // An empty value is left out, as encoding/json does.
            if env["value"] == ""
                && let Some(env) = env.as_object_mut()
            {
                env.remove("value");
            }
        }
        for list in ["requests", "limits"] {
            for quantity in container["resources"][list].as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
                canonical(quantity);
            }
        }
        if let Some(container) = container.as_object_mut() {
            container.retain(|_, value| !value.is_null());
        }
    }
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        for source in ["secret", "configMap"] {
            if volume[source].is_object() {
                or(&mut volume[source], "defaultMode", json!(420));
            }
        }
        if let Some(volume) = volume.as_object_mut() {
            volume.retain(|_, value| !value.is_null());
        }
    }
    for term in spec["topologySpreadConstraints"].as_array_mut().into_iter().flatten() {
        or(term, "nodeAffinityPolicy", Value::Null);
        if let Some(term) = term.as_object_mut() {
            term.retain(|_, value| !value.is_null());
        }
    }
}

/// The canonical form of the quantities that are common: whole units of 1024 as the larger unit, a thousandth as `m`.
fn canonical(quantity: &mut Value) {
    const UNITS: [&str; 5] = ["Ki", "Mi", "Gi", "Ti", "Pi"];
    let Some(text) = quantity.as_str() else { return };
    for pair in UNITS.windows(2) {
        if let Some(number) = text.strip_suffix(pair[0]).and_then(|number| number.parse::<u64>().ok())
            && number > 0
            && number % 1024 == 0
        {
            *quantity = json!(format!("{}{}", number / 1024, pair[1]));
            return canonical(quantity);
        }
    }
    if let Ok(number) = text.parse::<f64>()
        && number.fract() != 0.0
    {
        *quantity = json!(format!("{}m", (number * 1000.0).round()));
    }
}

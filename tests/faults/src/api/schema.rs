//! The structural schema of the custom resource: pruning, defaults and validation, without CEL
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>).

use std::sync::OnceLock;

use crds::chatcluster::definition;
use serde_json::{Map, Value};

/// `openAPIV3Schema` of the served version of `ChatCluster`.
pub fn of_chat_cluster() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let crd = serde_json::to_value(definition()).unwrap_or_default();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    })
}

/// Removes what the schema does not know, and fills in its defaults. The top level is the API server's own.
pub fn prune_and_fill(schema: &Value, object: &mut Value) {
    for field in ["spec", "status"] {
        let schema = &schema["properties"][field];
        if let (Some(value), true) = (object.get_mut(field), schema.is_object()) {
            settle(schema, value);
        }
    }
}

fn settle(schema: &Value, value: &mut Value) {
    let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let properties = schema["properties"].as_object();
    match value {
        Value::Object(map) => {
            if let Some(properties) = properties {
                map.retain(|name, _| keeps || properties.contains_key(name));
                map.retain(|name, value| !value.is_null() || properties[name]["nullable"] == true);
                for (name, schema) in properties {
                    if let (false, Some(default)) = (map.contains_key(name), schema.get("default")) {
                        map.insert(name.clone(), default.clone());
                    }
                    if let Some(value) = map.get_mut(name) {
                        settle(schema, value);
                    }
                }
            } else if schema["additionalProperties"].is_object() {
                map.values_mut().for_each(|value| settle(&schema["additionalProperties"], value));
            } else if !keeps {
                *map = Map::new();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| settle(&schema["items"], value)),
        _ => {}
    }
}

/// What breaks the schema, each as `field: reason`.
pub fn violations(schema: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["spec", "status"] {
        if let Some(value) = object.get(field) {
            judge(&schema["properties"][field], field, value, &mut found);
        }
    }
    found
}

fn judge(schema: &Value, path: &str, value: &Value, found: &mut Vec<String>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let mut bad = |reason: String| found.push(format!("{path}: {reason}"));
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ if schema["x-kubernetes-int-or-string"] == true => value.is_string() || value.is_i64(),
        _ => true,
    };
    if !fits {
        return bad(format!("{value} is no {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|options| !options.contains(value)) {
        bad(format!("Unsupported value: {value}"));
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|minimum| number < minimum) {
            bad(format!("{value} should be greater than or equal to {}", schema["minimum"]));
        }
        if schema["maximum"].as_f64().is_some_and(|maximum| number > maximum) {
            bad(format!("{value} should be less than or equal to {}", schema["maximum"]));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        let short = schema["minLength"].as_u64().is_some_and(|least| length < least);
        if short || schema["maxLength"].as_u64().is_some_and(|most| length > most) {
            bad(format!("a text of {length} characters is too short or too long"));
        }
    }
    if let Some(list) = value.as_array() {
        if schema["maxItems"].as_u64().is_some_and(|most| list.len() as u64 > most) {
            bad(format!("{} items are too many", list.len()));
        }
        for (index, item) in list.iter().enumerate() {
            judge(&schema["items"], &format!("{path}[{index}]"), item, found);
        }
    }
    if let Some(map) = value.as_object() {
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(required) {
                found.push(format!("{path}.{required}: Required value"));
            }
        }
        for (name, value) in map {
            let inner = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
            if inner.is_object() {
                judge(inner, &format!("{path}.{name}"), value, found);
            }
        }
    }
}

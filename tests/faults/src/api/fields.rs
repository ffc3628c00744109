//! Who owns which field (<https://kubernetes.io/docs/reference/using-api/server-side-apply/>).
//!
//! A path is a list of steps in the notation of `FieldsV1`: `f:name` for a field, `k:{...}` for the item of a list that is found by
//! keys, `v:...` for a scalar in a set. A path that ends with `.` stands for the item itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::kinds::{Merge, merge};

/// A path of steps.
pub type Path = Vec<String>;

/// Fields by their paths.
pub type Fields = BTreeSet<Path>;

/// Managers of one object, and what they own.
pub type Managers = BTreeMap<Manager, Fields>;

/// Somebody who writes: by name, by operation (`Apply` or `Update`) and by subresource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// The name.
    pub name: String,
    /// Whether it applies.
    pub applies: bool,
    /// The subresource; empty for the object itself.
    pub subresource: String,
}

/// Metadata that the server keeps, and nobody owns.
const SERVERS: [&str; 9] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "name",
    "namespace",
];

/// The step to an item of a keyed list.
pub fn key_step(keys: &[&str], item: &Value) -> String {
    let found: Map<String, Value> =
        keys.iter().filter_map(|key| Some(((*key).to_owned(), item.get(*key)?.clone()))).collect();
    format!("k:{}", Value::Object(found))
}

/// The leaves of an object with their values.
pub fn leaves(plural: &str, object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    let Some(map) = object.as_object() else { return found };
    for (name, value) in map.iter().filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind")) {
        if name == "metadata" {
            let own: Map<String, Value> = value
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| !SERVERS.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            if !own.is_empty() {
                walk(plural, "", "metadata", &Value::Object(own), &mut vec!["f:metadata".into()], &mut found);
            }
        } else {
            walk(plural, "", name, value, &mut vec![format!("f:{name}")], &mut found);
        }
    }
    found
}

fn walk(plural: &str, parent: &str, name: &str, value: &Value, path: &mut Path, found: &mut BTreeMap<Path, Value>) {
    let how = merge(plural, parent, name);
    match (value, how) {
        (Value::Object(map), Merge::Fields) if !map.is_empty() => {
            for (field, value) in map {
                path.push(format!("f:{field}"));
                walk(plural, name, field, value, path, found);
                path.pop();
            }
        }
        (Value::Array(list), Merge::Keyed(keys)) if !list.is_empty() => {
            for item in list {
                path.push(key_step(keys, item));
                path.push(".".into());
                found.insert(path.clone(), Value::Null);
                path.pop();
                for (field, value) in item.as_object().into_iter().flatten() {
                    path.push(format!("f:{field}"));
                    walk(plural, name, field, value, path, found);
                    path.pop();
                }
                path.pop();
            }
        }
        (Value::Array(list), Merge::Set) if !list.is_empty() => {
            for item in list {
                path.push(format!("v:{item}"));
                found.insert(path.clone(), Value::Null);
                path.pop();
            }
        }
        (value, _) => {
            found.insert(path.clone(), value.clone());
        }
    }
}

/// Removes what a path leads to. A map that becomes empty by it goes too, as the API server leaves it out.
pub fn remove(plural: &str, object: &mut Value, path: &[String]) {
    step(plural, "", Merge::Fields, object, path);
}

/// `how` is how the value in the field `name` is merged.
fn step(plural: &str, name: &str, how: Merge, value: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    match (value, how) {
        (Value::Object(map), _) => {
            let Some(field) = first.strip_prefix("f:") else { return };
            if rest.is_empty() {
                map.remove(field);
            } else if let Some(inner) = map.get_mut(field) {
                step(plural, field, merge(plural, name, field), inner, rest);
                let is_empty =
                    inner.as_object().is_some_and(Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty);
                if is_empty && !name.is_empty() {
                    map.remove(field);
                }
            }
        }
        (Value::Array(list), Merge::Keyed(keys)) if rest == ["."] => list.retain(|item| key_step(keys, item) != *first),
        (Value::Array(list), Merge::Keyed(keys)) => {
            if let Some(item) = list.iter_mut().find(|item| key_step(keys, item) == *first) {
                step(plural, name, Merge::Fields, item, rest);
            }
        }
        (Value::Array(list), _) => list.retain(|item| format!("v:{item}") != *first),
        _ => {}
    }
}

/// `managedFields` as clients see them.
pub fn managed_fields(managers: &Managers, api_version: &str, time: &str) -> Value {
    let entry = |(manager, fields): (&Manager, &Fields)| {
        let mut entry = json!({
            "apiVersion": api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": tree(fields),
            "manager": manager.name,
            "operation": if manager.applies { "Apply" } else { "Update" },
            "time": time,
        });
        if !manager.subresource.is_empty() {
            entry["subresource"] = json!(manager.subresource);
        }
        entry
    };
    managers.iter().filter(|(_, fields)| !fields.is_empty()).map(entry).collect()
}

/// The nested form of `FieldsV1`.
fn tree(fields: &Fields) -> Value {
    let mut root = Map::new();
    for path in fields {
        let mut here = &mut root;
        for step in path {
            let next = here.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(next) = next else { break };
            here = next;
        }
    }
    Value::Object(root)
}

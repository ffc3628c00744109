//! The verbs, on the store: what is read, what is written, and what is refused.

use serde_json::{Value, json};

use super::{
    Answer,
    call::{Call, Verb},
    defaults,
    fields::Manager,
    merge,
    refusal::Refusal,
    rules,
    store::{Key, Store, Who},
};
use crate::clock;

/// The finalizer of an object that waits for those that block its deletion.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// Name of a manager that gave none.
const UNNAMED: &str = "unknown";

/// Does what is asked. Watches are no matter of a moment, and are served elsewhere.
///
/// # Errors
/// Refusals, as the API server's.
pub(super) fn serve(store: &mut Store, call: &Call, who: Who) -> Answer {
    match call.verb {
        Verb::Get => {
            let found = store.value(call.kind.plural, namespace(call), &call.name);
            let found = found.ok_or_else(|| Refusal::not_found(call.kind.plural, &call.name))?;
            Ok((200, shown(call, &found)))
        }
        Verb::List | Verb::Watch => Ok((200, list(store, call))),
        Verb::Create => create(store, call, who),
        Verb::Replace | Verb::Merge => update(store, call, who),
        Verb::Apply => apply(store, call, who),
        Verb::Delete => delete(store, call, who),
    }
}

fn namespace(call: &Call) -> &str {
    call.namespace.as_deref().unwrap_or_default()
}

fn key(call: &Call, name: &str) -> Key {
    (call.kind.plural, namespace(call).to_owned(), name.to_owned())
}

fn manager(call: &Call, applies: bool) -> Manager {
    let name = call.parameter("fieldManager").unwrap_or(UNNAMED).to_owned();
    Manager { name, applies, subresource: call.subresource.clone() }
}

fn list(store: &Store, call: &Call) -> Value {
    let found = store.list(call.kind.plural, call.namespace.as_deref()).filter(|object| call.selects(object));
    let items: Vec<Value> = found.map(|object| listed(call, object)).collect();
    let (kind, api_version) = match call.metadata_only {
        true => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        false => (format!("{}List", call.kind.kind), call.kind.api_version()),
    };
    let version = store.version().to_string();
    json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": version}, "items": items})
}

/// An item of a list: but for metadata alone, Kubernetes' own kinds leave out what the list tells already.
fn listed(call: &Call, object: &Value) -> Value {
    let mut item = shown(call, object);
    let tells = call.metadata_only || call.kind.group == crds::chatcluster::GROUP;
    if let Some(map) = item.as_object_mut().filter(|_| !tells) {
        map.retain(|name, _| !matches!(name.as_str(), "kind" | "apiVersion"));
    }
    item
}

/// An object, or its metadata when only that was asked for.
pub(super) fn shown(call: &Call, object: &Value) -> Value {
    match call.metadata_only {
        true => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        }),
        false => object.clone(),
    }
}

fn create(store: &mut Store, call: &Call, who: Who) -> Answer {
    let mut object = call.body.clone();
    if let (None, Some(prefix)) = (object["metadata"]["name"].as_str(), object["metadata"]["generateName"].as_str()) {
        object["metadata"]["name"] = json!(format!("{prefix}{:05x}", store.version()));
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Refusal::invalid("metadata.name: Required value"));
    }
    if object["metadata"]["resourceVersion"].is_string() {
        let message = "resourceVersion should not be set on objects to be created".into();
        return Err(Refusal { code: 500, reason: "", message });
    }
    born(store, call, &mut object, &name)?;
    if store.get(call.kind.plural, namespace(call), &name).is_some() {
        return Err(Refusal::already_exists(call.kind.plural, &name));
    }
    let mut managers = Default::default();
    merge::take_over(call.kind.plural, &Value::Null, &object, &mut managers, &manager(call, false));
    let value = store.put(key(call, &name), object, managers, who);
    Ok((201, (*value).clone()))
}

/// Gives a new object what the server gives it.
fn born(store: &mut Store, call: &Call, object: &mut Value, name: &str) -> Result<(), Refusal> {
    object["kind"] = json!(call.kind.kind);
    object["apiVersion"] = json!(call.kind.api_version());
    if call.kind.has_status
        && let Some(object) = object.as_object_mut()
    {
        object.remove("status");
    }
    let uid = store.new_uid();
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(name);
    if let Some(namespace) = &call.namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata["uid"] = json!(uid);
    metadata["creationTimestamp"] = json!(clock::text());
    if call.kind.has_generation {
        metadata["generation"] = json!(1);
    }
    defaults::fill(call.kind.plural, object);
    rules::check(call.kind.plural, None, object)
}

fn update(store: &mut Store, call: &Call, who: Who) -> Answer {
    let Some(stored) = store.get(call.kind.plural, namespace(call), &call.name).cloned() else {
        return Err(Refusal::not_found(call.kind.plural, &call.name));
    };
    let mut object = match call.verb {
        Verb::Merge => {
            let mut merged = (*stored.value).clone();
            merge::merge_patch(&mut merged, &call.body);
            merged
        }
        _ => call.body.clone(),
    };
    precondition(call, &object, &stored.value)?;
    settle(call, &stored.value, &mut object)?;
    if object == *stored.value {
        return Ok((200, object));
    }
    let mut managers = stored.managers;
    merge::take_over(call.kind.plural, &stored.value, &object, &mut managers, &manager(call, false));
    write(store, call, object, managers, who)
}

fn apply(store: &mut Store, call: &Call, who: Who) -> Answer {
    let Some(_) = call.parameter("fieldManager") else {
        return Err(Refusal::invalid("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value"));
    };
    let manager = manager(call, true);
    let force = call.parameter("force") == Some("true");
    let Some(stored) = store.get(call.kind.plural, namespace(call), &call.name).cloned() else {
        if !call.subresource.is_empty() {
            return Err(Refusal::not_found(call.kind.plural, &call.name));
        }
        // A version in an apply is no precondition on something that is not there: the real server creates it too.
        let mut managers = Default::default();
        let applied = merge::apply(
            call.kind.plural,
            &Value::Object(Default::default()),
            &mut managers,
            &manager,
            &call.body,
            true,
        );
        let mut object = applied.map_err(Refusal::conflict)?;
        born(store, call, &mut object, &call.name)?;
        let value = store.put(key(call, &call.name), object, managers, who);
        return Ok((201, (*value).clone()));
    };
    precondition(call, &call.body, &stored.value)?;
    let mut managers = stored.managers;
    let mut body = call.body.clone();
    scope(call, &Value::Null, &mut body);
    let mut object = merge::apply(call.kind.plural, &stored.value, &mut managers, &manager, &body, force)
        .map_err(Refusal::conflict)?;
    settle(call, &stored.value, &mut object)?;
    write(store, call, object, managers, who)
}

/// A version or a uid in what is sent is a precondition.
fn precondition(call: &Call, sent: &Value, live: &Value) -> Result<(), Refusal> {
    for field in ["resourceVersion", "uid"] {
        if let Some(wanted) = sent["metadata"][field].as_str().filter(|wanted| !wanted.is_empty())
            && live["metadata"][field] != wanted
        {
            let name = &call.name;
            return Err(Refusal::conflict(format!(
                "Operation cannot be fulfilled on {} {name:?}: the object has been modified; please apply your changes to the latest version and try again",
                call.kind.plural
            )));
        }
    }
    Ok(())
}

/// `status` is written by its own path alone, and the rest by the other.
fn scope(call: &Call, live: &Value, object: &mut Value) {
    if !call.kind.has_status {
        return;
    }
    let Some(map) = object.as_object_mut() else { return };
    if call.subresource == "status" {
        let status = map.remove("status");
        let mut kept = live.clone();
        match (status, kept.as_object_mut()) {
            (Some(status), Some(kept)) => drop(kept.insert("status".into(), status)),
            (Some(status), None) => kept = json!({"status": status}),
            (None, Some(kept)) => drop(kept.remove("status")),
            (None, None) => {}
        }
        *object = kept;
    } else {
        match live.get("status") {
            Some(status) => drop(map.insert("status".into(), status.clone())),
            None => drop(map.remove("status")),
        }
    }
}

/// Restores what a client cannot change, counts the generation, and checks the rules of the kind.
fn settle(call: &Call, live: &Value, object: &mut Value) -> Result<(), Refusal> {
    scope(call, live, object);
    for field in ["apiVersion", "kind"] {
        object[field] = live[field].clone();
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match live["metadata"].get(field) {
            Some(value) => object["metadata"][field] = value.clone(),
            None => drop(object["metadata"].as_object_mut().and_then(|metadata| metadata.remove(field))),
        }
    }
    defaults::fill(call.kind.plural, object);
    rules::check(call.kind.plural, Some(live), object)?;
    if call.kind.has_generation && object.get("spec") != live.get("spec") {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + 1);
    }
    Ok(())
}

fn write(store: &mut Store, call: &Call, object: Value, managers: super::fields::Managers, who: Who) -> Answer {
    let key = key(call, &call.name);
    // The last finalizer is gone, so the object goes.
    let has = |name: &str| object["metadata"][name].as_array().is_some_and(|list| !list.is_empty());
    if object["metadata"]["deletionTimestamp"].is_string() && call.kind.plural != "pods" && !has("finalizers") {
        store.remove(&key, who);
        return Ok((200, object));
    }
    let value = store.put(key, object, managers, who);
    Ok((200, (*value).clone()))
}

fn delete(store: &mut Store, call: &Call, who: Who) -> Answer {
    let key = key(call, &call.name);
    let Some(stored) = store.get(call.kind.plural, namespace(call), &call.name).cloned() else {
        return Err(Refusal::not_found(call.kind.plural, &call.name));
    };
    for field in ["uid", "resourceVersion"] {
        if let Some(wanted) = call.body["preconditions"][field].as_str()
            && stored.value["metadata"][field] != wanted
        {
            return Err(Refusal::conflict(format!("the {field} in the precondition is not that of the object")));
        }
    }
    let policy = call.body["propagationPolicy"].as_str().or(call.parameter("propagationPolicy"));
    if policy == Some("Orphan") {
        let uid = stored.value["metadata"]["uid"].clone();
        orphan(store, &uid);
    }
    let graceful = call.kind.plural == "pods" && call.body["gracePeriodSeconds"] != 0;
    let mut finalizers = stored.value["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if policy == Some("Foreground") && !finalizers.contains(&json!(FOREGROUND)) {
        finalizers.push(json!(FOREGROUND));
    }
    if !graceful && finalizers.is_empty() {
        store.remove(&key, who);
        return Ok((200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})));
    }
    let mut object = (*stored.value).clone();
    if !finalizers.is_empty() {
        object["metadata"]["finalizers"] = json!(finalizers);
    }
    if object["metadata"]["deletionTimestamp"].is_null() {
        let grace = call.body["gracePeriodSeconds"].as_i64();
        let grace = grace.or(object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0);
        object["metadata"]["deletionTimestamp"] = json!(clock::text());
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    }
    let value = store.put(key, object, stored.managers, who);
    Ok((200, (*value).clone()))
}

/// Takes the references to an owner that leaves its dependents behind.
fn orphan(store: &mut Store, uid: &Value) {
    let owned = |object: &Value| {
        object["metadata"]["ownerReferences"]
            .as_array()
            .is_some_and(|list| list.iter().any(|owner| owner["uid"] == *uid))
    };
    let dependents: Vec<_> = store
        .all()
        .filter(|(_, stored)| owned(&stored.value))
        .map(|(key, stored)| (key.clone(), stored.clone()))
        .collect();
    for (key, stored) in dependents {
        let mut object = (*stored.value).clone();
        if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
            owners.retain(|owner| owner["uid"] != *uid);
        }
        store.put(key, object, stored.managers, Who::Kubernetes);
    }
}

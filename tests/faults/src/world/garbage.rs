//! The garbage collector: what nobody owns any more goes, and who waits for what it owns goes after it.
//!
//! After `pkg/controller/garbagecollector` of Kubernetes 1.36, for `Background` and `Foreground`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::api::{
    FOREGROUND, Server,
    call::Verb,
    store::{Key, Who},
};

/// One turn.
pub(super) fn collect(server: &Server) {
    let all: Vec<(Key, Arc<Value>)> =
        server.store().all().map(|(key, stored)| (key.clone(), stored.value.clone())).collect();
    let by_uid: BTreeMap<&str, &Value> =
        all.iter().filter_map(|(_, object)| Some((object["metadata"]["uid"].as_str()?, &**object))).collect();
    for ((plural, namespace, name), object) in &all {
        // It may be gone by another way.
        let write = |verb, body| drop(server.write(verb, Who::Kubernetes, plural, namespace, name, body));
        if waits(object) && !dependents(&all, object).any(|reference| reference["blockOwnerDeletion"] == true) {
            let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten();
            let others: Vec<&Value> = finalizers.filter(|finalizer| **finalizer != FOREGROUND).collect();
            write(Verb::Merge, json!({"metadata": {"finalizers": others}}));
            continue;
        }
        let owners = owners(object).map(|owner| by_uid.get(owner["uid"].as_str().unwrap_or_default()).copied());
        let owners: Vec<Option<&Value>> = owners.collect();
        let is_lost = !owners.is_empty() && owners.iter().all(|owner| owner.is_none_or(waits));
        if is_lost && object["metadata"]["deletionTimestamp"].is_null() {
            let is_awaited = owners.iter().any(Option::is_some) && dependents(&all, object).next().is_some();
            let policy = if is_awaited { "Foreground" } else { "Background" };
            write(Verb::Delete, json!({"propagationPolicy": policy}));
        }
    }
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

/// The references of others to an object.
fn dependents<'a>(all: &'a [(Key, Arc<Value>)], owner: &'a Value) -> impl Iterator<Item = &'a Value> {
    let uid = &owner["metadata"]["uid"];
    all.iter().flat_map(|(_, object)| owners(object)).filter(move |reference| reference["uid"] == *uid)
}

/// Whether an object is deleted in the foreground.
fn waits(object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array();
    object["metadata"]["deletionTimestamp"].is_string()
        && finalizers.is_some_and(|finalizers| finalizers.contains(&json!(FOREGROUND)))
}

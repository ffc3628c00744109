//! The garbage collector: what nobody owns any more goes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::{Server, call::Verb, store::Who};

/// Deletes every object whose owners are all gone.
pub(super) fn collect(server: &Server) {
    let lost: Vec<_> = {
        let store = server.store();
        let uids: BTreeSet<&str> =
            store.all().filter_map(|(_, stored)| stored.value["metadata"]["uid"].as_str()).collect();
        let is_lost = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array().filter(|owners| !owners.is_empty());
            let there = |owner: &Value| owner["uid"].as_str().is_some_and(|uid| uids.contains(uid));
            owners.is_some_and(|owners| !owners.iter().any(there)) && object["metadata"]["deletionTimestamp"].is_null()
        };
        store.all().filter(|(_, stored)| is_lost(&stored.value)).map(|(key, _)| key.clone()).collect()
    };
    for (plural, namespace, name) in lost {
        // It may be gone by another way.
        drop(server.write(Verb::Delete, Who::Kubernetes, plural, &namespace, &name, json!({})));
    }
}

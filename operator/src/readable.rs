//! A ChatCluster that this operator cannot read, which costs the others nothing. The schema refuses what cannot be read, so it comes of a
//! CRD of another version. Without this, one such object would end every list of all of them. Its children stay as they are, and its end
//! is seen to.

use crds::{ChatCluster, ChatClusterSpec};
use kube::{
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::watcher::Event,
};

/// The event, if what it tells of can be read, or is going.
pub fn readable(event: Event<DeserializeGuard<ChatCluster>>) -> Option<Event<ChatCluster>> {
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(DeserializeGuard(cluster)) => Event::InitApply(cluster.or_else(ending).ok()?),
        Event::Apply(DeserializeGuard(cluster)) => Event::Apply(cluster.or_else(ending).ok()?),
        Event::Delete(DeserializeGuard(cluster)) => Event::Delete(cluster.unwrap_or_else(without_spec)),
    })
}

fn without_spec(unreadable: InvalidObject) -> ChatCluster {
    let spec: ChatClusterSpec = serde_json::from_str("{}").expect("every field has a default");
    ChatCluster { metadata: unreadable.metadata, spec, status: None }
}

/// Of one that is being deleted nothing but the metadata matters. Any other is told of.
fn ending(unreadable: InvalidObject) -> Result<ChatCluster, ()> {
    let InvalidObject { metadata, error } = &unreadable;
    if metadata.deletion_timestamp.is_some() {
        return Ok(without_spec(unreadable));
    }
    let (cluster, namespace) = (metadata.name.as_deref(), metadata.namespace.as_deref());
    tracing::error!(cluster, namespace, %error, "a ChatCluster cannot be read, and is left alone: write what the CRD describes");
    Err(())
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    fn guarded(replicas: serde_json::Value, deleted: Option<&str>) -> DeserializeGuard<ChatCluster> {
        let metadata = json!({"name": "demo", "namespace": "chat", "deletionTimestamp": deleted});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"replicas": replicas}})).unwrap()
    }

    fn name(event: Option<Event<ChatCluster>>) -> Option<String> {
        match event? {
            Event::InitApply(cluster) | Event::Apply(cluster) | Event::Delete(cluster) => Some(cluster.name_any()),
            Event::Init | Event::InitDone => Some(String::new()),
        }
    }

    #[test]
    fn one_that_cannot_be_read_is_passed_over_until_it_is_gone() {
        let (good, bad) = (|| guarded(json!(3), None), || guarded(json!("three"), None));
        let going = || guarded(json!("three"), Some("2026-01-01T00:00:00Z"));
        for (event, expected) in [
            (Event::InitApply(good()), Some("demo")),
            (Event::InitApply(bad()), None),
            (Event::Apply(good()), Some("demo")),
            (Event::Apply(bad()), None),
            (Event::InitApply(going()), Some("demo")),
            (Event::Apply(going()), Some("demo")),
            (Event::Delete(good()), Some("demo")),
            (Event::Delete(bad()), Some("demo")),
            (Event::InitDone, Some("")),
        ] {
            assert_eq!(name(readable(event)).as_deref(), expected);
        }
    }
}

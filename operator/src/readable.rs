//! A ChatCluster that this operator cannot read, which costs the others nothing. The schema refuses what cannot be read, so it comes of a
//! CRD of another version. Without this, one such object would end every list of all of them.

use crds::{ChatCluster, ChatClusterSpec};
use kube::{
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::watcher::Event,
};

/// The event, if what it tells of can be read. Of one that cannot be read the last spec that could be stands.
pub fn readable(event: Event<DeserializeGuard<ChatCluster>>) -> Option<Event<ChatCluster>> {
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(DeserializeGuard(cluster)) => Event::InitApply(cluster.inspect_err(tell).ok()?),
        Event::Apply(DeserializeGuard(cluster)) => Event::Apply(cluster.inspect_err(tell).ok()?),
        // It is gone, whatever it was.
        Event::Delete(DeserializeGuard(cluster)) => Event::Delete(cluster.unwrap_or_else(without_spec)),
    })
}

fn without_spec(unreadable: InvalidObject) -> ChatCluster {
    let spec: ChatClusterSpec = serde_json::from_str("{}").expect("every field has a default");
    ChatCluster { metadata: unreadable.metadata, spec, status: None }
}

fn tell(unreadable: &InvalidObject) {
    let InvalidObject { metadata, error } = unreadable;
    let (cluster, namespace) = (metadata.name.as_deref(), metadata.namespace.as_deref());
    tracing::error!(cluster, namespace, %error, "a ChatCluster cannot be read, and is left as it is: write what the CRD describes");
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    fn guarded(replicas: serde_json::Value) -> DeserializeGuard<ChatCluster> {
        let cluster = json!({"metadata": {"name": "demo", "namespace": "chat"}, "spec": {"replicas": replicas}});
        serde_json::from_value(cluster).unwrap()
    }

    fn name(event: Option<Event<ChatCluster>>) -> Option<String> {
        match event? {
            Event::InitApply(cluster) | Event::Apply(cluster) | Event::Delete(cluster) => Some(cluster.name_any()),
            Event::Init | Event::InitDone => Some(String::new()),
        }
    }

    #[test]
    fn one_that_cannot_be_read_is_passed_over_until_it_is_gone() {
        let (good, bad) = (|| guarded(json!(3)), || guarded(json!("three")));
        for (event, expected) in [
            (Event::InitApply(good()), Some("demo")),
            (Event::InitApply(bad()), None),
            (Event::Apply(good()), Some("demo")),
            (Event::Apply(bad()), None),
            (Event::Delete(good()), Some("demo")),
            (Event::Delete(bad()), Some("demo")),
            (Event::InitDone, Some("")),
        ] {
            assert_eq!(name(readable(event)).as_deref(), expected);
        }
    }
}

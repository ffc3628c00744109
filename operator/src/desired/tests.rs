//! Shapes of the pod template stay what they were, and are taken when they may be.

use crds::{ChatCluster, ChatClusterSpec};
use k8s_openapi::{api::apps::v1::StatefulSet, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Choice, POD_TEMPLATE_VERSION, choose, stateful_set};
use crate::{
    bindings::{Bindings, Mount, Read, Sources},
    template,
    validate::Cluster,
};

/// Shapes that an operator was released with, and the hash of the templates that each makes of the same specs.
const RELEASED: [(i32, &str); 1] = [(1, "20d540aa8ecfe50b")];

fn resource(spec: Value) -> ChatCluster {
    ChatCluster::new("demo", serde_json::from_value::<ChatClusterSpec>(spec).unwrap())
}

fn bound() -> Value {
    json!({"replicas": 3, "postgres": {"secret": {"name": "pg"}}, "rabbitmq": {"secret": {"name": "mq"}}})
}

fn with(mut spec: Value, key: &str, value: Value) -> Value {
    spec[key] = value;
    spec
}

#[test]
fn a_released_shape_never_changes() {
    let mount = |secret: &str| Some(Mount { secret: secret.into(), keys: vec!["uri".into()], ca: None });
    let sources = Sources { postgres: mount("pg"), rabbitmq: mount("mq"), redis: None, hash: "hash".into() };
    let specs = [json!({}), json!({"storage": {"size": "1Gi"}}), bound()];
    for (shape, expected) in RELEASED {
        let templates = specs.iter().map(|spec| {
            let cluster = Cluster::new(&resource(spec.clone()), "chat-node:1").unwrap();
            let set = stateful_set::build(&cluster, &OwnerReference::default(), "config", &sources, shape);
            set.spec.unwrap().template
        });
        let hash = template::hash(&templates.collect::<Vec<_>>());
        assert_eq!(
            hash, expected,
            "an operator with this change would restart pods: give the new template a new number"
        );
    }
}

fn chosen(spec: Value, image: &str, live: Option<&StatefulSet>, newest: i32) -> Choice {
    let resource = resource(spec);
    let mut read = Read::default();
    for (secret, key, value) in
        [("pg", "uri", "postgres://h/d"), ("mq", "uri", "amqp://h"), ("demo-auth", "key", &*"k".repeat(32))]
    {
        read.secrets.insert(secret.into(), Some([(key.to_owned(), value.as_bytes().to_vec())].into()));
    }
    let cluster = Cluster::new(&resource, image).unwrap();
    let bindings = Bindings::resolve(&resource, &read);
    choose(&cluster, &OwnerReference::default(), &bindings, live, newest).unwrap()
}

#[test]
fn a_new_operator_leaves_the_pods_as_they_are_until_something_else_changes() {
    let old = chosen(bound(), "chat-node:1", None, 1);
    assert_eq!((old.shape, old.current, &*old.update), (1, false, ""));
    let live = Some(&old.stateful_set);
    let kept = chosen(bound(), "chat-node:2", live, POD_TEMPLATE_VERSION);
    assert_eq!((kept.shape, kept.current, &*kept.image), (1, true, "chat-node:1"));
    assert_eq!(
        kept.update,
        format!("image chat-node:2 (now chat-node:1), pod template {POD_TEMPLATE_VERSION} (now 1)")
    );
    let scaled = chosen(with(bound(), "replicas", json!(5)), "chat-node:2", live, POD_TEMPLATE_VERSION);
    assert!(scaled.current, "a scale is no reason to restart");
    let changed = with(bound(), "pod", json!({"annotations": {"a": "b"}}));
    let taken = chosen(changed, "chat-node:2", live, POD_TEMPLATE_VERSION);
    assert_eq!(
        (taken.shape, &*taken.image, taken.current, &*taken.update),
        (POD_TEMPLATE_VERSION, "chat-node:2", false, "")
    );
    let named = chosen(with(bound(), "image", json!("chat-node:3")), "chat-node:2", live, POD_TEMPLATE_VERSION);
    assert_eq!((named.shape, &*named.image), (POD_TEMPLATE_VERSION, "chat-node:3"));
}

#[test]
fn an_operator_that_is_held_at_an_older_shape_leaves_newer_pods_until_something_else_changes() {
    let new = chosen(bound(), "chat-node:1", None, POD_TEMPLATE_VERSION);
    let live = Some(&new.stateful_set);
    let kept = chosen(bound(), "chat-node:1", live, 1);
    let told = format!("pod template 1 (now {POD_TEMPLATE_VERSION})");
    assert_eq!((kept.shape, kept.current, kept.update), (POD_TEMPLATE_VERSION, true, told));
    let changed = chosen(with(bound(), "pod", json!({"annotations": {"a": "b"}})), "chat-node:1", live, 1);
    assert_eq!((changed.shape, changed.current), (1, false));
}

#[test]
fn what_cannot_be_read_keeps_what_the_pods_mount() {
    let cluster = resource(bound());
    let unreadable = Bindings::resolve(&cluster, &Read::default());
    for shape in 1..=POD_TEMPLATE_VERSION {
        let live = chosen(bound(), "chat-node:1", None, shape).stateful_set;
        let cluster = Cluster::new(&cluster, "chat-node:1").unwrap();
        let owner = OwnerReference::default();
        assert!(choose(&cluster, &owner, &unreadable, None, shape).is_none());
        let kept = choose(&cluster, &owner, &unreadable, Some(&live), POD_TEMPLATE_VERSION).unwrap();
        assert!(kept.current, "shape {shape} changed: {:?}", kept.stateful_set);
    }
}

#[test]
fn a_volume_goes_with_its_cluster_when_it_is_asked_to() {
    let policy = |storage: Value| {
        let set = chosen(json!({"storage": storage}), "chat-node:1", None, 1).stateful_set;
        set.spec.unwrap().persistent_volume_claim_retention_policy.and_then(|policy| policy.when_deleted)
    };
    assert_eq!(policy(json!({"size": "1Gi"})), None);
    assert_eq!(policy(json!({"size": "1Gi", "onDelete": "Delete"})).as_deref(), Some("Delete"));
}

#[test]
fn a_managed_cluster_is_owned_unless_it_is_to_stay() {
    let made = |spec: Value| {
        let cluster = Cluster::new(&resource(spec), "chat-node:1").unwrap();
        super::managed(&cluster, &OwnerReference { kind: "ChatCluster".into(), ..OwnerReference::default() })
    };
    let both = made(json!({"postgres": {"managed": {}}, "rabbitmq": {"managed": {"onDelete": "Retain"}}}));
    let names: Vec<_> = both.iter().map(|(_, object)| object.name_any()).collect();
    assert_eq!(names, ["demo-postgres", "demo-rabbitmq"]);
    let owned: Vec<_> = both.iter().map(|(_, object)| !object.owner_references().is_empty()).collect();
    assert_eq!(owned, [true, false]);
    let postgres = &both[0].1.data["spec"];
    assert_eq!(postgres["postgresql"]["synchronous"]["dataDurability"], "required");
    let single = made(json!({"postgres": {"managed": {"instances": 1}}, "rabbitmq": {"managed": {}}}));
    assert!(single[0].1.data["spec"]["postgresql"].get("synchronous").is_none(), "one instance would wait for ever");
    assert!(made(bound()).is_empty());
}

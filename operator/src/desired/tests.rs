//! Shapes of the pod template stay what they were, and are taken when they may be.

use std::collections::BTreeSet;

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

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";

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
    chosen_with(("unused", "key", "value"), spec, image, live, newest)
}

/// The same, with another entry of a Secret.
fn chosen_with(entry: (&str, &str, &str), spec: Value, image: &str, live: Option<&StatefulSet>, newest: i32) -> Choice {
    let resource = resource(spec);
    let mut read = Read::default();
    for (secret, key, value) in [
        ("pg", "uri", "postgres://h/d"),
        ("mq", "uri", "amqp://h"),
        ("demo-auth", "key", &*"k".repeat(32)),
        ("authority", "ca.crt", PEM),
        ("the-same", "ca.crt", PEM),
        ("another", "ca.crt", &*PEM.replace("MII", "MIJ")),
        entry,
    ] {
        let entries = read.secrets.entry(secret.into()).or_default().get_or_insert_default();
        entries.insert(key.to_owned(), value.as_bytes().to_vec());
    }
    let cluster = Cluster::new(&resource, image).unwrap();
    let bindings = Bindings::resolve(&resource, &read);
    choose(&cluster, &OwnerReference::default(), &bindings, live, newest).unwrap()
}

#[test]
fn a_new_operator_leaves_the_pods_as_they_are_until_something_else_changes() {
    let old = chosen(bound(), "chat-node:1", None, 1);
    assert_eq!((old.shape, old.current, &*old.update), (Some(1), false, ""));
    let live = Some(&old.stateful_set);
    let kept = chosen(bound(), "chat-node:2", live, POD_TEMPLATE_VERSION);
    assert_eq!((kept.shape, kept.current, &*kept.image), (Some(1), true, "chat-node:1"));
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
        (Some(POD_TEMPLATE_VERSION), "chat-node:2", false, "")
    );
    let named = chosen(with(bound(), "image", json!("chat-node:3")), "chat-node:2", live, POD_TEMPLATE_VERSION);
    assert_eq!((named.shape, &*named.image), (Some(POD_TEMPLATE_VERSION), "chat-node:3"));
}

#[test]
fn an_operator_that_is_held_at_an_older_shape_leaves_newer_pods_until_something_else_changes() {
    let new = chosen(bound(), "chat-node:1", None, POD_TEMPLATE_VERSION);
    let live = Some(&new.stateful_set);
    let kept = chosen(bound(), "chat-node:1", live, 1);
    let told = format!("pod template 1 (now {POD_TEMPLATE_VERSION})");
    assert_eq!((kept.shape, kept.current, kept.update), (Some(POD_TEMPLATE_VERSION), true, told));
    let changed = chosen(with(bound(), "pod", json!({"annotations": {"a": "b"}})), "chat-node:1", live, 1);
    assert_eq!((changed.shape, changed.current), (Some(1), false));
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
fn what_is_known_to_be_missing_is_not_rolled_out_to_nodes_that_run() {
    let read = |auth: &str| Read {
        secrets: [
            ("pg".to_owned(), Some([("uri".to_owned(), b"postgres://h/d".to_vec())].into())),
            ("mq".to_owned(), Some([("uri".to_owned(), b"amqp://h".to_vec())].into())),
            (auth.to_owned(), Some([("key".to_owned(), vec![b'k'; 32])].into())),
        ]
        .into(),
        ..Read::default()
    };
    let missing = [
        json!({"auth": {"tokenSecret": {"name": "typo"}}}),
        json!({"auth": {"keys": [{"id": "a", "algorithm": "HS256", "secret": {"name": "typo"}}]}}),
    ];
    let of_bound = [json!({"redis": {"secret": {"name": "typo"}}}), json!({"postgres": {"secret": {"name": "typo"}}})];
    let cases = missing.iter().map(|change| (json!({}), change));
    let of_bound = missing.iter().chain(&of_bound).map(|change| (bound(), change));
    for (before, change) in cases.chain(of_bound) {
        let live = chosen(before.clone(), "chat-node:1", None, POD_TEMPLATE_VERSION).stateful_set;
        let mut spec = with(before, "image", json!("chat-node:9"));
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let resource = resource(spec);
        let cluster = Cluster::new(&resource, "chat-node:2").unwrap();
        let bindings = Bindings::resolve(&resource, &read("demo-auth"));
        let owner = OwnerReference::default();
        let held = choose(&cluster, &owner, &bindings, Some(&live), POD_TEMPLATE_VERSION).unwrap();
        assert_eq!((held.current, held.spec_hash, &*held.image), (true, None, "chat-node:1"), "{change}");
        assert!(held.waits, "{change}");
        assert!(held.config_map.is_none() && template::has(&live, &held.stateful_set), "{change}");
        let found = Bindings::resolve(&resource, &read("typo"));
        let is_whole = found.sources(1).is_some();
        let taken = choose(&cluster, &owner, &found, Some(&live), POD_TEMPLATE_VERSION).unwrap();
        assert_eq!((taken.current, taken.waits), (!is_whole, !is_whole), "{change}");
    }
}

/// Most of it the schema refuses, of objects that are not older than its rules.
#[test]
fn what_the_nodes_refuse_of_their_file_is_not_rolled_out() {
    let jwks = |url: &str| json!({"url": url, "issuer": "i", "audience": "a"});
    for (spec, expected) in [
        (json!({"limits": {"webIdleSeconds": 25}}), "limits.pingSeconds: must be below"),
        (json!({"limits": {"queueFramesMax": 0}}), "limits.queueFramesMax: must be at least 1"),
        (json!({"auth": {"tokenSeconds": 900, "refreshSeconds": 60}}), "auth.refreshSeconds: must be"),
        (json!({"auth": {"jwks": jwks("login.example.org")}}), "auth.jwks.url: must begin with https://"),
        // These two the schema takes.
        (json!({"auth": {"jwks": jwks("https://login/the keys")}}), "auth.jwks.url: must be an address"),
        (json!({"traces": {"endpoint": "http://[::1"}}), "traces.endpoint: must be the collector's"),
        (json!({"traces": {"endpoint": "collector:4317"}}), "traces.endpoint: must be the collector's"),
    ] {
        let told = Cluster::new(&resource(spec), "chat-node:1").and_then(super::checked).unwrap_err().to_string();
        let expected = format!("spec: the nodes would not start with {expected}");
        assert!(told.contains(&expected), "{told:?} does not say {expected:?}");
    }
}

#[test]
fn a_spec_is_known_by_what_the_user_asks_for() {
    let old = chosen(bound(), "chat-node:1", None, 1);
    let new = chosen(bound(), "chat-node:2", None, POD_TEMPLATE_VERSION);
    assert_eq!(old.spec_hash, new.spec_hash, "a new operator makes no other spec of it");
    for change in [json!({"image": "chat-node:1"}), json!({"pod": {"annotations": {"a": "b"}}})] {
        let mut spec = bound();
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_ne!(chosen(spec, "chat-node:1", None, 1).spec_hash, old.spec_hash, "{change}");
    }
}

#[test]
fn a_spec_is_known_by_its_certificate_authorities_too() {
    let trusting = |secret: &str| {
        let ca = json!({"name": secret, "key": "ca.crt"});
        let spec = with(bound(), "postgres", json!({"secret": {"name": "pg"}, "ca": ca}));
        chosen(spec, "chat-node:1", None, 1).spec_hash.unwrap()
    };
    let without = chosen(bound(), "chat-node:1", None, 1).spec_hash.unwrap();
    let hashes = [without, trusting("authority"), trusting("the-same"), trusting("another")];
    let different: BTreeSet<_> = hashes.iter().collect();
    assert_eq!(different.len(), hashes.len(), "{hashes:?}");
    assert_eq!(trusting("authority"), hashes[1]);
}

#[test]
fn a_spec_is_not_known_by_keys_that_nobody_uses_but_still_by_the_hash_of_before() {
    let choice = |entry| chosen_with(entry, bound(), "chat-node:1", None, 1);
    let (plain, more) = (choice(("unused", "key", "value")), choice(("pg", "pgpass", "unused")));
    assert_eq!(more.spec_hash, plain.spec_hash);
    assert_ne!(choice(("pg", "uri", "postgres://h/other")).spec_hash, plain.spec_hash);
    // Where nothing unused is there, an operator of before knew it by the same.
    assert_eq!(plain.former_hash, None);
    assert!(more.former_hash.is_some_and(|former| Some(former) != more.spec_hash));
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

//! The four forms against what is found and what is not.

use std::sync::Arc;

use crds::ChatClusterSpec;
use serde_json::{Value, json};

use super::*;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";

fn cluster(postgres: Value) -> ChatCluster {
    let spec = json!({"postgres": postgres, "rabbitmq": {"secret": {"name": "mq"}}});
    ChatCluster::new("demo", serde_json::from_value::<ChatClusterSpec>(spec).unwrap())
}

fn object(data: Value) -> Found {
    let mut object = DynamicObject::new("x", &Foreign::postgres("x").resource());
    object.data = data;
    Found::Present(Arc::new(object))
}

fn entries(pairs: &[(&str, &str)]) -> SecretData {
    Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect())
}

/// What is read for a cluster whose bus and signing key are as they should be.
fn read(found: &[(Foreign, Found)], secrets: &[(&str, SecretData)]) -> Read {
    let mut read = Read { found: found.iter().cloned().collect(), ..Read::default() };
    read.secrets.insert("mq".into(), entries(&[("uri", "amqp://u:p@h")]));
    read.secrets.insert("demo-auth".into(), entries(&[("key", &"k".repeat(32))]));
    read.secrets.extend(secrets.iter().map(|(name, data)| ((*name).to_owned(), data.clone())));
    read
}

#[track_caller]
fn check(postgres: Value, read: &Read, reason: &str, words: &str) {
    let state = Bindings::resolve(&cluster(postgres), read).postgres.unwrap().state;
    assert_eq!((state.reason, state.bound), (reason, reason == "Bound"), "{}", state.message);
    assert!(state.message.contains(words), "{:?} does not say {words:?}", state.message);
}

#[test]
fn a_key_that_was_there_before_is_used_only_when_it_is_named() {
    let pg = ("pg", entries(&[("uri", "postgres://u:p@h/d")]));
    let mut read = read(&[], &[pg]);
    let mut cluster = cluster(json!({"secret": {"name": "pg"}}));
    assert_eq!(Bindings::resolve(&cluster, &read).token.reason, "KeyUsable");
    read.token_is_strange = true;
    let bindings = Bindings::resolve(&cluster, &read);
    assert_eq!((bindings.token.reason, bindings.token.bound), ("SecretNotOwned", false));
    assert!(
        bindings.token.message.contains("spec.auth.tokenSecret: {name: demo-auth, key: key}"),
        "{:?}",
        bindings.token
    );
    assert!(bindings.sources(2).is_none(), "no pod is made with it");
    let named = json!({"tokenSecret": {"name": "demo-auth", "key": "key"}});
    cluster.spec.auth = Some(serde_json::from_value(named).unwrap());
    read.token_is_strange = false;
    assert!(Bindings::resolve(&cluster, &read).sources(2).is_some());
}

#[test]
fn a_secret_tells_what_is_missing() {
    let form = || json!({"secret": {"name": "pg"}});
    check(form(), &read(&[], &[]), "SecretNotFound", "\"pg\" does not exist: create it");
    check(form(), &read(&[], &[("pg", entries(&[("host", "db")]))]), "KeyMissing", "\"username\"");
    check(form(), &read(&[], &[("pg", entries(&[("uri", "garbage")]))]), "Invalid", "\"uri\" is not a URL");
    check(form(), &read(&[], &[("pg", Some(BTreeMap::from([("uri".into(), vec![0xff])])))]), "Invalid", "UTF-8");
    check(form(), &read(&[], &[("pg", entries(&[("uri", "postgres://u:p@h/d")]))]), "Bound", "complete");
}

#[test]
fn a_known_cluster_is_found_with_its_secrets() {
    let form = || json!({"cluster": {"name": "db"}});
    let kind = || Foreign::postgres("db");
    check(form(), &read(&[], &[]), "Unknown", "tried again");
    check(form(), &read(&[(kind(), Found::NotInstalled)], &[]), "KindNotInstalled", "postgresql.cnpg.io/v1");
    check(form(), &read(&[(kind(), Found::Forbidden)], &[]), "Forbidden", "servicebinding.io/controller");
    check(form(), &read(&[(kind(), Found::Absent)], &[]), "ClusterNotFound", "\"db\"");
    let there = || (kind(), object(json!({})));
    check(form(), &read(&[there()], &[]), "SecretNotFound", "\"db-app\"");
    let app = || ("db-app", entries(&[("uri", "postgres://u:p@h/d"), ("pgpass", "x")]));
    check(form(), &read(&[there()], &[app()]), "SecretNotFound", "\"db-ca\"");
    check(form(), &read(&[there()], &[app(), ("db-ca", entries(&[("ca.key", "x")]))]), "KeyMissing", "postgres.ca");
    let full = read(&[there()], &[app(), ("db-ca", entries(&[("ca.crt", PEM), ("ca.key", "x")]))]);
    check(form(), &full, "Bound", "\"db-app\"");
    let sources = Bindings::resolve(&cluster(form()), &full).sources(2).unwrap();
    let ca = Some(("db-ca".to_owned(), "ca.crt".to_owned()));
    assert_eq!(sources.postgres, Some(Mount { secret: "db-app".into(), keys: vec!["uri".into()], ca }));
    let own = (kind(), object(json!({"status": {"certificates": {"serverCASecret": "mine"}}})));
    check(form(), &read(&[own], &[app()]), "SecretNotFound", "\"mine\"");
}

#[test]
fn a_provisioned_service_names_its_secret() {
    let form = || json!({"serviceBinding": {"apiVersion": "db.example/v1", "kind": "Database", "name": "d"}, "ca": {"name": "ca", "key": "x"}});
    let kind = || Foreign { api_version: "db.example/v1".into(), kind: "Database".into(), name: "d".into() };
    check(form(), &read(&[(kind(), Found::NotInstalled)], &[]), "KindNotInstalled", "Database of db.example/v1");
    check(form(), &read(&[(kind(), Found::NotNamespaced)], &[]), "Invalid", "no namespace");
    check(form(), &read(&[(kind(), object(json!({})))], &[]), "NotProvisioned", "status.binding.name");
    let bound = || (kind(), object(json!({"status": {"binding": {"name": "given"}}})));
    assert!(secrets(&cluster(form()), &BTreeMap::from([bound()])).contains("given"));
    let given = ("given", entries(&[("uri", "postgres://u:p@h/d")]));
    check(form(), &read(&[bound()], &[given.clone(), ("ca", entries(&[("x", "garbage")]))]), "Invalid", "PEM");
    check(form(), &read(&[bound()], &[given, ("ca", entries(&[("x", PEM)]))]), "Bound", "\"given\"");
}

#[test]
fn a_managed_cluster_is_looked_for_under_its_name() {
    let made = cluster(json!({"managed": {}}));
    assert_eq!(foreign(&made), [Foreign::postgres("demo-postgres")].into());
    let mut going = made.clone();
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    let ever = [Foreign::postgres("demo-postgres"), Foreign::rabbitmq("demo-rabbitmq")];
    assert_eq!(foreign(&going), ever.into(), "an earlier spec may have had it made");
    let waits = |spec: Value| {
        let found = object(json!({"spec": spec}));
        let app = ("demo-postgres-app", entries(&[("uri", "postgres://u:p@h/d")]));
        let ca = ("demo-postgres-ca", entries(&[("ca.crt", PEM)]));
        let read = read(&[(Foreign::postgres("demo-postgres"), found)], &[app, ca]);
        Bindings::resolve(&made, &read).postgres.unwrap().durability
    };
    let synchronous = json!({"instances": 3, "postgresql": {"synchronous": {"method": "any", "number": 1}}});
    assert_eq!(waits(synchronous.clone()), Durability::Synchronous);
    let mut preferred = synchronous;
    preferred["postgresql"]["synchronous"]["dataDurability"] = json!("preferred");
    assert_eq!(waits(preferred), Durability::Asynchronous);
    assert_eq!(waits(json!({"instances": 3})), Durability::Asynchronous);
    assert_eq!(waits(json!({"instances": 1})), Durability::Single);
}

#[test]
fn redis_is_bound_by_a_secret_beside_the_others() {
    let mut cluster = cluster(json!({"secret": {"name": "pg"}}));
    let pg = || ("pg", entries(&[("uri", "postgres://u:p@h/d")]));
    let resolve = |cluster: &ChatCluster, redis: &[(&str, SecretData)]| {
        let secrets: Vec<_> = redis.iter().cloned().chain([pg()]).collect();
        Bindings::resolve(cluster, &read(&[], &secrets))
    };
    let without = resolve(&cluster, &[]);
    assert!(without.redis.is_none() && without.sources(2).unwrap().redis.is_none());
    cluster.spec.redis =
        serde_json::from_value(json!({"secret": {"name": "rd"}, "ca": {"name": "ca", "key": "x"}})).unwrap();
    let named = secrets(&cluster, &BTreeMap::new());
    assert!(named.contains("rd") && named.contains("ca"), "{named:?}");
    let missing = resolve(&cluster, &[]);
    assert_eq!(missing.redis.as_ref().unwrap().state.reason, "SecretNotFound");
    assert!(missing.sources(2).is_none(), "no pod is made without it");
    let (plain, ca) = (("rd", entries(&[("uri", "redis://h/0")])), || ("ca", entries(&[("x", PEM)])));
    let state = resolve(&cluster, &[plain, ca()]).redis.unwrap().state;
    assert_eq!(state.reason, "Invalid");
    assert!(state.message.contains("write rediss://"), "{}", state.message);
    let bound = resolve(&cluster, &[("rd", entries(&[("host", "h"), ("password", "p")])), ca()]);
    let sources = bound.sources(2).unwrap();
    let keys = vec!["host".to_owned(), "password".to_owned()];
    assert_eq!(sources.redis, Some(Mount { secret: "rd".into(), keys, ca: Some(("ca".into(), "x".into())) }));
    assert_ne!(sources.hash, without.sources(2).unwrap().hash);
}

#[test]
fn only_what_is_used_counts() {
    let form = || cluster(json!({"secret": {"name": "pg"}}));
    let hash = |shape, pairs: &[(&str, &str)]| {
        Bindings::resolve(&form(), &read(&[], &[("pg", entries(pairs))])).sources(shape).unwrap().hash
    };
    let plain = [("uri", "postgres://u:p@h/d")];
    let note = [("uri", "postgres://u:p@h/d"), ("note", "x")];
    let other = [("uri", "postgres://u:b@h/d")];
    assert_eq!(hash(2, &plain), hash(2, &note), "an unrelated key rolls the pods");
    assert_ne!(hash(1, &plain), hash(1, &note), "in the first shape it did");
    assert_ne!(hash(2, &plain), hash(2, &other));
    let ca = |pem: &str| hash(2, &[plain[0], ("ca.crt", pem)]);
    assert_ne!(ca(PEM), ca(&PEM.replace("MII", "MIJ")));
}

#[test]
fn a_signing_key_is_long_enough_or_told() {
    let state = |data: SecretData| {
        let read = Read { secrets: BTreeMap::from([("demo-auth".into(), data)]), ..Read::default() };
        let bindings = Bindings::resolve(&ChatCluster::new("demo", ChatClusterSpec::default()), &read);
        (bindings.token.reason, bindings.sources(2).is_some())
    };
    assert_eq!(state(None), ("SecretNotFound", false));
    assert_eq!(state(entries(&[("other", "x")])), ("KeyMissing", false));
    assert_eq!(state(entries(&[("key", &"k".repeat(31))])), ("KeyTooShort", false));
    assert_eq!(state(entries(&[("key", &"k".repeat(32))])), ("KeyUsable", true));
}

#[test]
fn a_further_key_or_authority_that_is_missing_is_told_and_another_content_is_another_revision() {
    let spec = serde_json::json!({"auth": {
        "keys": [{"algorithm": "ES256", "secret": {"name": "theirs", "key": "pem"}}],
        "jwks": {"url": "https://login/keys", "issuer": "i", "audience": "a", "ca": {"name": "ca"}},
    }});
    let cluster = ChatCluster::new("demo", serde_json::from_value(spec).unwrap());
    assert_eq!(secrets(&cluster, &BTreeMap::new()), ["ca", "demo-auth", "theirs"].map(str::to_owned).into());
    let resolve = |found: &[(&str, SecretData)]| Bindings::resolve(&cluster, &read(&[], found));
    let own = || ("demo-auth", entries(&[("key", &"k".repeat(32))]));
    let (theirs, ca) = (|pem| ("theirs", entries(&[("pem", pem)])), ("ca", entries(&[("key", "c")])));
    let missing = resolve(&[own(), ca.clone()]);
    assert_eq!(missing.token.reason, "SecretNotFound");
    assert!(missing.token.message.contains("\"theirs\"") && missing.sources(2).is_none(), "{}", missing.token.message);
    let hash = |pem| resolve(&[own(), theirs(pem), ca.clone()]).sources(2).unwrap().hash;
    assert_ne!(hash("a"), hash("b"));
}

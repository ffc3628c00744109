//! docs/configuration.md says what the code does: every key and every field is there, with its default, and no other is.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::collections::BTreeMap;

use crds::NodeConfig;
use serde_yaml::Value;

const PAGE: &str = include_str!("../../docs/configuration.md");

/// Keys and defaults of the table under a heading.
fn table(heading: &str) -> BTreeMap<String, String> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (key, rest) = row.split_once("` | ")?;
        Some((key.to_owned(), rest.split('|').next()?.trim().to_owned()))
    })
    .collect()
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Mapping(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = key.as_str().unwrap();
                flatten(&if path.is_empty() { key.into() } else { format!("{path}.{key}") }, value, into);
            }
            return;
        }
        Value::Mapping(_) => "{}".into(),
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        other => serde_yaml::to_string(other).unwrap().trim().to_owned(),
    };
    into.insert(path.to_owned(), text);
}

#[test]
fn every_key_of_a_node_is_in_the_table_with_its_default() {
    let mut expected = BTreeMap::new();
    flatten("", &serde_yaml::to_value(NodeConfig::default()).unwrap(), &mut expected);
    // The other forms of store and bus, and what has no default.
    let other = [
        ("store.postgres.endpoint", ""),
        ("store.postgres.poolConnectionsMax", "10"),
        ("bus.rabbitmq.endpoint", ""),
        ("redis.endpoint", ""),
        ("auth.jwks.url", ""),
        ("auth.jwks.issuer", ""),
        ("auth.jwks.audience", ""),
        ("auth.jwks.userClaim", "sub"),
        ("auth.jwks.caFile", "browsers'"),
        ("traces.endpoint", ""),
        ("traces.sampleRatio", "0.01"),
    ];
    expected.extend(other.map(|(key, default)| (key.to_owned(), default.to_owned())));
    assert_eq!(table("A node's file"), expected);
}

#[cfg(feature = "kubernetes")]
#[test]
fn every_field_of_the_resource_is_in_the_table() {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;

    /// Fields whose inside is a reference of its own or is explained in one row.
    const WHOLE: [&str; 9] = [
        "postgres",
        "rabbitmq",
        "redis",
        "perAddress",
        "tokenSecret",
        "ca",
        "resources",
        "affinity",
        "topologySpreadConstraints",
    ];

    fn paths(path: &str, schema: &JSONSchemaProps, into: &mut Vec<String>) {
        match &schema.properties {
            Some(properties) if !properties.is_empty() && !WHOLE.iter().any(|whole| path.ends_with(whole)) => {
                for (name, schema) in properties {
                    paths(&format!("{path}.{name}"), schema, into);
                }
            }
            _ => into.push(path.to_owned()),
        }
    }

    let crd = crds::chatcluster::definition();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let mut expected = Vec::new();
    paths("spec", &schema.properties.as_ref().unwrap()["spec"], &mut expected);
    expected.sort();
    let fields: Vec<String> = table("ChatCluster").into_keys().collect();
    assert_eq!(fields, expected);
}

#[cfg(feature = "kubernetes")]
#[test]
fn every_format_of_the_schema_is_one_that_kubernetes_knows() {
    /// Those of `k8s.io/apiextensions-apiserver/pkg/apiserver/validation` that are used; the API server warns of any other.
    const KNOWN: [&str; 4] = ["int32", "int64", "double", "date-time"];
    let crd = serde_json::to_string(&crds::chatcluster::definition()).unwrap();
    let formats: Vec<&str> = crd.split(r#""format":""#).skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!formats.is_empty());
    assert!(formats.iter().all(|format| KNOWN.contains(format)), "{formats:?}");
}

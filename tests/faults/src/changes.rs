//! Changes of every field of the schema, made from the schema itself: each field is set, and set otherwise before that has come to rest.

use serde_json::{Value, json};

use crate::{
    api::schema,
    scenario::{DEMO, Scenario, Step, bound},
};

/// Fields whose change would make another cluster of it; the schema's own rules refuse these.
const FIXED: [&str; 3] = ["storage", "postgres", "rabbitmq"];

/// An object with required fields that every spec here has, so that its fields can be set one by one.
const COMPLETE: &str = "auth.tokenSecret";

/// Levels below which a field of Kubernetes' own types is set as a whole.
const LEVELS_MAX: usize = 3;

/// A field, and a valid value and another one.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name from the spec on, with dots.
    pub path: String,
    /// A value.
    pub value: Value,
    /// Another value; the same when there is only one.
    pub other: Value,
}

/// Every field of the spec that can change.
///
/// # Panics
/// When a field is of a type for which no value is known: teach [`sample`] one.
pub fn fields() -> Vec<Field> {
    let mut found = Vec::new();
    let spec = &schema::of_chat_cluster()["properties"]["spec"];
    for (name, schema) in spec["properties"].as_object().into_iter().flatten() {
        if !FIXED.contains(&name.as_str()) {
            walk(name, schema, 1, &mut found);
        }
    }
    found
}

fn walk(path: &str, schema: &Value, level: usize, found: &mut Vec<Field>) {
    match schema["properties"].as_object() {
        Some(properties) if level < LEVELS_MAX && (schema["required"].is_null() || path == COMPLETE) => {
            for (name, schema) in properties {
                walk(&format!("{path}.{name}"), schema, level + 1, found);
            }
        }
        _ => {
            let sample =
                |which| sample(path, schema, which).unwrap_or_else(|| panic!("no value is known for {path}: {schema}"));
            found.push(Field { path: path.to_owned(), value: sample(0), other: sample(1) });
        }
    }
}

/// Values that depend on what a field means.
fn by_meaning(path: &str, which: usize) -> Option<Value> {
    let two = |a: Value, b: Value| Some([a, b][which % 2].clone());
    match path {
        "paused" => two(json!(true), json!(false)),
        "replicas" => two(json!(3), json!(1)),
        "image" => two(json!("chat-node:2"), json!("registry.example/chat/node@sha256:ab")),
        "auth.tokenSecret.name" => two(json!("token-2"), json!("token")),
        "auth.tokenSecret.key" => two(json!("other"), json!("key")),
        // No shorter than the life of a token, which is a day.
        "auth.refreshSeconds" => two(json!(172_800), json!(86_400)),
        "auth.jwks.url" => two(json!("https://one.example/keys"), json!("https://two.example/keys")),
        "auth.keys[].secret" => two(json!({"name": "token-2", "key": "key"}), json!({"name": "token", "key": "other"})),
        "pod.imagePullPolicy" => two(json!("Always"), json!("Never")),
        "pod.resources" => two(json!({"limits": {"memory": "1024Mi"}}), json!({"requests": {"cpu": "0.5"}})),
        "pod.topologySpreadConstraints" => two(
            json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]),
            json!([{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
        ),
        "service.allowedOrigins" => two(json!(["https://chat.example.org"]), json!(["*"])),
        "service.trustedProxies" => two(json!(["10.0.0.0/8"]), json!(["192.168.0.0/16"])),
        "redis" => two(json!({"secret": {"name": "rd"}}), json!({"secret": {"name": "rd-2"}})),
        "traces" => two(
            json!({"endpoint": "http://collector:4318", "sampleRatio": 0.5}),
            json!({"endpoint": "https://collector.example"}),
        ),
        "updateStrategy.maxSurge" | "updateStrategy.maxUnavailable" => two(json!(1), json!("50%")),
        _ => None,
    }
}

/// A valid value of a schema.
fn sample(path: &str, schema: &Value, which: usize) -> Option<Value> {
    if let Some(value) = by_meaning(path, which) {
        return Some(value);
    }
    if let Some(options) = schema["enum"].as_array() {
        let options: Vec<_> = options.iter().filter(|option| !option.is_null()).collect();
        return options.get(which % options.len().max(1)).map(|option| (*option).clone());
    }
    if schema["pattern"].is_string() {
        return None;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return Some(json!(["1", "2"][which % 2]));
    }
    match schema["type"].as_str()? {
        "boolean" => Some(json!(which % 2 == 1)),
        "integer" | "number" => {
            let least = schema["minimum"].as_f64().unwrap_or(1.0);
            // A number that fits the type, as the bounds of the schema are written with a fraction.
            serde_json::from_str(&format!("{}", least.ceil() + 1.0 + f64::from(u8::try_from(which).unwrap_or(0)))).ok()
        }
        "string" => Some(json!(["one", "two"][which % 2])),
        "array" => Some(json!([sample(&format!("{path}[]"), &schema["items"], which)?])),
        "object" if schema["additionalProperties"].is_object() => {
            Some(json!({"example.org/x": sample(&format!("{path}.*"), &schema["additionalProperties"], which)?}))
        }
        "object" => {
            let properties = schema["properties"].as_object()?;
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let mut object = json!({});
            let wanted = properties.iter().filter(|(name, _)| required.is_empty() || required.contains(&json!(name)));
            for (name, schema) in wanted.take(if required.is_empty() { 1 } else { usize::MAX }) {
                object[name] = sample(&format!("{path}.{name}"), schema, which)?;
            }
            Some(object)
        }
        _ => None,
    }
}

fn set(spec: &Value, path: &str, value: &Value) -> Value {
    let mut spec = spec.clone();
    let mut here = &mut spec;
    for name in path.split('.') {
        here = &mut here[name];
    }
    *here = value.clone();
    spec
}

/// For each value of each field: a cluster that is made with it, and one that is changed to it. Both have to end alike.
pub fn twins() -> Vec<(Scenario, Scenario)> {
    let base = bound(1, "chat-node:1");
    let mut twins = Vec::new();
    for field in fields() {
        let want = Step::Want(DEMO, set(&base, &field.path, &field.other));
        let born = Scenario { name: format!("born:{}", field.path), steps: vec![want.clone(), Step::Settle] };
        let first = Step::Want(DEMO, set(&base, &field.path, &field.value));
        let steps = vec![Step::Want(DEMO, base.clone()), Step::Settle, first, Step::Pass(3), want, Step::Settle];
        twins.push((born, Scenario { name: format!("changed:{}", field.path), steps }));
    }
    twins
}

//! Whether an object that is there already is what is wanted.
//!
//! Owns the comparison that keeps a steady state silent: what the API server added (defaults, other managers' fields) is no
//! difference, what someone changed or removed is. It must never touch the network.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Keys below which strings are quantities: `1000m` is `1`.
const QUANTITIES: [&str; 4] = ["requests", "limits", "divisor", "sizeLimit"];

/// Whether every field of `wanted` is in `live` with the same value.
///
/// Lists of objects may hold more elements in `live`: others own those, and server-side apply would leave them. Lists of scalars are
/// compared whole.
pub fn covers(wanted: &Value, live: &Value) -> bool {
    same(wanted, live, false)
}

/// A short hash of a value: equal values have equal hashes, whatever the order of their keys.
pub fn hash(value: &Value) -> String {
    // serde_json keeps maps sorted by key, so the text is canonical.
    short(&Sha256::digest(value.to_string()))
}

/// The first 16 hexadecimal digits of a digest: enough for a name or a comparison among a handful.
pub fn short(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn same(wanted: &Value, live: &Value, quantity: bool) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, wanted)| {
            let quantity = quantity || QUANTITIES.contains(&key.as_str());
            live.get(key).map_or_else(|| is_empty(wanted), |live| same(wanted, live, quantity))
        }),
        (Value::Array(wanted), Value::Array(live)) if wanted.iter().any(Value::is_object) => {
            let mut rest = live.iter();
            wanted.iter().all(|wanted| rest.any(|live| same(wanted, live, quantity)))
        }
        (Value::String(wanted), Value::String(live)) if quantity => {
            wanted == live || amount(wanted).is_some_and(|amount| Some(amount) == self::amount(live))
        }
        _ => wanted == live,
    }
}

/// What the API server drops when it writes an object.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A Kubernetes quantity in billionths; `None` when it is not one or is too large to compare.
fn amount(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator): (i128, i128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    digits.checked_mul(numerator)?.checked_mul(1_000_000_000).map(|amount| amount / (scale * denominator))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_is_no_difference() {
        let wanted = json!({"spec": {"ports": [{"name": "a", "port": 1}], "x": {}, "y": ""}, "labels": {"a": "1"}});
        let live = json!({"spec": {"ports": [{"name": "0", "port": 9}, {"name": "a", "port": 1, "nodePort": 3}], "z": 1}, "labels": {"a": "1", "b": "2"}});
        assert!(covers(&wanted, &live));
    }

    #[test]
    fn what_someone_changed_or_removed_is() {
        let wanted = json!({"a": {"b": [1, 2]}, "c": false, "d": [{"n": 1}, {"n": 2}]});
        for live in [
            json!({"a": {"b": [1, 2, 3]}, "c": false, "d": [{"n": 1}, {"n": 2}]}),
            json!({"a": {"b": [1, 2]}, "d": [{"n": 1}, {"n": 2}]}),
            json!({"a": {"b": [1, 2]}, "c": true, "d": [{"n": 1}, {"n": 2}]}),
            json!({"a": {"b": [1, 2]}, "c": false, "d": [{"n": 2}]}),
            json!({"c": false, "d": [{"n": 1}, {"n": 2}]}),
        ] {
            assert!(!covers(&wanted, &live), "{live}");
        }
    }

    #[test]
    fn a_quantity_may_be_written_in_many_ways() {
        let limits = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
        assert!(covers(&limits("1000m", "0.5Gi"), &limits("1", "512Mi")));
        assert!(covers(&limits("1.5", "1000k"), &limits("1500m", "1M")));
        assert!(!covers(&limits("1", "1Mi"), &limits("1", "1M")));
        assert!(!covers(&json!({"image": "1000m"}), &json!({"image": "1"})), "only where quantities are");
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order() {
        let (a, b): (Value, Value) =
            (serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap(), serde_json::from_str(r#"{"b":2,"a":1}"#).unwrap());
        assert_eq!(hash(&a), hash(&b));
        assert_ne!(hash(&a), hash(&json!({"a": 1})));
    }
}

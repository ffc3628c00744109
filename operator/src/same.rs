//! Whether a live object is as desired. Pure.
//!
//! What is desired must be there; what the API server or others added is of no concern, but in a selector, where one key more selects
//! something else. Quantities are compared as numbers, because
//! the API server rewrites them (`1024Mi` becomes `1Gi`).

use serde_json::Value;

/// A field that is as it is, and replaced as a whole.
const SELECTOR: &str = "selector";

/// Whether everything in `desired` is in `live`.
pub fn same(desired: &Value, live: &Value) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => desired.iter().all(|(key, value)| match live.get(key) {
            Some(live) if key == SELECTOR => value == live,
            Some(live) => same(value, live),
            None => is_empty(value),
        }),
        (Value::Array(desired), Value::Array(live)) => same_list(desired, live),
        (desired, live) => desired == live || is_same_quantity(desired, live),
    }
}

/// Whether a list has every desired element, in order. An object that was added to a list, as admission webhooks do with containers,
/// variables, volumes and tolerations, is no difference: to take it away would be to write for ever. A list of plain values is as it is.
fn same_list(desired: &[Value], live: &[Value]) -> bool {
    if !desired.iter().all(Value::is_object) || desired.is_empty() {
        return desired.len() == live.len() && desired.iter().zip(live).all(|(desired, live)| same(desired, live));
    }
    let mut live = live.iter();
    desired.iter().all(|desired| live.any(|live| same(desired, live)))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        // The API server drops an empty text where it means absence, as in `env: [{name: X, value: ""}]`.
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn is_same_quantity(desired: &Value, live: &Value) -> bool {
    match (quantity(desired), quantity(live)) {
        (Some(desired), Some(live)) => (desired - live).abs() <= desired.abs() * 1e-9,
        _ => false,
    }
}

/// The number that a quantity stands for
/// (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).
pub(crate) fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(number) => return number.as_f64(),
        Value::String(text) => text,
        _ => return None,
    };
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(desired: Value, live: Value, expected: bool) {
        assert_eq!(same(&desired, &live), expected, "{desired} {live}");
    }

    #[test]
    fn what_others_added_is_no_difference_and_what_they_changed_is() {
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}, "d": 3}), true);
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), false);
        check(json!({"a": 1}), json!({}), false);
        check(json!({"a": [], "b": {}, "c": null, "d": ""}), json!({}), true);
        check(json!([{"a": 1}]), json!([{"a": 1, "b": 2}]), true);
        check(json!([1]), json!([1, 2]), false);
        let selects = |selector| json!({"spec": {"selector": selector}});
        check(selects(json!({"app": "chat"})), selects(json!({"app": "chat"})), true);
        check(selects(json!({"app": "chat"})), selects(json!({"app": "chat", "colour": "blue"})), false);
    }

    #[test]
    fn what_a_webhook_puts_into_a_list_is_no_difference() {
        let mine = json!([{"name": "chat-node", "env": [{"name": "A", "value": "1"}]}]);
        let theirs = json!([
            {"name": "proxy", "image": "mesh"},
            {"name": "chat-node", "env": [{"name": "Z", "value": "0"}, {"name": "A", "value": "1"}]},
        ]);
        check(mine.clone(), theirs, true);
        check(mine.clone(), json!([{"name": "proxy", "image": "mesh"}]), false);
        check(mine, json!([{"name": "chat-node", "env": [{"name": "A", "value": "2"}]}]), false);
        check(json!([{"name": "a"}, {"name": "b"}]), json!([{"name": "b"}, {"name": "a"}]), false);
        check(json!(["ALL"]), json!(["ALL", "NET_RAW"]), false);
    }

    #[test]
    fn quantities_are_numbers() {
        for (desired, live) in [("0.1", "100m"), ("1024Mi", "1Gi"), ("1e3", "1k"), ("2", "2")] {
            check(json!(desired), json!(live), true);
        }
        check(json!("1Gi"), json!("1G"), false);
        check(json!("demo"), json!("demo-1"), false);
    }
}

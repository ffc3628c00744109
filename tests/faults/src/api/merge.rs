//! How one object becomes another: server-side apply, JSON merge patch, and the account of who owns what afterwards.

use serde_json::{Map, Value};

use super::{
    fields::{Fields, Manager, Managers, Path, key_step, leaves, remove},
    kinds::{Merge, merge},
};

/// Applies `applied` as `manager`. `Err` names the first field that somebody else owns with another value.
///
/// # Errors
/// A conflict, unless it is forced.
pub(super) fn apply(
    plural: &str,
    live: &Value,
    managers: &mut Managers,
    manager: &Manager,
    applied: &Value,
    force: bool,
) -> Result<Value, String> {
    let wanted = leaves(plural, applied);
    let there = leaves(plural, live);
    let mine: Fields = wanted.keys().cloned().collect();
    for (other, fields) in managers.iter_mut().filter(|(other, _)| *other != manager) {
        let differs: Vec<_> =
            wanted.iter().filter(|(path, value)| fields.contains(*path) && there.get(*path) != Some(value)).collect();
        if let Some((path, _)) = differs.first()
            && !force
        {
            return Err(format!("conflict with {:?}: {}", other.name, path.join(".")));
        }
        fields.retain(|path| !differs.iter().any(|(differs, _)| *differs == path));
    }
    let mut merged = live.clone();
    combine(plural, "", "", &mut merged, applied);
    let before = managers.insert(manager.clone(), mine.clone()).unwrap_or_default();
    let owned = |path: &[String]| managers.values().flatten().any(|other| other.starts_with(path));
    let gone: Vec<_> = before.difference(&mine).filter(|path| !owned(path)).collect();
    // Whole items first: without its keys an item could not be found any more.
    let (items, fields): (Vec<&Path>, Vec<&Path>) = gone.into_iter().partition(|path| is_item(path));
    for path in items.into_iter().filter(|path| !owned(&path[..path.len() - 1])).chain(fields) {
        remove(plural, &mut merged, path);
    }
    managers.retain(|_, fields| !fields.is_empty());
    Ok(merged)
}

fn is_item(path: &[String]) -> bool {
    path.last().is_some_and(|last| last == ".")
}

/// Puts what is applied over what is there.
fn combine(plural: &str, parent: &str, name: &str, live: &mut Value, applied: &Value) {
    match (&mut *live, applied, merge(plural, parent, name)) {
        (Value::Object(there), Value::Object(map), Merge::Fields) => {
            for (field, value) in map {
                match there.get_mut(field) {
                    Some(there) => combine(plural, name, field, there, value),
                    None => drop(there.insert(field.clone(), value.clone())),
                }
            }
        }
        (Value::Array(there), Value::Array(list), Merge::Keyed(keys)) => {
            let mut rest = std::mem::take(there);
            for item in list {
                let at = rest.iter().position(|old| key_step(keys, old) == key_step(keys, item));
                let mut merged = at.map_or(Value::Object(Map::new()), |at| rest.remove(at));
                if let (Value::Object(merged), Value::Object(item)) = (&mut merged, item) {
                    for (field, value) in item {
                        match merged.get_mut(field) {
                            Some(there) => combine(plural, name, field, there, value),
                            None => drop(merged.insert(field.clone(), value.clone())),
                        }
                    }
                }
                there.push(merged);
            }
            there.append(&mut rest);
        }
        (Value::Array(there), Value::Array(list), Merge::Set) => {
            there.extend(list.iter().filter(|item| !there.contains(item)).cloned().collect::<Vec<_>>());
        }
        _ => *live = applied.clone(),
    }
}

/// A JSON merge patch (RFC 7386).
pub(super) fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge_patch(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// After a write that is no apply: who wrote owns what changed, and others no longer do.
pub(super) fn take_over(plural: &str, before: &Value, after: &Value, managers: &mut Managers, manager: &Manager) {
    let (old, new) = (leaves(plural, before), leaves(plural, after));
    let changed: Fields =
        new.iter().filter(|(path, value)| old.get(*path) != Some(value)).map(|(path, _)| path.clone()).collect();
    for (other, fields) in managers.iter_mut() {
        fields.retain(|path| new.contains_key(path) && (other == manager || !changed.contains(path)));
    }
    if !changed.is_empty() {
        managers.entry(manager.clone()).or_default().extend(changed);
    }
    managers.retain(|_, fields| !fields.is_empty());
}

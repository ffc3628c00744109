//! What the operator may do, against what it was seen to ask.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use e2e::stage::{OPERATOR_NAMESPACE, Stage, kubectl};
use serde_json::Value;
use tree::File;

/// A verb on a resource, as in the tables of docs/rbac.md.
type Right = (String, String);

/// Every right was used by some claim, or the page says why not; and nothing of it was refused.
pub(crate) async fn used(_stage: &Stage) -> Result<String> {
    let Some(log) = std::env::var_os("CHATCLUSTER_AUDIT_LOG") else {
        return Ok("not looked at: this cluster's audit log cannot be read".into());
    };
    let page = File::read("docs/rbac.md").text;
    let (granted, unseen) = page.split_once("## Not exercised").context("docs/rbac.md has two tables")?;
    let granted = rights(granted, 1);
    let unseen = rights(unseen, 0);
    let seen = Seen::read(&std::fs::read_to_string(log)?)?;
    let refused: Vec<_> =
        seen.refused.iter().filter(|((right, _), _)| granted.contains(right) && !unseen.contains(right)).collect();
    ensure!(refused.is_empty(), "refused although granted: {refused:?}");
    let beyond: Vec<_> = seen.done.difference(&granted).collect();
    let own = |right: &&&Right| granted.iter().any(|(resource, _)| *resource == right.0);
    let beyond: Vec<_> = beyond.iter().filter(own).collect();
    ensure!(beyond.is_empty(), "done although the table does not grant it: {beyond:?}");
    let idle: Vec<_> = granted.difference(&seen.done).filter(|right| !unseen.contains(right)).collect();
    // When only some of the claims ran, not every right was needed.
    let whole = std::env::args().skip(1).all(|argument| argument.starts_with('-'));
    ensure!(idle.is_empty() || !whole, "granted and never used: {idle:?}");
    let used = granted.intersection(&seen.done).count();
    Ok(format!("{used} of {} rights were used, {} are said not to be, none was refused", granted.len(), unseen.len()))
}

/// The rights of a table whose resources stand in this column, and their verbs in the next.
fn rights(table: &str, column: usize) -> BTreeSet<Right> {
    let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let rows = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    rows.flat_map(|cells| {
        // A name after the resource narrows the right to one object.
        let resources: Vec<&str> = cells[column].split(", ").filter_map(|cell| cell.split('`').nth(1)).collect();
        let verbs: Vec<&str> = cells[column + 1].split(", ").collect();
        let of =
            |resource: &str| verbs.iter().map(|verb| (resource.to_owned(), (*verb).to_owned())).collect::<Vec<_>>();
        resources.into_iter().flat_map(of).collect::<Vec<_>>()
    })
    .collect()
}

/// What the audit log tells of the operator, from when its namespace was made.
#[derive(Default)]
struct Seen {
    done: BTreeSet<Right>,
    /// What was refused for want of a right and was not done later, by right and namespace, with the authorizer's reason. A grant that was just
    /// written takes the API server a moment to learn.
    refused: BTreeMap<(Right, String), String>,
}

impl Seen {
    fn read(log: &str) -> Result<Seen> {
        let since = kubectl(&["get", "namespace", OPERATOR_NAMESPACE, "-o", "jsonpath={.metadata.creationTimestamp}"])?;
        let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:");
        let mut seen = Seen::default();
        // The last line may be half written.
        for entry in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let resource = text("/objectRef/resource");
            // Both times are RFC 3339 in UTC. Without the zone their order is that of their texts, and the second in which the namespace
            // was made counts.
            if !text("/user/username").starts_with(&user)
                || text("/requestReceivedTimestamp") < since.trim().trim_end_matches('Z')
                || resource.is_empty()
            {
                continue;
            }
            let resource = match text("/objectRef/subresource") {
                "" => resource.to_owned(),
                part => format!("{resource}/{part}"),
            };
            let code = entry.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or(0);
            let right = (resource, text("/verb").to_owned());
            let place = (right.clone(), text("/objectRef/namespace").to_owned());
            // Other reasons for a 403 are none of the rights' business: a namespace that is being deleted takes in nothing new.
            let annotation = |name: &str| entry["annotations"][name].as_str().unwrap_or_default().to_owned();
            if annotation("authorization.k8s.io/decision") == "forbid" {
                let told =
                    format!("{} {}", text("/requestReceivedTimestamp"), annotation("authorization.k8s.io/reason"));
                seen.refused.insert(place, told);
                continue;
            }
            seen.refused.remove(&place);
            if code == 201 && right.1 == "patch" {
                // An apply that made the object needed both.
                seen.done.insert((right.0.clone(), "create".into()));
            }
            seen.done.insert(right);
        }
        Ok(seen)
    }
}

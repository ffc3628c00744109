//! The API server: status codes, reasons and objects of a script of requests.

use faults::api::kinds::KINDS;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::side::{LOOK, LOOKS_MAX, NAMESPACE, Side};

/// One request.
struct Ask {
    verb: &'static str,
    path: String,
    body: Value,
}

fn path(plural: &str, rest: &str) -> String {
    let kind = KINDS.iter().find(|kind| kind.plural == plural);
    let (root, version) = match kind.map(|kind| kind.group) {
        None | Some("") => ("/api", "v1".to_owned()),
        Some(_) => ("/apis", kind.map(|kind| kind.api_version()).unwrap_or_default()),
    };
    format!("{root}/{version}/namespaces/{NAMESPACE}/{plural}{rest}")
}

fn ask(verb: &'static str, plural: &str, rest: &str, body: Value) -> Ask {
    Ask { verb, path: path(plural, rest), body }
}

/// An apply as the operator does it.
fn apply(plural: &'static str, name: &str, more: &str, body: Value) -> Ask {
    let kind = KINDS.iter().find(|kind| kind.plural == plural);
    let mut body = body;
    body["apiVersion"] = json!(kind.map(|kind| kind.api_version()));
    body["kind"] = json!(kind.map(|kind| kind.kind));
    body["metadata"]["name"] = json!(name.trim_end_matches("/status"));
    ask("apply", plural, &format!("/{name}?fieldManager=chatcluster-operator{more}"), body)
}

fn config_maps() -> Vec<Ask> {
    let map = |data: Value| json!({"metadata": {"labels": {"app": "a"}}, "data": data});
    let at = |version: &str, data: Value| json!({"metadata": {"resourceVersion": version, "labels": {"app": "a"}}, "data": data});
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "$uid(a)"}]);
    vec![
        apply("configmaps", "a", "&force=true", map(json!({"x": "1", "y": "1"}))),
        apply("configmaps", "a", "&force=true", map(json!({"x": "1", "y": "1"}))),
        apply("configmaps", "a", "&force=true", map(json!({"x": "1"}))),
        ask("merge", "configmaps", "/a?fieldManager=kubectl", json!({"data": {"x": "2", "z": "2"}})),
        apply("configmaps", "a", "", map(json!({"x": "1"}))),
        apply("configmaps", "a", "&force=true", map(json!({"x": "1"}))),
        apply("configmaps", "a", "&force=true", at("$first(a)", json!({"x": "3"}))),
        apply("configmaps", "a", "&force=true", at("$rv(a)", json!({"x": "3"}))),
        apply("configmaps", "absent", "&force=true", at("1", json!({"x": "3"}))),
        ask("apply", "configmaps", "/a", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})),
        ask("create", "configmaps", "", json!({"metadata": {"name": "a"}})),
        ask("create", "configmaps", "", json!({"metadata": {"name": "b", "resourceVersion": "1"}})),
        ask(
            "create",
            "configmaps",
            "?fieldManager=kubectl",
            json!({"metadata": {"name": "b", "labels": {"app": "b"}, "ownerReferences": owner}}),
        ),
        ask(
            "replace",
            "configmaps",
            "/b?fieldManager=kubectl",
            json!({"metadata": {"name": "b", "resourceVersion": "1"}}),
        ),
        ask(
            "merge",
            "configmaps",
            "/b?fieldManager=kubectl",
            json!({"metadata": {"finalizers": ["example.org/wait"]}}),
        ),
        ask("get", "configmaps", "?labelSelector=app%3Da", Value::Null),
        ask("names", "configmaps", "?labelSelector=app%3Da", Value::Null),
        ask("delete", "configmaps", "/a", json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}})),
        ask("delete", "configmaps", "/a", json!({"preconditions": {"resourceVersion": "1"}})),
        ask("delete", "configmaps", "/a", json!({"preconditions": {"uid": "$uid(a)", "resourceVersion": "$rv(a)"}})),
        ask("delete", "configmaps", "/a", json!({})),
        ask("gone", "configmaps", "/b", json!("deletionTimestamp")),
        ask("merge", "configmaps", "/b?fieldManager=kubectl", json!({"metadata": {"finalizers": null}})),
        ask("get", "configmaps", "/b", Value::Null),
        apply("configmaps", "fixed", "&force=true", json!({"immutable": true, "data": {"x": "1"}})),
        apply("configmaps", "fixed", "&force=true", json!({"immutable": true, "data": {"x": "2"}})),
    ]
}

fn services() -> Vec<Ask> {
    let service = |kind: &str, ports: Value, selector: Value| {
        json!({"metadata": {"labels": {"app": "a"}, "annotations": {"example.org/a": "1"}},
            "spec": {"type": kind, "ports": ports, "selector": selector}})
    };
    let port = |port: i32| json!([{"name": "client", "port": port, "protocol": "TCP", "targetPort": "client"}]);
    let two = json!({"app": "a", "rev": "1"});
    vec![
        apply("services", "s", "&force=true", service("ClusterIP", port(80), two.clone())),
        apply("services", "s", "&force=true", service("ClusterIP", port(80), two.clone())),
        apply("services", "s", "&force=true", service("ClusterIP", port(81), two)),
        ask(
            "merge",
            "services",
            "/s?fieldManager=kubectl",
            json!({"metadata": {"labels": {"other": "1"}}, "spec": {"selector": {"app": "z"}}}),
        ),
        apply("services", "s", "&force=true", service("ClusterIP", port(81), json!({"app": "a"}))),
        apply("services", "s", "&force=true", service("NodePort", port(81), json!({"app": "a"}))),
        apply("services", "s", "&force=true", service("ClusterIP", port(81), json!({"app": "a"}))),
    ]
}

fn stateful_sets() -> Vec<Ask> {
    let set = |image: &str, env: Value, window: Value| {
        let container = json!({"name": "c", "image": image, "env": env, "ports": [{"containerPort": 80, "protocol": "TCP", "name": "client"}],
            "resources": {"limits": {"memory": "1024Mi", "cpu": "0.5"}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {
            "replicas": 0, "serviceName": "s", "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "a"}},
            "ordinals": window["ordinals"], "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": window["partition"]}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}},
        }})
    };
    let at = |start: i32, partition: i32| json!({"ordinals": {"start": start}, "partition": partition});
    let env = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Value>()
    };
    let mut other = set("a:1", env(&[]), at(0, 0));
    other["spec"]["selector"]["matchLabels"] = json!({"app": "z"});
    let mut fixed = set("a:2", env(&[("A", "1")]), at(3, 1));
    fixed["spec"]["serviceName"] = json!("another");
    vec![
        apply("statefulsets", "w", "&force=true", other),
        apply("statefulsets", "w", "&force=true", set("a:1", env(&[("A", "1"), ("B", "")]), at(0, 0))),
        apply("statefulsets", "w", "&force=true", set("a:1", env(&[("A", "1"), ("B", "")]), at(0, 0))),
        apply("statefulsets", "w", "&force=true", set("a:2", env(&[("B", "2"), ("C", "3")]), at(3, 1))),
        ask("merge", "statefulsets", "/w?fieldManager=kubectl", json!({"metadata": {"labels": {"other": "1"}}})),
        apply("statefulsets", "w", "&force=true", set("a:2", env(&[("A", "1")]), at(3, 1))),
        apply("statefulsets", "w", "&force=true", fixed),
    ]
}

fn chat_clusters() -> Vec<Ask> {
    let spec = |spec: Value| json!({"apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster", "metadata": {"name": "c"}, "spec": spec});
    let condition = json!({"type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = |ready: i32| json!({"status": {"conditions": [condition], "replicas": 1, "readyReplicas": ready, "updatedReplicas": 1, "connections": 0}});
    vec![
        ask("create", "chatclusters", "?fieldManager=kubectl", spec(json!({"unknown": 1, "replicas": 1, "auth": {}}))),
        ask("create", "chatclusters", "?fieldManager=kubectl", spec(json!({"replicas": 2000}))),
        ask("merge", "chatclusters", "/c?fieldManager=kubectl", json!({"spec": {"replicas": "many"}})),
        ask("merge", "chatclusters", "/c?fieldManager=kubectl", json!({"spec": {"logging": {"filter": "debug"}}})),
        ask(
            "merge",
            "chatclusters",
            "/c?fieldManager=kubectl",
            json!({"spec": {"logging": null}, "status": {"replicas": 7}}),
        ),
        apply("chatclusters", "c/status", "&force=true", status(0)),
        apply("chatclusters", "c/status", "&force=true", status(0)),
        apply("chatclusters", "c/status", "&force=true", status(1)),
        apply("chatclusters", "c/status", "&force=true", json!({"spec": {"replicas": 9}, "status": {"replicas": 1}})),
        apply("chatclusters", "absent/status", "&force=true", status(0)),
        ask("get", "chatclusters", "/c", Value::Null),
        ask("delete", "chatclusters", "/c", json!({})),
    ]
}

/// Sends everything to both.
pub(crate) async fn alike() -> Result<String, String> {
    let (mut model, mut real) = (Side::model(), Side::real().await?);
    let script: Vec<Ask> =
        [config_maps(), services(), stateful_sets(), chat_clusters()].into_iter().flatten().collect();
    let mut differences = Vec::new();
    for (number, ask) in script.iter().enumerate() {
        let name = ask
            .path
            .rsplit('/')
            .find(|part| !part.starts_with("status"))
            .and_then(|last| last.split('?').next())
            .unwrap_or_default();
        let mut answers = Vec::new();
        for side in [&mut model, &mut real] {
            let before = side.version(name);
            let (code, object) = sent(side, ask).await?;
            // Whether the write changed anything, where nobody else writes.
            let same = code < 300
                && object["kind"] != "StatefulSet"
                && ask.verb == "apply"
                && object["metadata"]["resourceVersion"] == before;
            answers.push((code, same, comparable(&object)));
        }
        if answers[0] != answers[1] {
            let Ask { verb, path, body } = ask;
            differences.push(format!("{number}: {verb} {path} {body}\n{}", difference(&answers[0], &answers[1])));
        }
    }
    match differences.is_empty() {
        true => Ok(format!("{} requests were answered alike", script.len())),
        false => Err(differences.join("\n")),
    }
}

type Compared = (u16, bool, Value);

/// Where two answers differ, field by field.
fn difference(model: &Compared, real: &Compared) -> String {
    let mut lines = vec![format!("  model {} same version: {}, real {} {}", model.0, model.1, real.0, real.1)];
    walk("", &model.2, &real.2, &mut lines);
    lines.join("\n")
}

fn walk(path: &str, model: &Value, real: &Value, lines: &mut Vec<String>) {
    match (model, real) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            names.into_iter().for_each(|name| walk(&format!("{path}.{name}"), &model[name], &real[name], lines));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(at, (a, b))| walk(&format!("{path}[{at}]"), a, b, lines));
        }
        (a, b) if a != b => lines.push(format!("  {path}: model {a}, real {b}")),
        _ => {}
    }
}

/// Sends one request; `gone` waits until a field of the metadata is there: the garbage collector takes its time.
async fn sent(side: &mut Side, ask: &Ask) -> Result<(u16, Value), String> {
    if ask.verb != "gone" {
        return side.send(ask.verb, &ask.path, &ask.body).await;
    }
    let field = ask.body.as_str().unwrap_or_default();
    let mut answer = side.send("get", &ask.path, &Value::Null).await?;
    for _ in 0..LOOKS_MAX {
        if !answer.1["metadata"][field].is_null() {
            break;
        }
        sleep(LOOK).await;
        answer = side.send("get", &ask.path, &Value::Null).await?;
    }
    Ok(answer)
}

/// An answer without what differs by nature: identities, times, addresses, words for people, what controllers report.
fn comparable(object: &Value) -> Value {
    if object["kind"] == "Status" {
        return json!({"status": object["status"], "reason": object["reason"].as_str().unwrap_or_default(), "code": object["code"]});
    }
    if let Some(items) = object["items"].as_array() {
        let items: Vec<_> = items.iter().map(comparable).collect();
        return json!({"kind": object["kind"], "items": items});
    }
    let mut object = object.clone();
    let drop_fields = |value: &mut Value, fields: &[&str]| {
        if let Some(map) = value.as_object_mut() {
            map.retain(|name, _| !fields.contains(&name.as_str()));
        }
    };
    let owners: Vec<Value> = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["operation"] == "Apply")
        .map(|entry| json!({"manager": entry["manager"], "subresource": entry["subresource"], "fields": entry["fieldsV1"]}))
        .collect();
    drop_fields(
        &mut object["metadata"],
        &["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields"],
    );
    object["metadata"]["appliedFields"] = Value::Array(owners);
    for owner in object["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
        drop_fields(owner, &["uid"]);
    }
    if object["kind"] != "ChatCluster" {
        drop_fields(&mut object, &["status"]);
    }
    drop_fields(&mut object["spec"], &["clusterIP", "clusterIPs"]);
    for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if port["nodePort"].is_number() {
            port["nodePort"] = json!("some");
        }
    }
    without_null(object)
}

/// A null is an absence.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept =
                map.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, without_null(value)));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(list) => list.into_iter().map(without_null).collect(),
        other => other,
    }
}

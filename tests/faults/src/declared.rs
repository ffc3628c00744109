//! Whether a cluster is as its spec declares: read off the objects, by rules of its own.
//!
//! It must never share code with what it judges. It also reduces a state to what has to be the same after whatever happened.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    api::{Server, store::Store},
    scenario::NAMESPACE,
};

/// Image of nodes whose spec names none.
pub const DEFAULT_IMAGE: &str = "chat-node:default";

const INSTANCE: &str = "app.kubernetes.io/instance";
const REVISION: &str = "controller-revision-hash";

/// The pods of a cluster, in the order of their names.
pub fn pods<'a>(store: &'a Store, cluster: &'a str) -> impl Iterator<Item = &'a Arc<Value>> {
    store.list("pods", Some(NAMESPACE)).filter(move |pod| pod["metadata"]["labels"][INSTANCE] == cluster)
}

/// A node that serves: ready, and not about to leave.
pub fn serves(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["conditions"][0]["status"] == "True"
}

/// Nodes that a spec allows to be missing, and those that it adds during a rollout; as a Deployment counts them.
pub fn allowance(spec: &Value) -> (i64, i64) {
    let replicas = spec["replicas"].as_i64().unwrap_or(1);
    let share = |value: &Value, up: bool| match (value.as_i64(), value.as_str().and_then(|text| text.strip_suffix('%')))
    {
        (Some(number), _) => number,
        (_, Some(percent)) => {
            let hundredths = replicas * percent.parse::<i64>().unwrap_or(0);
            if up { (hundredths + 99).div_euclid(100) } else { hundredths.div_euclid(100) }
        }
        _ => 0,
    };
    let surge = share(&spec["updateStrategy"]["maxSurge"], true).min(replicas);
    let unavailable = share(&spec["updateStrategy"]["maxUnavailable"], false);
    (if surge == 0 { unavailable.max(1) } else { unavailable }.min(replicas), surge)
}

/// Checks a cluster whose spec holds, or one that has gone back to the nodes of this spec because its own has failed.
///
/// # Errors
/// What is not as declared.
pub fn check(server: &Server, name: &str, returned_to: Option<&Value>) -> Result<(), String> {
    let store = server.store();
    let cluster = store.value("chatclusters", NAMESPACE, name).ok_or("the ChatCluster is not there")?;
    let set = store.value("statefulsets", NAMESPACE, name).ok_or("there is no StatefulSet")?;
    let (spec, status) = (&cluster["spec"], &cluster["status"]);
    let nodes = spec["replicas"].as_i64().unwrap_or(1);
    let is_bound = spec["postgres"].is_object();
    let mut expect = Expect::default();

    let partition = if is_bound { nodes } else { 0 };
    expect.same("replicas of the StatefulSet", &set["spec"]["replicas"], &json!(nodes));
    expect.same("partition", &set["spec"]["updateStrategy"]["rollingUpdate"]["partition"], &json!(partition));
    expect.same("observed generation", &set["status"]["observedGeneration"], &set["metadata"]["generation"]);
    expect.same("current revision", &set["status"]["currentRevision"], &set["status"]["updateRevision"]);

    let pods: Vec<_> = pods(&store, name).collect();
    let image = returned_to.unwrap_or(spec)["image"].as_str().unwrap_or(DEFAULT_IMAGE);
    expect.same("number of pods", &json!(pods.len()), &json!(nodes));
    for pod in &pods {
        expect.same("readiness of a pod", &json!(serves(pod)), &json!(true));
        expect.same("revision of a pod", &pod["metadata"]["labels"][REVISION], &set["status"]["updateRevision"]);
        expect.same("image of a pod", &pod["spec"]["containers"][0]["image"], &json!(image));
    }
    let selector = json!({"app.kubernetes.io/name": "chat-node", INSTANCE: name});
    for service in [name.to_owned(), format!("{name}-nodes")] {
        let service =
            store.value("services", NAMESPACE, &service).ok_or_else(|| format!("there is no Service {service}"))?;
        expect.same("selector of a Service", &service["spec"]["selector"], &selector);
    }
    let client = store.value("services", NAMESPACE, name).unwrap_or_default();
    let ports: Vec<_> = client["spec"]["ports"].as_array().into_iter().flatten().map(|port| &port["port"]).collect();
    expect.same("ports for clients", &json!(ports), &json!([spec["service"]["port"].as_i64().unwrap_or(80)]));
    expect.same("ready endpoints", &json!(endpoints(&store, name)), &json!(nodes));
    for plural in ["serviceaccounts", "poddisruptionbudgets"] {
        expect.same(plural, &json!(store.value(plural, NAMESPACE, name).is_some()), &json!(true));
    }
    let config = config_name(&set["spec"]["template"]);
    expect.same("the ConfigMap", &json!(store.value("configmaps", NAMESPACE, config).is_some()), &json!(true));

    expect.same("observedGeneration of the status", &status["observedGeneration"], &cluster["metadata"]["generation"]);
    let condition = |kind: &str| {
        status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == kind)
            .cloned()
            .unwrap_or_default()
    };
    expect.same("Ready", &condition("Ready")["status"], &json!(if nodes > 0 { "True" } else { "False" }));
    expect.same("Progressing", &condition("Progressing")["status"], &json!("False"));
    let reason = if returned_to.is_some() { "RolledBack" } else { "Stable" };
    expect.same("reason of Progressing", &condition("Progressing")["reason"], &json!(reason));
    expect.same("phase", &status["rollout"]["phase"], &json!("Stable"));
    for count in ["replicas", "readyReplicas", "updatedReplicas"] {
        expect.same(count, &status[count], &json!(nodes));
    }
    expect.0
}

/// Whether a cluster tells that it waits for its bindings, and has made no nodes, or left those of before as they are.
///
/// # Errors
/// What is otherwise.
pub fn check_waits(server: &Server, name: &str) -> Result<(), String> {
    let store = server.store();
    let cluster = store.value("chatclusters", NAMESPACE, name).ok_or("the ChatCluster is not there")?;
    let (mut expect, conditions) = (Expect::default(), &cluster["status"]["conditions"]);
    match store.value("statefulsets", NAMESPACE, name) {
        None => expect.same("reason of Ready", &conditions[0]["reason"], &json!("NotBound")),
        Some(set) => {
            let is_new = set["spec"]["template"]["spec"]["containers"][0]["image"] == cluster["spec"]["image"];
            expect.same("whether the template is the new one", &json!(is_new), &json!(false));
            expect.same("Ready", &conditions[0]["status"], &json!("True"));
            expect.same("Progressing", &conditions[1]["status"], &json!("True"));
            expect.same("reason of Progressing", &conditions[1]["reason"], &json!("WaitingForBindings"));
        }
    }
    expect.0
}

/// Whether so many nodes of a cluster serve, and there is none but of this image.
///
/// # Errors
/// What is otherwise.
pub fn check_runs(server: &Server, name: &str, image: &str, nodes: usize) -> Result<(), String> {
    let store = server.store();
    let pods: Vec<_> = pods(&store, name).collect();
    let mut expect = Expect::default();
    for pod in &pods {
        expect.same("image of a pod", &pod["spec"]["containers"][0]["image"], &json!(image));
    }
    expect.same("nodes", &json!(pods.len()), &json!(nodes));
    expect.same("nodes that serve", &json!(pods.iter().filter(|pod| serves(pod)).count()), &json!(nodes));
    expect.0
}

struct Expect(Result<(), String>);

impl Default for Expect {
    fn default() -> Self {
        Expect(Ok(()))
    }
}

impl Expect {
    /// Keeps the first difference.
    fn same(&mut self, what: &str, is: &Value, declared: &Value) {
        if self.0.is_ok() && is != declared {
            self.0 = Err(format!("{what}: {is}, declared is {declared}"));
        }
    }
}

/// Ready endpoints of a Service.
pub fn endpoints(store: &Store, service: &str) -> usize {
    store
        .list("endpointslices", Some(NAMESPACE))
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service)
        .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .count()
}

/// Name of the ConfigMap that a pod template, or a pod, mounts.
pub fn config_name(template: &Value) -> &str {
    let volumes = template["spec"]["volumes"].as_array();
    volumes.into_iter().flatten().find_map(|volume| volume["configMap"]["name"].as_str()).unwrap_or_default()
}

/// A cluster's state, without what may differ between two ways to the same spec: versions, times, ordinals, and names made of
/// hashes of what the operator drew by chance.
pub fn end_state(server: &Server, name: &str) -> BTreeMap<String, Value> {
    let store = server.store();
    let set = store.value("statefulsets", NAMESPACE, name);
    let config = set.as_ref().map(|set| config_name(&set["spec"]["template"]).to_owned()).unwrap_or_default();
    let start = set.as_ref().and_then(|set| set["spec"]["ordinals"]["start"].as_i64()).unwrap_or(0);
    let secrets = set
        .as_ref()
        .and_then(|set| set["spec"]["template"]["metadata"]["annotations"]["chatcluster.dev/secrets"].as_str());
    let made_key = store.value("secrets", NAMESPACE, &format!("{name}-auth")).is_some();
    let mut hidden: Vec<(String, &str)> = Vec::new();
    if let (true, Some(secrets)) = (made_key, secrets) {
        hidden.push((secrets.to_owned(), "SECRETS"));
    }
    if let Some(revision) = set.as_ref().and_then(|set| set["status"]["updateRevision"].as_str()) {
        hidden.push((revision.to_owned(), "REVISION"));
    }
    let mut end = BTreeMap::new();
    for ((plural, _, object), stored) in store.all() {
        let value = &stored.value;
        let of_cluster = value["metadata"]["labels"][INSTANCE] == name || (*plural == "chatclusters" && object == name);
        let left_out = matches!(*plural, "events" | "leases" | "controllerrevisions" | "endpointslices")
            || (*plural == "configmaps" && *object != config)
            || value["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm";
        if !of_cluster || left_out {
            continue;
        }
        let ordinal = (*plural == "pods").then(|| object.rsplit('-').next()?.parse::<i64>().ok()).flatten();
        let called = ordinal.map_or_else(|| object.clone(), |ordinal| format!("{name}-start+{}", ordinal - start));
        end.insert(format!("{plural}/{called}"), reduced(plural, value, &hidden));
    }
    end
}

fn reduced(plural: &str, value: &Value, hidden: &[(String, &str)]) -> Value {
    let mut value = value.clone();
    let without = |value: &mut Value, fields: &[&str]| {
        if let Some(map) = value.as_object_mut() {
            map.retain(|name, _| !fields.contains(&name.as_str()));
        }
    };
    without(
        &mut value["metadata"],
        &["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "name", "ownerReferences"],
    );
    without(&mut value["metadata"]["annotations"], &["chatcluster.dev/applied", "chatcluster.dev/template"]);
    without(&mut value["metadata"]["labels"], &["apps.kubernetes.io/pod-index", "statefulset.kubernetes.io/pod-name"]);
    match plural {
        "chatclusters" => {
            let status = &mut value["status"];
            without(status, &["observedGeneration"]);
            without(
                &mut status["rollout"],
                &["lastProgressTime", "stepTime", "message", "stableRevision", "specHash", "liveGate"],
            );
            without(&mut status["rollout"]["window"], &["start"]);
            for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                without(condition, &["lastTransitionTime", "observedGeneration"]);
            }
        }
        "statefulsets" => {
            without(&mut value["spec"], &["ordinals"]);
            without(&mut value["status"], &["observedGeneration"]);
        }
        "pods" => value["status"] = json!(serves(&value)),
        "services" => without(&mut value["spec"], &["clusterIP", "clusterIPs"]),
        "secrets" => value["data"] = Value::Object(Map::new()),
        _ => {}
    }
    if let Some(ports) = value["spec"]["ports"].as_array_mut() {
        ports.iter_mut().for_each(|port| without(port, &["nodePort"]));
    }
    let text = hidden.iter().fold(value.to_string(), |text, (from, to)| text.replace(from, to));
    serde_json::from_str(&text).unwrap_or(value)
}

//! What must be true at every moment, read off the log of changes after a schedule.
//!
//! | oracle | claim |
//! |---|---|
//! | `bystander` | the operator writes no object without its label, and of a ChatCluster the status alone |
//! | `config` | a pod's ConfigMap is there as long as the pod |
//! | `nodes` | as many nodes serve as the spec demands, from the first rest on |
//! | `surge` | a rollout has no more nodes than it may |
//! | `service` | the client Service leads to a node that serves |
//! | `unproven` | while nodes of two revisions are ready, the Service selects one of them |
//! | `once` | a template is written once for a spec and an order: what has failed is not tried again by itself |
//! | `told` | a cluster that tells that it is ready, bound and at rest has the nodes of its present spec, and no others |
//! | `moves-once` | a node of the wanted revision that served is not taken away again |
//! | `settled` | old nodes leave only when the endpoints have shown the new ones alone for the settle time |
//! | `in-place` | no node of a bound cluster that clients were on is restarted under its name |

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    api::store::{Change, Key, Who},
    declared::{DEFAULT_IMAGE, config_name, serves},
    guard::Guard,
    scenario::NAMESPACE,
    world::selects,
};

/// Time that the endpoints have to show new nodes alone before an old one leaves (docs/operations.md).
const SETTLE: Duration = Duration::from_secs(5);

/// Reasons of a condition about something that a spec does without.
const UNASKED: [&str; 2] = ["NotConfigured", "SelfContained"];

const INSTANCE: &str = "app.kubernetes.io/instance";
const MANAGED: &str = "app.kubernetes.io/managed-by";
const REVISION: &str = "controller-revision-hash";

/// The first breach of each oracle, as `oracle: words`.
pub fn judge(log: &[Arc<Change>], guards: &[Guard]) -> Vec<String> {
    let mut objects: BTreeMap<Key, Arc<Value>> = BTreeMap::new();
    let mut judge = Judge {
        breaches: BTreeMap::new(),
        written: BTreeMap::new(),
        used: BTreeSet::new(),
        served: BTreeSet::new(),
        alone_since: BTreeMap::new(),
    };
    for change in log {
        if change.deleted {
            objects.remove(&change.key);
        } else {
            objects.insert(change.key.clone(), change.object.clone());
        }
        judge.bystander(change);
        judge.told(change, &objects);
        let (plural, namespace, _) = &change.key;
        if namespace != NAMESPACE
            || !matches!(*plural, "pods" | "services" | "endpointslices" | "configmaps" | "statefulsets")
        {
            continue;
        }
        judge.config(change, &objects);
        judge.once(change, &objects);
        let guard = guards.iter().filter(|guard| change.version > guard.from && change.version <= guard.to);
        for guard in guard {
            judge.cluster(change, guard, &objects);
        }
    }
    judge.breaches.into_iter().map(|(oracle, words)| format!("{oracle}: {words}")).collect()
}

/// The pods of a cluster that are not about to leave.
fn staying<'a>(
    objects: &'a BTreeMap<Key, Arc<Value>>,
    cluster: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
    let is_staying = move |pod: &Value| {
        pod["metadata"]["labels"][INSTANCE] == cluster && pod["metadata"]["deletionTimestamp"].is_null()
    };
    objects.iter().filter(move |((plural, ..), pod)| *plural == "pods" && is_staying(pod))
}

struct Judge {
    breaches: BTreeMap<&'static str, String>,
    /// Templates that a StatefulSet was given, by its cluster with the generation and the order it had.
    written: BTreeMap<[String; 3], Vec<Value>>,
    /// Pods that clients were on, by the version from which on that counts.
    used: BTreeSet<(u64, String)>,
    /// Pods that served at the wanted revision.
    served: BTreeSet<(u64, String)>,
    /// Since when the endpoints show nodes of the wanted revision alone, by cluster.
    alone_since: BTreeMap<String, Instant>,
}

impl Judge {
    fn breach(&mut self, oracle: &'static str, change: &Change, words: String) {
        let (plural, _, name) = &change.key;
        self.breaches.entry(oracle).or_insert_with(|| format!("{words} (version {}: {plural} {name})", change.version));
    }

    fn bystander(&mut self, change: &Change) {
        if change.who != Who::Operator || matches!(change.key.0, "events" | "leases") {
            return;
        }
        let Some(before) = &change.before else { return };
        if change.key.0 == "chatclusters" {
            if before["spec"] != change.object["spec"] {
                self.breach("bystander", change, "the operator wrote a spec".into());
            }
        } else if before["metadata"]["labels"][MANAGED] != "chatcluster-operator" {
            self.breach("bystander", change, "the operator wrote an object that is not its own".into());
        }
    }

    fn told(&mut self, change: &Change, objects: &BTreeMap<Key, Arc<Value>>) {
        let (plural, _, name) = &change.key;
        let (metadata, spec, status) = (&change.object["metadata"], &change.object["spec"], &change.object["status"]);
        let is_good = |condition: &Value| match condition["type"].as_str() {
            Some("Progressing") => condition["reason"] == "Stable",
            Some("DurabilityReduced") => true,
            _ => condition["status"] == "True" || UNASKED.iter().any(|reason| condition["reason"] == *reason),
        };
        let rests = *plural == "chatclusters"
            && change.who == Who::Operator
            && status["observedGeneration"] == metadata["generation"]
            && status["conditions"].as_array().is_some_and(|conditions| conditions.iter().all(is_good));
        if !rests {
            return;
        }
        let image = spec["image"].as_str().unwrap_or(DEFAULT_IMAGE);
        let is_another = |pod: &Value| pod["spec"]["containers"][0]["image"] != image;
        if let Some(((.., pod), _)) = staying(objects, name).find(|(_, pod)| is_another(pod)) {
            self.breach("told", change, format!("it is at rest, and {pod} is not of {image}"));
        }
    }

    fn config(&mut self, change: &Change, objects: &BTreeMap<Key, Arc<Value>>) {
        for ((plural, namespace, name), pod) in objects {
            if *plural != "pods" || pod["metadata"]["labels"][MANAGED] != "chatcluster-operator" {
                continue;
            }
            let config = config_name(pod);
            let there = objects.contains_key(&("configmaps", namespace.clone(), config.to_owned()));
            // Without its owner, or with one that goes, a pod is about to go itself.
            let cluster = pod["metadata"]["labels"][INSTANCE].as_str().unwrap_or_default().to_owned();
            let owner = objects.get(&("chatclusters", namespace.clone(), cluster));
            let owned = owner.is_some_and(|owner| owner["metadata"]["deletionTimestamp"].is_null());
            let is_born = change.before.is_none() && change.key.0 == "pods" && change.key.2 == *name;
            if !there && owned && (serves(pod) || is_born) {
                self.breach("config", change, format!("pod {name} has lost its ConfigMap {config}"));
            }
        }
    }

    fn once(&mut self, change: &Change, objects: &BTreeMap<Key, Arc<Value>>) {
        let (plural, namespace, name) = &change.key;
        let (Some(before), template) = (&change.before, &change.object["spec"]["template"]) else { return };
        let cluster = objects.get(&("chatclusters", namespace.clone(), name.clone()));
        let (Some(cluster), Who::Operator, "statefulsets") = (cluster, change.who, *plural) else { return };
        if before["spec"]["template"] == *template {
            return;
        }
        let metadata = &cluster["metadata"];
        let order = &metadata["annotations"]["chatcluster.dev/rollout"];
        let spec = [&metadata["uid"], &metadata["generation"], order].map(Value::to_string);
        let written = self.written.entry(spec).or_default();
        if written.contains(template) {
            self.breach("once", change, "a template that was left is written again".into());
        } else {
            written.push(template.clone());
        }
    }

    fn cluster(&mut self, change: &Change, guard: &Guard, objects: &BTreeMap<Key, Arc<Value>>) {
        let of_cluster = |object: &Value| object["metadata"]["labels"][INSTANCE] == *guard.cluster;
        let staying: Vec<_> = staying(objects, &guard.cluster).collect();
        let ready: Vec<_> = staying.iter().filter(|(_, pod)| serves(pod)).collect();
        let number = i64::try_from(ready.len()).unwrap_or(i64::MAX);
        if number < guard.nodes_min {
            self.breach("nodes", change, format!("{number} nodes serve, at least {} must", guard.nodes_min));
        }
        if i64::try_from(staying.len()).unwrap_or(i64::MAX) > guard.nodes_max {
            self.breach("surge", change, format!("{} nodes, at most {} may be", staying.len(), guard.nodes_max));
        }
        let key = |plural| (plural, NAMESPACE.to_owned(), guard.cluster.clone());
        let Some(service) = objects.get(&key("services")) else {
            return self.breach("service", change, "the client Service is gone".into());
        };
        let led_to = ready.iter().filter(|(_, pod)| selects(service, pod)).count();
        for ((.., name), _) in ready.iter().filter(|(_, pod)| selects(service, pod)) {
            self.used.insert((guard.from, name.clone()));
        }
        if led_to == 0 && guard.nodes_min > 0 {
            self.breach("service", change, format!("the Service leads to none of {number} nodes that serve"));
        }
        let revisions: BTreeSet<_> =
            ready.iter().filter_map(|(_, pod)| pod["metadata"]["labels"][REVISION].as_str()).collect();
        if revisions.len() > 1 && service["spec"]["selector"][REVISION].is_null() {
            self.breach("unproven", change, format!("the Service leads to nodes of {revisions:?}"));
        }
        self.settled(change, guard, objects);
        if change.key.0 == "pods" && of_cluster(&change.object) {
            self.pod(change, guard, objects.get(&key("statefulsets")));
        }
    }

    fn settled(&mut self, change: &Change, guard: &Guard, objects: &BTreeMap<Key, Arc<Value>>) {
        let set = objects.get(&("statefulsets", NAMESPACE.to_owned(), guard.cluster.clone()));
        let slice = objects.get(&("endpointslices", NAMESPACE.to_owned(), format!("{}-slice", guard.cluster)));
        let (Some(set), Some(slice)) = (set, slice) else { return };
        let is_set = change.key.0 == "statefulsets" && change.key.2 == guard.cluster;
        let start = |set: &Value| set["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
        if is_set && guard.steers && change.before.as_ref().is_some_and(|before| start(before) < start(set)) {
            let since = self.alone_since.get(&guard.cluster).map(|since| change.at.duration_since(*since));
            if since.is_none_or(|since| since < SETTLE) {
                self.breach(
                    "settled",
                    change,
                    format!("old nodes leave {since:?} after the endpoints showed the new ones alone"),
                );
            }
        }
        let wanted = &set["status"]["updateRevision"];
        let ready = slice["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let is_new = |endpoint: &Value| {
            let name = endpoint["targetRef"]["name"].as_str().unwrap_or_default().to_owned();
            let pod = objects.get(&("pods", NAMESPACE.to_owned(), name));
            pod.is_some_and(|pod| pod["metadata"]["labels"][REVISION] == *wanted)
        };
        if ready.clone().count() > 0 && ready.clone().all(is_new) {
            self.alone_since.entry(guard.cluster.clone()).or_insert(change.at);
        } else {
            self.alone_since.remove(&guard.cluster);
        }
    }

    fn pod(&mut self, change: &Change, guard: &Guard, set: Option<&Arc<Value>>) {
        let name = (guard.from, change.key.2.clone());
        if change.before.is_none() && self.used.contains(&name) && guard.one_rollout {
            self.breach("in-place", change, "a node that clients were on is born again under its name".into());
        }
        let Some(set) = set else { return };
        let wanted = change.object["metadata"]["labels"][REVISION] == set["status"]["updateRevision"]
            && set["status"]["observedGeneration"] == set["metadata"]["generation"];
        if serves(&change.object) && wanted {
            self.served.insert(name.clone());
        }
        let leaves = change.deleted || change.object["metadata"]["deletionTimestamp"].is_string();
        if leaves && wanted && guard.one_rollout && self.served.contains(&name) {
            self.breach("moves-once", change, "a new node that served is taken away".into());
        }
    }
}

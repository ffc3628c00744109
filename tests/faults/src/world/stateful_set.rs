//! The StatefulSet controller, for what is used here: `Parallel`, `RollingUpdate` with a partition, and `ordinals.start`.
//!
//! After `pkg/controller/statefulset` of Kubernetes 1.36: what it creates, adopts and deletes, in which order, at which revision, and
//! what it reports.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::api::{Server, call::Verb, store::Who};

const REVISION: &str = "controller-revision-hash";

/// One sync of every StatefulSet.
pub(super) fn sync(server: &Server) {
    let sets: Vec<_> = server.store().list("statefulsets", None).cloned().collect();
    for set in sets.iter().filter(|set| set["metadata"]["deletionTimestamp"].is_null()) {
        Sync::of(server, set).run();
    }
}

struct Sync<'a> {
    server: &'a Server,
    set: &'a Value,
    namespace: &'a str,
    name: &'a str,
    start: i64,
    replicas: i64,
    partition: i64,
    current: String,
    update: String,
}

impl<'a> Sync<'a> {
    fn of(server: &'a Server, set: &'a Value) -> Self {
        let spec = &set["spec"];
        Sync {
            server,
            set,
            namespace: set["metadata"]["namespace"].as_str().unwrap_or_default(),
            name: set["metadata"]["name"].as_str().unwrap_or_default(),
            start: spec["ordinals"]["start"].as_i64().unwrap_or(0),
            replicas: spec["replicas"].as_i64().unwrap_or(1),
            partition: spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0),
            current: String::new(),
            update: String::new(),
        }
    }

    fn run(&mut self) {
        self.adopt();
        self.revise();
        self.create_and_condemn();
        self.update_one();
        self.report();
        self.forget();
    }

    fn owner(&self) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": self.name, "uid": self.set["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    fn owns(&self, object: &Value) -> bool {
        let uid = &self.set["metadata"]["uid"];
        object["metadata"]["ownerReferences"]
            .as_array()
            .is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == *uid))
    }

    fn selects(&self, object: &Value) -> bool {
        let wanted = self.set["spec"]["selector"]["matchLabels"].as_object();
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| object["metadata"]["labels"][key] == *value))
    }

    fn all(&self, plural: &'static str) -> Vec<Arc<Value>> {
        self.server.store().list(plural, Some(self.namespace)).cloned().collect()
    }

    /// Pods and revisions that nobody controls and that are selected become its own.
    fn adopt(&self) {
        for plural in ["pods", "controllerrevisions"] {
            let is_free = |object: &Value| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                owners.is_none_or(|owners| owners.iter().all(|owner| owner["controller"] != true))
                    && object["metadata"]["deletionTimestamp"].is_null()
            };
            let named = |object: &Value| plural != "pods" || self.ordinal(object).is_some();
            for object in
                self.all(plural).into_iter().filter(|object| self.selects(object) && is_free(object) && named(object))
            {
                let adopted = json!({"metadata": {"ownerReferences": [self.owner()]}});
                self.write(Verb::Merge, plural, &object["metadata"]["name"], adopted);
            }
        }
    }

    fn write(&self, verb: Verb, plural: &str, name: &Value, body: Value) {
        // The next sync finds what a refused write has left to do.
        drop(self.server.write(verb, Who::Kubernetes, plural, self.namespace, name.as_str().unwrap_or_default(), body));
    }

    fn revisions(&self) -> Vec<Arc<Value>> {
        let mut revisions: Vec<_> =
            self.all("controllerrevisions").into_iter().filter(|revision| self.owns(revision)).collect();
        revisions.sort_by_key(|revision| revision["revision"].as_i64());
        revisions
    }

    /// Finds or makes the revision of the template; an old one that is wanted again becomes the newest.
    fn revise(&mut self) {
        let template = &self.set["spec"]["template"];
        let mut hasher = DefaultHasher::new();
        template.to_string().hash(&mut hasher);
        let hash = format!("{:010x}", hasher.finish() >> 24);
        let name = format!("{}-{hash}", self.name);
        let revisions = self.revisions();
        let newest = revisions.last().and_then(|revision| revision["revision"].as_i64()).unwrap_or(0);
        match revisions.iter().find(|revision| revision["metadata"]["name"] == name) {
            None => {
                let mut labels = template["metadata"]["labels"].clone();
                labels[REVISION] = json!(hash);
                let revision = json!({
                    "metadata": {"name": name, "labels": labels, "ownerReferences": [self.owner()]},
                    "data": {"spec": {"template": template}}, "revision": newest + 1,
                });
                self.write(Verb::Create, "controllerrevisions", &json!(""), revision);
            }
            Some(known) if known["revision"] != newest => {
                self.write(Verb::Merge, "controllerrevisions", &json!(name), json!({"revision": newest + 1}));
            }
            Some(_) => {}
        }
        let current = self.set["status"]["currentRevision"].as_str().unwrap_or_default();
        let is_known = revisions.iter().any(|revision| revision["metadata"]["name"] == current);
        self.current = if is_known { current.to_owned() } else { name.clone() };
        self.update = name;
    }

    /// The number at the end of a pod's name.
    fn ordinal(&self, pod: &Value) -> Option<i64> {
        pod["metadata"]["name"].as_str()?.strip_prefix(self.name)?.strip_prefix('-')?.parse().ok()
    }

    /// Its pods by ordinal, lowest first.
    fn pods(&self) -> Vec<(i64, Arc<Value>)> {
        let pods = self.all("pods").into_iter().filter(|pod| self.owns(pod));
        let mut pods: Vec<_> = pods.filter_map(|pod| Some((self.ordinal(&pod)?, pod))).collect();
        pods.sort_by_key(|(ordinal, _)| *ordinal);
        pods
    }

    fn is_within(&self, ordinal: i64) -> bool {
        (self.start..self.start + self.replicas).contains(&ordinal)
    }

    /// All at once, as `Parallel` says: what is missing is made, what is outside of the window is deleted.
    fn create_and_condemn(&self) {
        let pods = self.pods();
        for ordinal in
            (self.start..self.start + self.replicas).filter(|wanted| !pods.iter().any(|(there, _)| there == wanted))
        {
            let revision = if ordinal < self.start + self.partition { &self.current } else { &self.update };
            self.create(ordinal, revision);
        }
        for (_, pod) in pods.iter().filter(|(ordinal, pod)| !self.is_within(*ordinal) && !is_leaving(pod)) {
            self.write(Verb::Delete, "pods", &pod["metadata"]["name"], json!({}));
        }
    }

    fn create(&self, ordinal: i64, revision: &str) {
        let found = self.revisions().into_iter().find(|found| found["metadata"]["name"] == *revision);
        let template = found
            .map_or_else(|| self.set["spec"]["template"].clone(), |found| found["data"]["spec"]["template"].clone());
        let name = format!("{}-{ordinal}", self.name);
        let mut labels = template["metadata"]["labels"].clone();
        labels[REVISION] = json!(revision);
        labels["statefulset.kubernetes.io/pod-name"] = json!(name);
        labels["apps.kubernetes.io/pod-index"] = json!(ordinal.to_string());
        let mut pod = json!({
            "metadata": {"name": name, "labels": labels, "ownerReferences": [self.owner()]},
            "spec": template["spec"],
        });
        if template["metadata"]["annotations"].is_object() {
            pod["metadata"]["annotations"] = template["metadata"]["annotations"].clone();
        }
        self.write(Verb::Create, "pods", &json!(""), pod);
    }

    /// From the highest ordinal down to the partition: the first stray pod is deleted, and one that is not ready is waited for.
    fn update_one(&self) {
        let pods = self.pods();
        let above = pods
            .iter()
            .rev()
            .filter(|(ordinal, _)| self.is_within(*ordinal) && *ordinal >= self.start + self.partition);
        for (_, pod) in above {
            if pod["metadata"]["labels"][REVISION] != *self.update && !is_leaving(pod) {
                self.write(Verb::Delete, "pods", &pod["metadata"]["name"], json!({}));
                return;
            }
            if !is_ready(pod) || is_leaving(pod) {
                return;
            }
        }
    }

    fn report(&self) {
        let pods = self.pods();
        let count = |wanted: &dyn Fn(&Value) -> bool| pods.iter().filter(|(_, pod)| wanted(pod)).count();
        let of = |revision: &str| count(&|pod| !is_leaving(pod) && pod["metadata"]["labels"][REVISION] == revision);
        let ready = count(&is_ready);
        let updated = of(&self.update);
        let all = usize::try_from(self.replicas).unwrap_or(0);
        let complete = updated == all && ready == all && pods.len() == all;
        let current = if complete { &self.update } else { &self.current };
        let status = json!({
            "observedGeneration": self.set["metadata"]["generation"],
            "replicas": pods.len(), "readyReplicas": ready, "availableReplicas": ready,
            "currentReplicas": of(current), "updatedReplicas": updated,
            "currentRevision": current, "updateRevision": self.update,
        });
        let is_so = status.as_object().into_iter().flatten().all(|(field, value)| self.set["status"][field] == *value);
        if is_so {
            return;
        }
        let status = json!({"status": status});
        self.write(Verb::Merge, "statefulsets", &json!(format!("{}/status", self.name)), status);
    }

    /// Revisions that nothing uses go, but for the newest of them.
    fn forget(&self) {
        let limit = self.set["spec"]["revisionHistoryLimit"].as_u64().unwrap_or(10);
        let pods = self.pods();
        let is_used = |name: &Value| {
            *name == *self.current
                || *name == *self.update
                || pods.iter().any(|(_, pod)| pod["metadata"]["labels"][REVISION] == *name)
        };
        let unused: Vec<_> =
            self.revisions().into_iter().filter(|revision| !is_used(&revision["metadata"]["name"])).collect();
        let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for revision in unused.iter().take(surplus) {
            self.write(Verb::Delete, "controllerrevisions", &revision["metadata"]["name"], json!({}));
        }
    }
}

fn is_leaving(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

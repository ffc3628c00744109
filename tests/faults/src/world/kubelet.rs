//! The kubelet: pods get an address, become ready and leave, each in its time; and what a node answers on its admin port.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use crds::{
    NodeStatus,
    node_status::{Dependency, Recent, SelfTest},
};
use operator::nodes::Nodes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api::{Server, call::Verb, store::Who},
    clock,
};

/// An image that never becomes ready.
pub const BROKEN: &str = "chat-node:broken";

/// An image whose nodes fail the test that they make of themselves.
pub const UNPROVEN: &str = "chat-node:unproven";

/// An image whose nodes fail every other send of the clients that are on them.
pub const WORSE: &str = "chat-node:worse";

/// Whether the nodes of a spec are no good.
pub fn fails(spec: &Value) -> bool {
    [BROKEN, UNPROVEN, WORSE].iter().any(|image| spec["image"] == *image)
}

/// Sends of a node in the latest minute.
const SENDS: u64 = 1_000;

/// Time from a pod's creation to its readiness.
const STARTS: Duration = Duration::from_millis(1_300);

/// Time from a pod's deletion to its end.
const LEAVES: Duration = Duration::from_millis(2_700);

/// When something is due, by pod.
#[derive(Default)]
pub(super) struct Kubelet {
    due: BTreeMap<String, (bool, Instant)>,
}

impl Kubelet {
    /// When the next pod is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        self.due.values().map(|(_, at)| *at).filter(|at| *at > now).min()
    }

    /// Does what is due.
    pub(super) fn sync(&mut self, server: &Server) {
        let pods: Vec<_> = server.store().list("pods", None).cloned().collect();
        self.due.retain(|known, _| pods.iter().any(|pod| uid(pod) == *known));
        let now = Instant::now();
        for pod in pods {
            let leaving = pod["metadata"]["deletionTimestamp"].is_string();
            let due = self.due.entry(uid(&pod)).or_insert((false, now + STARTS));
            if leaving && !due.0 {
                *due = (true, now + LEAVES);
            }
            let is_due = now >= due.1;
            let (namespace, name) = name(&pod);
            if leaving && is_due {
                server.store().remove(&("pods", namespace, name), Who::Kubernetes);
                continue;
            }
            let broken = image(&pod) == BROKEN;
            let status = status(&pod, !leaving && is_due && !broken);
            if is_so(&pod["status"], &status["status"]) {
                continue;
            }
            // The pod may have gone in between.
            drop(server.write(Verb::Merge, Who::Kubernetes, "pods", &namespace, &format!("{name}/status"), status));
        }
    }
}

fn name(pod: &Value) -> (String, String) {
    let part = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
    (part("namespace"), part("name"))
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn failed(failures: u32) -> SelfTest {
    SelfTest { failures, step: "send".into(), error: "as planned".into(), ..SelfTest::default() }
}

fn is_so(live: &Value, wanted: &Value) -> bool {
    wanted.as_object().into_iter().flatten().all(|(field, value)| live[field] == *value)
}

fn status(pod: &Value, ready: bool) -> Value {
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let number = u32::from_str_radix(uid.rsplit('-').next().unwrap_or_default(), 16).unwrap_or(0);
    let word = if ready { "True" } else { "False" };
    let before =
        pod["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let since = before.filter(|before| before["status"] == word).map(|before| before["lastTransitionTime"].clone());
    let since = since.unwrap_or_else(|| json!(clock::text()));
    json!({"status": {
        "phase": "Running",
        "podIP": format!("10.{}.{}.{}", number / 62_500 % 250, number / 250 % 250, number % 250 + 1),
        "conditions": [{"type": "Ready", "status": word, "lastTransitionTime": since}],
    }})
}

/// Answers for the nodes, from what the pods are.
pub struct Answers {
    server: Server,
    /// Self-tests that did not pass, by pod.
    failures: Mutex<BTreeMap<String, u32>>,
}

impl Answers {
    /// Answers for the pods of a server.
    pub fn new(server: Server) -> Self {
        Answers { server, failures: Mutex::default() }
    }

    /// The pod at an address, when it is ready.
    fn ready(&self, ip: &str) -> Option<Arc<Value>> {
        let store = self.server.store();
        let pod = store.list("pods", None).find(|pod| pod["status"]["podIP"] == ip)?;
        (pod["status"]["conditions"][0]["status"] == "True").then(|| pod.clone())
    }
}

#[async_trait]
impl Nodes for Answers {
    async fn status(&self, ip: &str) -> Option<NodeStatus> {
        let pod = self.ready(ip)?;
        let up = |kind: &str| Dependency { kind: kind.into(), up: true, error: None };
        let sends_failed = if image(&pod) == WORSE { SENDS / 2 } else { 0 };
        let failures = self.failures.lock().get(&uid(&pod)).copied();
        Some(NodeStatus {
            node: pod["metadata"]["name"].as_str().unwrap_or_default().into(),
            recent: Recent { sends: SENDS, sends_failed, ..Recent::default() },
            self_test: failures.map(failed),
            revision: pod["metadata"]["labels"]["controller-revision-hash"].as_str().unwrap_or_default().into(),
            connections: 10,
            store: up("postgres"),
            store_synchronous: Some(true),
            bus: up("rabbitmq"),
            ..NodeStatus::default()
        })
    }

    async fn self_test(&self, ip: &str) -> Option<SelfTest> {
        let pod = self.ready(ip)?;
        if image(&pod) != UNPROVEN {
            return Some(SelfTest { passed: true, ..SelfTest::default() });
        }
        let mut failures = self.failures.lock();
        let failures = failures.entry(uid(&pod)).or_default();
        *failures += 1;
        Some(failed(*failures))
    }
}

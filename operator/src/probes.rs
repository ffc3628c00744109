//! What nodes tell when they are asked, and for how long that is good enough.
//!
//! Owns when a node is asked. A ready one is, now and then, and more often during a rollout, which is judged by it; one that should be ready and
//! is not is asked what keeps it. What that means is decided elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crds::{
    ChatCluster, NodeStatus,
    chatcluster::RolloutPhase,
    node_status::{Dependency, SelfTest},
};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    nodes::Nodes,
    pods::{is_ready, since},
};

/// How long what nodes told is good enough.
pub const STATUS_AGE_MAX: Duration = Duration::from_secs(30);

/// The same during a rollout.
const ROLLOUT_STATUS_AGE_MAX: Duration = Duration::from_secs(2);

/// Time after which a node that is not ready is asked why. One that starts as it should is never asked.
const LATE: SignedDuration = SignedDuration::from_secs(20);

/// What a cluster's nodes told.
#[derive(Clone, Default)]
pub struct Told {
    /// The ready ones, by pod.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// What the first that cannot use something says of it.
    pub trouble: Option<String>,
    /// The ready ones that gave no answer.
    silent: BTreeSet<String>,
}

/// Outcomes of self-tests by the pods' ids: a node from before there were any does not remember its own.
type SelfTests = HashMap<String, SelfTest>;

/// Asks nodes, and remembers what they told.
pub struct Probes {
    nodes: Arc<dyn Nodes>,
    told: Mutex<HashMap<ObjectRef<ChatCluster>, (Instant, Told)>>,
    self_tests: Mutex<HashMap<ObjectRef<ChatCluster>, SelfTests>>,
}

impl Probes {
    /// Asks these nodes.
    pub fn new(nodes: Arc<dyn Nodes>) -> Self {
        Probes { nodes, told: Mutex::default(), self_tests: Mutex::default() }
    }

    /// Asks the nodes for their status, but not too often.
    pub async fn status(&self, cluster: &ChatCluster, pods: &[Pod], now: Timestamp) -> Told {
        let reference = ObjectRef::from_obj(cluster);
        let rollout = cluster.status.as_ref().and_then(|status| status.rollout.as_ref());
        let rests = rollout.is_none_or(|rollout| rollout.phase == RolloutPhase::Stable);
        let age_max = if rests { STATUS_AGE_MAX } else { ROLLOUT_STATUS_AGE_MAX };
        // The first one that is ready is asked at once, but not each time when it does not answer.
        let is_first = |told: &Told| told.nodes.is_empty() && told.silent.is_empty() && pods.iter().any(is_ready);
        let age_max = |told: &Told| match told.nodes.is_empty() && !told.silent.is_empty() {
            true => ROLLOUT_STATUS_AGE_MAX,
            false => age_max,
        };
        if let Some((at, told)) = self.told.lock().await.get(&reference)
            && at.elapsed() < age_max(told)
            && !is_first(told)
        {
            return told.clone();
        }
        let asked = pods.iter().filter(|pod| is_ready(pod) || is_late(pod, now)).filter_map(|pod| {
            let ip = pod.status.as_ref()?.pod_ip.clone()?;
            Some(async move { Some((pod, self.nodes.status(&ip).await?)) })
        });
        let answers: Vec<(&Pod, NodeStatus)> = join_all(asked).await.into_iter().flatten().collect();
        let trouble = answers.iter().find_map(|(pod, status)| trouble(&pod.name_any(), status));
        let known = self.self_tests.lock().await;
        let tests = known.get(&reference);
        let ready = answers.into_iter().filter(|(pod, _)| is_ready(pod));
        let with_test = ready.map(|(pod, mut status)| {
            let remembered = || tests?.get(&pod.uid()?).cloned();
            status.self_test = status.self_test.or_else(remembered);
            (pod.name_any(), status)
        });
        let nodes: BTreeMap<_, _> = with_test.collect();
        let names = pods.iter().filter(|pod| is_ready(pod)).map(ResourceExt::name_any);
        let silent = names.filter(|name| !nodes.contains_key(name)).collect();
        let told = Told { nodes, trouble, silent };
        self.told.lock().await.insert(reference, (Instant::now(), told.clone()));
        told
    }

    /// Has the nodes of some pods of a cluster test themselves, but for those that do not even tell their status. Tells whether all passed.
    pub async fn self_test(&self, cluster: &ChatCluster, pods: &[Pod], names: &[String]) -> bool {
        let reference = ObjectRef::from_obj(cluster);
        let silent = self.told.lock().await.get(&reference).map(|(_, told)| told.silent.clone()).unwrap_or_default();
        let is_asked = |name: String| names.contains(&name) && !silent.contains(&name);
        let asked = pods.iter().filter(|pod| is_asked(pod.name_any())).filter_map(|pod| {
            let (ip, uid) = (pod.status.as_ref()?.pod_ip.clone()?, pod.uid()?);
            Some(async move { Some((uid, self.nodes.self_test(&ip).await?)) })
        });
        let answers: SelfTests = join_all(asked).await.into_iter().flatten().collect();
        let passed = answers.values().filter(|test| test.passed).count() == names.len();
        if answers.is_empty() {
            return false;
        }
        let mut known = self.self_tests.lock().await;
        let tests = known.entry(reference.clone()).or_default();
        tests.retain(|uid, _| pods.iter().any(|pod| pod.uid().as_ref() == Some(uid)));
        tests.extend(answers);
        self.told.lock().await.remove(&reference);
        passed
    }

    /// Forgets a cluster that is gone.
    pub async fn forget(&self, cluster: &ObjectRef<ChatCluster>) {
        self.told.lock().await.remove(cluster);
        self.self_tests.lock().await.remove(cluster);
    }
}

/// Whether a pod should be ready by now.
fn is_late(pod: &Pod, now: Timestamp) -> bool {
    !is_ready(pod) && pod.metadata.deletion_timestamp.is_none() && now.duration_since(since(pod)) >= LATE
}

/// What a node cannot use, and why. The words are the server's or the system's.
fn trouble(pod: &str, status: &NodeStatus) -> Option<String> {
    let all = [Some(&status.store), Some(&status.bus), status.queue.as_ref(), status.redis.as_ref()];
    let mut told: BTreeMap<&str, &str> = BTreeMap::new();
    for Dependency { kind, error, .. } in all.into_iter().flatten().filter(|dependency| !dependency.up) {
        if let Some(error) = error {
            // The bus and the queue are of one server.
            told.entry(kind).or_insert(error);
        }
    }
    let reasons: Vec<String> = told.into_iter().map(|(kind, error)| format!("cannot use {kind}: {error}")).collect();
    (!reasons.is_empty()).then(|| format!("{pod} {}", reasons.join("; it ")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;

    const BEGAN: i64 = 1_000;

    /// Nodes that all wait for their database, and how often they were asked.
    #[derive(Default)]
    struct Waiting(AtomicUsize);

    #[async_trait]
    impl Nodes for Waiting {
        async fn status(&self, ip: &str) -> Option<NodeStatus> {
            self.0.fetch_add(1, Relaxed);
            let store = Dependency { kind: "postgres".into(), up: false, error: Some(format!("refused at {ip}")) };
            Some(NodeStatus { store, ..NodeStatus::default() })
        }

        async fn self_test(&self, _: &str) -> Option<SelfTest> {
            None
        }
    }

    fn pod(name: &str, ready: &str) -> Pod {
        let changed = at(0).to_string();
        let pod = json!({
            "metadata": {"name": name, "creationTimestamp": changed},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": changed}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(BEGAN + second).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_late_is_asked_what_keeps_it() {
        let waiting = Arc::new(Waiting::default());
        let probes = Probes::new(waiting.clone());
        let cluster = ChatCluster::new("demo", crds::ChatClusterSpec::default());
        let mut late = pod("demo-0", "False");
        let told = probes.status(&cluster, std::slice::from_ref(&late), at(19)).await;
        assert!(told.trouble.is_none() && waiting.0.load(Relaxed) == 0, "it may still be starting");
        tokio::time::advance(STATUS_AGE_MAX).await;
        let told = probes.status(&cluster, std::slice::from_ref(&late), at(20)).await;
        assert_eq!(told.trouble.as_deref(), Some("demo-0 cannot use postgres: refused at 10.0.0.1"));
        assert!(told.nodes.is_empty(), "what it tells judges no rollout");
        probes.status(&cluster, std::slice::from_ref(&late), at(21)).await;
        assert_eq!(waiting.0.load(Relaxed), 1, "not again so soon");
        let told = probes.status(&cluster, &[pod("demo-0", "True")], at(22)).await;
        assert_eq!((told.nodes.len(), waiting.0.load(Relaxed)), (1, 2), "the first that is ready is asked at once");
        late.metadata.deletion_timestamp = late.metadata.creation_timestamp.clone();
        assert!(!is_late(&late, at(99)), "whoever leaves is not asked");
        probes.forget(&ObjectRef::from_obj(&cluster)).await;
        assert!(probes.told.lock().await.is_empty());
    }

    /// Nodes whose ports are closed, and how often they were asked for their status and to test themselves.
    #[derive(Default)]
    struct Closed(AtomicUsize, AtomicUsize);

    #[async_trait]
    impl Nodes for Closed {
        async fn status(&self, _: &str) -> Option<NodeStatus> {
            self.0.fetch_add(1, Relaxed);
            None
        }

        async fn self_test(&self, _: &str) -> Option<SelfTest> {
            self.1.fetch_add(1, Relaxed);
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_is_asked_seldom_and_for_no_self_test() {
        let closed = Arc::new(Closed::default());
        let probes = Probes::new(closed.clone());
        let cluster = ChatCluster::new("demo", crds::ChatClusterSpec::default());
        let pods = [pod("demo-0", "True")];
        for _ in 0..5 {
            assert!(probes.status(&cluster, &pods, at(0)).await.nodes.is_empty());
            assert!(!probes.self_test(&cluster, &pods, &["demo-0".into()]).await);
        }
        assert_eq!((closed.0.load(Relaxed), closed.1.load(Relaxed)), (1, 0));
        tokio::time::advance(ROLLOUT_STATUS_AGE_MAX).await;
        probes.status(&cluster, &pods, at(2)).await;
        assert_eq!(closed.0.load(Relaxed), 2);
    }

    #[test]
    fn what_can_be_used_or_has_no_reason_is_no_trouble() {
        let dependency =
            |up, error: Option<&str>| Dependency { kind: "redis".into(), up, error: error.map(str::to_owned) };
        let status = |redis| NodeStatus {
            store: dependency(true, None),
            bus: dependency(false, None),
            redis: Some(redis),
            ..NodeStatus::default()
        };
        assert_eq!(trouble("a", &status(dependency(true, None))), None);
        let away = status(dependency(false, Some("NOAUTH")));
        let told = trouble("a", &away);
        assert_eq!(told.as_deref(), Some("a cannot use redis: NOAUTH"), "an older node tells no reason of its bus");
        let rabbitmq = |error: &str| Dependency { kind: "rabbitmq".into(), up: false, error: Some(error.into()) };
        let both = NodeStatus { bus: rabbitmq("refused"), queue: Some(rabbitmq("lost")), ..away };
        let told = trouble("a", &both);
        assert_eq!(told.as_deref(), Some("a cannot use rabbitmq: refused; it cannot use redis: NOAUTH"));
    }
}

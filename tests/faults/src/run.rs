//! One schedule: a scenario with faults, in a world of its own, from its first moment to rest.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use operator::{
    controller::{self, Options},
    desired::POD_TEMPLATE_VERSION,
    health::Health,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Server, call::Verb, store::Who},
    clock,
    declared::{self, DEFAULT_IMAGE},
    guard::Guards,
    judge::judge,
    plan::{Fault, Made, Plan},
    scenario::{self, NAMESPACE, Scenario, Step},
    world::{self, Answers},
};

/// Seconds within which a cluster has to come to what was declared.
const REST_SECONDS_MAX: u64 = 900;

/// Time without a write after which a cluster is at rest. The operator looks again every 30 seconds, gives a reconcile up after 45, and leaves a
/// ConfigMap for two minutes.
const QUIET: Duration = Duration::from_secs(160);

/// Time between the end of a process and the next one.
const RESTART: Duration = Duration::from_secs(1);

/// Kinds that the operator watches.
const WATCHED: [&str; 10] = [
    "chatclusters",
    "statefulsets",
    "services",
    "configmaps",
    "serviceaccounts",
    "poddisruptionbudgets",
    "pods",
    "controllerrevisions",
    "endpointslices",
    "secrets",
];

/// What came of a schedule.
#[derive(Debug)]
pub struct Outcome {
    /// What was broken, each as `oracle: words`.
    pub breaches: Vec<String>,
    /// The calls of the operator.
    pub made: Vec<Made>,
    /// Changes that the operator was told, the kind of each by its version.
    pub told: BTreeMap<u64, &'static str>,
    /// The state in the end, by cluster and object.
    pub end: BTreeMap<String, BTreeMap<String, Value>>,
    /// Whether a planned fault came true.
    pub met: bool,
    /// Every change, for a replay.
    pub log: Vec<String>,
}

/// Runs a schedule.
///
/// # Panics
/// When the runtime cannot be built.
pub fn run(scenario: &Scenario, faults: &[Fault]) -> Outcome {
    // The jitter of watches comes from this generator, one per thread.
    fastrand::seed(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(async {
        clock::begin();
        let mut schedule = Schedule::new(faults);
        schedule.walk(scenario).await;
        schedule.outcome()
    })
}

struct Schedule {
    server: Server,
    plan: Arc<Plan>,
    breaches: Arc<Mutex<Vec<String>>>,
    kubernetes: JoinHandle<()>,
    /// Nobody looks after StatefulSets.
    away: Arc<AtomicBool>,
    process: JoinHandle<()>,
    /// What users want, by cluster.
    wanted: BTreeMap<&'static str, Value>,
    /// What they wanted at the last rest.
    stood: BTreeMap<&'static str, Value>,
    guards: Guards,
    bystanders: BTreeMap<(&'static str, &'static str), Value>,
}

impl Schedule {
    fn new(faults: &[Fault]) -> Self {
        let server = Server::default();
        let plan = Arc::new(Plan::new(faults));
        let breaches = Arc::new(Mutex::new(Vec::new()));
        let away = Arc::new(AtomicBool::new(false));
        Schedule {
            kubernetes: tokio::spawn(world::run(server.clone(), away.clone())),
            away,
            process: tokio::spawn(process(server.clone(), plan.clone(), breaches.clone())),
            server,
            plan,
            breaches,
            wanted: BTreeMap::new(),
            stood: BTreeMap::new(),
            guards: Guards::default(),
            bystanders: BTreeMap::new(),
        }
    }

    async fn walk(&mut self, scenario: &Scenario) {
        for step in scenario::before() {
            self.step(&step).await;
        }
        for (plural, name) in
            [("configmaps", "other"), ("services", "other"), ("statefulsets", "other"), ("secrets", "token")]
        {
            let spec = self.server.get(plural, NAMESPACE, name).map(|object| (*object).clone()).unwrap_or_default();
            self.bystanders.insert((plural, name), spec);
        }
        for step in &scenario.steps {
            if !self.step(step).await {
                break;
            }
        }
        for ((plural, name), before) in &self.bystanders {
            let now = self.server.get(plural, NAMESPACE, name);
            let part = |object: &Value| {
                (
                    object["metadata"]["uid"].clone(),
                    object["metadata"]["labels"].clone(),
                    object["spec"].clone(),
                    object["data"].clone(),
                )
            };
            if now.is_none_or(|now| part(&now) != part(before)) {
                self.breaches.lock().push(format!("bystander: {plural} {name} is not as it was"));
            }
        }
    }

    /// One step; false when the schedule cannot go on.
    async fn step(&mut self, step: &Step) -> bool {
        let server = self.server.clone();
        let put = |plural, name: &str, body| {
            let done = server.put(Who::User, plural, NAMESPACE, name, body);
            done.map_err(|refusal| format!("scenario: {plural} {name} was refused: {}", refusal.message))
        };
        let done = match step {
            Step::Want(name, spec) => {
                let done = self.want(name, spec);
                done.map_err(|refusal| format!("scenario: the spec of {name} was refused: {refusal}"))
            }
            Step::Put(plural, name, body) => {
                self.disturb();
                put(plural, name, body.clone()).map(drop)
            }
            Step::Delete(plural, name) | Step::Orphan(plural, name) | Step::Foreground(plural, name) => {
                self.disturb();
                self.wanted.retain(|cluster, _| *plural != "chatclusters" || cluster != name);
                let policy = match step {
                    Step::Orphan(..) => "Orphan",
                    Step::Foreground(..) => "Foreground",
                    _ => "Background",
                };
                let options = json!({"propagationPolicy": policy});
                // Deleting what is not there is no mistake of the scenario.
                drop(self.server.write(Verb::Delete, Who::User, plural, NAMESPACE, name, options));
                Ok(())
            }
            Step::Gone(plural, name, seconds) => {
                let is_gone = || match self.server.get(plural, NAMESPACE, name) {
                    None => Ok(()),
                    Some(left) => Err(format!("gone: {plural} {name} is still there: {}", left["metadata"])),
                };
                within(*seconds, is_gone).await
            }
            Step::LosePod(name) => {
                self.disturb();
                if let Some(pod) = self.pods(name).last() {
                    self.lose(pod);
                }
                Ok(())
            }
            Step::LoseSecond(name) => {
                let serving: Vec<_> = self.pods(name).into_iter().filter(|pod| declared::serves(pod)).collect();
                let least = self.guards.open(name).map_or(0, |guard| usize::try_from(guard.nodes_min).unwrap_or(0));
                match serving.get(1) {
                    Some(pod) if serving.len() > least => {
                        self.lose(pod);
                        self.turn(name);
                        Ok(())
                    }
                    _ => Err(format!("scenario: only {} nodes of {name} serve", serving.len())),
                }
            }
            Step::Away(seconds) => {
                self.away.store(true, Relaxed);
                let (server, away) = (self.server.clone(), self.away.clone());
                let seconds = Duration::from_secs(*seconds);
                tokio::spawn(async move {
                    sleep(seconds).await;
                    away.store(false, Relaxed);
                    server.bell().notify_waiters();
                });
                Ok(())
            }
            Step::Pass(seconds) => {
                sleep(Duration::from_secs(*seconds)).await;
                Ok(())
            }
            Step::Restart => {
                self.plan.crash();
                Ok(())
            }
            Step::Within(seconds) => within(*seconds, || self.check(None))
                .await
                .map_err(|error| format!("in-time: not within {seconds} s: {error}")),
            Step::Settle => self.settle(None).await,
            Step::Return(name) => self.settle(Some(name)).await,
            Step::Order(name, order) => {
                let annotation = json!({"metadata": {"annotations": {"chatcluster.dev/rollout": order}}});
                let done = put("chatclusters", name, annotation).map(drop);
                self.turn(name);
                done
            }
            Step::Waits(name) => {
                until(|| declared::check_waits(&self.server, name)).await.map_err(|error| format!("waits: {error}"))
            }
            Step::Runs(name, image, nodes) => {
                let runs = || declared::check_runs(&self.server, name, image, *nodes);
                until(runs).await.map_err(|error| format!("runs: {name}: {error}"))
            }
        };
        if let Err(breach) = done {
            self.breaches.lock().push(breach);
            return false;
        }
        true
    }

    /// A user's `kubectl replace`, or `create`.
    fn want(&mut self, name: &'static str, spec: &Value) -> Result<(), String> {
        let metadata = json!({"name": name});
        let body = json!({"metadata": metadata, "spec": spec});
        let there = self.server.get("chatclusters", NAMESPACE, name).is_some();
        let (verb, path) = if there { (Verb::Replace, name) } else { (Verb::Create, "") };
        let version = self.server.store().version();
        let done = self.server.write(verb, Who::User, "chatclusters", NAMESPACE, path, body);
        let (_, object) = done.map_err(|refusal| refusal.message)?;
        let new = object["spec"].clone();
        if let Some(before) = self.wanted.insert(name, new.clone()) {
            self.guards.changes(name, version, &before, &new);
        }
        Ok(())
    }

    /// Something was done that a rollout may turn by.
    fn turn(&mut self, cluster: &str) {
        let version = self.server.store().version();
        self.guards.turns(cluster, version);
    }

    /// The pods of a cluster, the oldest first.
    fn pods(&self, cluster: &str) -> Vec<Arc<Value>> {
        declared::pods(&self.server.store(), cluster).cloned().collect()
    }

    fn lose(&self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.server.store().remove(&("pods", NAMESPACE.to_owned(), name), Who::User);
    }

    /// From now on until the next rest anything may be missing.
    fn disturb(&mut self) {
        let version = self.server.store().version();
        for cluster in self.wanted.keys() {
            self.guards.close(cluster, version);
        }
    }

    /// Waits until every cluster is as declared, but for one whose spec has failed, and no longer changes.
    async fn settle(&mut self, failed: Option<&str>) -> Result<(), String> {
        let began = tokio::time::Instant::now();
        loop {
            until(|| self.check(failed)).await.map_err(|error| format!("declared: {error}"))?;
            let before = (self.plan.writes(), self.writes_logged());
            sleep(QUIET).await;
            if before == (self.plan.writes(), self.writes_logged()) {
                break;
            }
            if began.elapsed() > Duration::from_secs(REST_SECONDS_MAX) {
                let made = self.plan.made();
                let last: Vec<_> = made.iter().rev().filter(|made| made.verb.writes()).take(3).collect();
                return Err(format!("steady: the operator goes on to write: {last:?}"));
            }
        }
        self.check(failed).map_err(|error| format!("declared: not any more: {error}"))?;
        let version = self.server.store().version();
        for (name, spec) in &self.wanted {
            if failed != Some(*name) {
                self.stood.insert(name, spec.clone());
            }
            self.guards.rests(name, version, spec);
        }
        Ok(())
    }

    /// Whether every cluster is as declared, but for one whose spec has failed: that is as it was at the last rest.
    fn check(&self, failed: Option<&str>) -> Result<(), String> {
        self.wanted.keys().try_for_each(|name| {
            let returned_to = failed.filter(|failed| failed == name).and_then(|failed| self.stood.get(failed));
            declared::check(&self.server, name, returned_to).map_err(|error| format!("{name}: {error}"))
        })
    }

    fn writes_logged(&self) -> usize {
        self.server.store().log().iter().filter(|change| change.who == Who::Operator).count()
    }

    fn outcome(self) -> Outcome {
        let store = self.server.store();
        let mut breaches = self.breaches.lock().clone();
        if self.kubernetes.is_finished() || self.process.is_finished() {
            breaches.push("world: the controllers, or what starts the operator, have ended".into());
        }
        breaches.extend(judge(store.log(), self.guards.all()));
        let is_told = |object: &Value, plural: &str| {
            plural == "secrets"
                || plural == "chatclusters"
                || object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "chatcluster-operator"
        };
        let told = store
            .log()
            .iter()
            .filter(|change| WATCHED.contains(&change.key.0) && is_told(&change.object, change.key.0));
        let told = told.map(|change| (change.version, change.key.0)).collect();
        let line = |change: &Arc<crate::api::store::Change>| {
            let what = if change.deleted {
                "deleted"
            } else if change.before.is_none() {
                "created"
            } else {
                "changed"
            };
            let name = if change.key.0 == "events" { "" } else { change.key.2.as_str() };
            format!("{:>5} {:?} {what} {} {name}", change.version, change.who, change.key.0)
        };
        let log = store.log().iter().map(line).collect();
        drop(store);
        let end =
            self.wanted.keys().map(|name| ((*name).to_owned(), declared::end_state(&self.server, name))).collect();
        Outcome { breaches, made: self.plan.made(), told, end, met: self.plan.met(), log }
    }
}

/// Waits, second by second, until a check holds.
async fn until(check: impl Fn() -> Result<(), String>) -> Result<(), String> {
    within(REST_SECONDS_MAX, check).await
}

async fn within(seconds: u64, check: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let mut last = Ok(());
    for _ in 0..seconds {
        last = check();
        if last.is_ok() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    last
}

/// The operator's process, which is started again whenever it ends.
async fn process(server: Server, plan: Arc<Plan>, breaches: Arc<Mutex<Vec<String>>>) {
    let nodes = Arc::new(Answers::new(server.clone()));
    loop {
        let options = Options {
            namespace: None,
            node_image: DEFAULT_IMAGE.into(),
            concurrency: 4,
            instance: "operator".into(),
            pod_template_version: POD_TEMPLATE_VERSION,
            nodes: nodes.clone(),
            clock: clock::now,
        };
        let client = server.client(Who::Operator, plan.clone());
        let running = controller::run(client, options, Arc::new(Health::default()), CancellationToken::new());
        let mut task = tokio::spawn(running);
        tokio::select! {
            biased;
            () = plan.crashed() => {
                task.abort();
                // Whatever it would have said, it is dead.
                drop(task.await);
            }
            ended = &mut task => {
                let word = if matches!(&ended, Err(error) if error.is_panic()) { "panic" } else { "process" };
                breaches.lock().push(format!("{word}: {ended:?}"));
            }
        }
        sleep(RESTART).await;
    }
}

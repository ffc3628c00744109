//! The controller: which cluster is reconciled when, how many at once, and when again after a failure.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{ChatCluster, ChatClusterStatus};
use futures::{StreamExt, TryStreamExt, future::ready};
use jiff::Timestamp;
use kube::{
    Client, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        Controller, WatchStreamExt,
        controller::{Action, Config},
        events::{Recorder, Reporter},
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event, watcher},
    },
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OnceCell, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    caches::{Caches, api, slim_cluster, tell_failure},
    health::Health,
    metrics::{self, Outcome},
    nodes::Nodes,
    observe::Observer,
    pace::Pace,
    readable::readable,
    reconcile::{self, Context, Verdict},
    status,
};

/// Wake-ups that wait to be taken.
const WAKES_MAX: usize = 1_024;

/// Wake-ups of one cluster within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Bounds of the wait after a failure; it doubles, with full jitter, for each cluster by itself.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Bounds of the wait after a conflict: as long as a watch needs to bring the newer state, and more where it is late.
const CONFLICT_MIN: Duration = Duration::from_millis(200);
const CONFLICT_MAX: Duration = Duration::from_secs(5);

/// Time that a reconcile may take: a self-test and some calls. An answer that never comes must not be waited for until the process ends, as
/// Kubernetes' clients wait for an answer for as long as the connection seems to live.
const RECONCILE_MAX: Duration = Duration::from_secs(45);

/// HTTP status of a write upon a state that is no more.
const CONFLICT: u16 = 409;

/// What the controller of one namespace, or of all, needs.
pub struct Options {
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// Image of nodes whose spec names none.
    pub node_image: String,
    /// Reconciles at once.
    pub concurrency: u16,
    /// Name of this process, in Events.
    pub instance: String,
    /// Newest shape of the pod template that pods get.
    pub pod_template_version: i32,
    /// The edge to the nodes.
    pub nodes: Arc<dyn Nodes>,
    /// The time.
    pub clock: fn() -> Timestamp,
}

struct Shared {
    context: Context,
    clusters: Store<ChatCluster>,
    /// Failures in a row of each cluster that something is remembered of.
    failures: Mutex<HashMap<ObjectRef<ChatCluster>, u32>>,
}

impl Shared {
    /// Forgets what is remembered of a cluster that is gone, also the contents of its Secrets.
    async fn forget(&self, cluster: &ObjectRef<ChatCluster>) {
        self.failures.lock().remove(cluster);
        self.context.observer.forget(cluster).await;
        self.context.pace.forget(cluster);
        metrics::rollout_stands(&cluster.to_string(), false, false);
    }
}

/// Runs a controller until `shutdown`; reconciles that are under way are finished.
///
/// # Errors
/// When one of its tasks has died, with the name of it.
pub async fn run(
    client: Client,
    options: Options,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> Result<(), String> {
    let (wake, wakes) = mpsc::channel(WAKES_MAX);
    let namespace = options.namespace.as_deref();
    let (clusters, writer) = reflector::store();
    let stream = watcher(api::<DeserializeGuard<ChatCluster>>(&client, namespace), watcher::Config::default());
    let stream = stream.try_filter_map(|event| ready(Ok(readable(event)))).modify(slim_cluster);
    let gone = Arc::new(Notify::new());
    let stream = stream.reflect(writer).inspect_err(|error| tell_failure("chatclusters", error)).inspect_ok({
        let gone = gone.clone();
        move |event| {
            // Of what has gone while the watch was away, a new list is all that tells.
            if matches!(event, Event::Delete(_) | Event::InitDone) {
                gone.notify_one();
            }
        }
    });
    let controller = Controller::for_stream(stream.applied_objects(), clusters.clone());
    let mut tasks = JoinSet::new();
    let caches = Caches::start(&client, namespace, clusters.clone(), &wake, &mut tasks);
    let reporter = Reporter { controller: "chatcluster-operator".into(), instance: Some(options.instance) };
    let shared = Arc::new(Shared {
        context: Context {
            observer: Observer::new(client.clone(), caches.clone(), options.nodes),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            node_image: options.node_image,
            pod_template_version: options.pod_template_version,
            pace: Pace::default(),
            clock: options.clock,
        },
        clusters,
        failures: Mutex::default(),
    });
    tasks.spawn(forget_gone(shared.clone(), gone));
    let wakes = futures::stream::unfold(wakes, |mut wakes| async move { Some((wakes.recv().await?, wakes)) });
    let config = Config::default().debounce(DEBOUNCE).concurrency(options.concurrency);
    let filled = Arc::new(OnceCell::new());
    let reconciles = controller
        .with_config(config)
        .reconcile_on(wakes)
        .graceful_shutdown_on(shutdown.clone().cancelled_owned())
        .run(
            move |cluster, shared| {
                let caches = caches.clone();
                let (health, filled) = (health.clone(), filled.clone());
                async move {
                    // A decision on half-filled caches would see an absence that is none. One waits for all: of several that wait for
                    // the same store, kube wakes one alone, and the others would never go on.
                    if filled.get_or_try_init(|| caches.ready()).await.is_ok() {
                        health.caches_are_filled();
                    }
                    Box::pin(once(cluster, shared)).await
                }
            },
            |_, _, _| Action::await_change(),
            shared,
        )
        .for_each(|_| async {});
    tokio::select! {
        () = reconciles => {
            if shutdown.is_cancelled() { Ok(()) } else { Err("the controller has ended".into()) }
        }
        Some(ended) = tasks.join_next() => Err(format!("a watch has ended: {ended:?}")),
    }
}

/// One reconcile, measured, and when the next one is due. It never fails: a failure is counted and tried again.
async fn once(cluster: Arc<ChatCluster>, shared: Arc<Shared>) -> Result<Action, std::convert::Infallible> {
    let reference = ObjectRef::from_obj(&*cluster);
    shared.failures.lock().entry(reference.clone()).or_insert(0);
    // As it was told last, by whichever process; what is told now leads here again.
    let told = |is_so: fn(&ChatClusterStatus) -> bool| cluster.status.as_ref().is_some_and(is_so);
    metrics::rollout_stands(&reference.to_string(), told(status::is_stuck), told(status::has_failed));
    let began = Instant::now();
    metrics::in_flight(1.0);
    let result = timeout(RECONCILE_MAX, async {
        match cluster.metadata.deletion_timestamp {
            None => Box::pin(reconcile::reconcile(&cluster, &shared.context)).await,
            // Kubernetes deletes the children, by their owner references.
            Some(_) => Box::pin(reconcile::end(&cluster, &shared.context)).await,
        }
    })
    .await;
    metrics::in_flight(-1.0);
    let wait = |min, max| {
        let mut failures = shared.failures.lock();
        let count = failures.entry(reference.clone()).or_insert(0);
        *count += 1;
        Action::requeue(backoff(&reference, *count, min, max))
    };
    let failed = |error: &dyn Display| {
        tracing::warn!(cluster = %cluster.name_any(), namespace = ?cluster.namespace(), %error, "a reconcile failed");
        (Outcome::Failed, wait(BACKOFF_MIN, BACKOFF_MAX))
    };
    let (outcome, action) = match result {
        Ok(Ok(Verdict::Done(next))) => {
            shared.failures.lock().insert(reference.clone(), 0);
            (Outcome::Done, next.map_or_else(Action::await_change, Action::requeue))
        }
        Ok(Ok(Verdict::Invalid)) => (Outcome::Invalid, Action::await_change()),
        Ok(Err(kube::Error::Api(status))) if status.code == CONFLICT => {
            (Outcome::Conflict, wait(CONFLICT_MIN, CONFLICT_MAX))
        }
        Ok(Err(error)) => failed(&error),
        Err(_) => failed(&format_args!("there was no answer within {} s", RECONCILE_MAX.as_secs())),
    };
    metrics::reconciled(outcome, began.elapsed());
    // It may have gone meanwhile, and was forgotten before this was learnt.
    if shared.clusters.get(&reference).is_none() {
        shared.forget(&reference).await;
    }
    Ok(action)
}

/// Forgets clusters that are gone, whenever some may be.
async fn forget_gone(shared: Arc<Shared>, gone: Arc<Notify>) -> &'static str {
    loop {
        gone.notified().await;
        let known: Vec<_> = shared.failures.lock().keys().cloned().collect();
        for reference in known.iter().filter(|reference| shared.clusters.get(reference).is_none()) {
            shared.forget(reference).await;
        }
    }
}

/// Doubles with each failure. Its jitter is a hash and not chance, so that clusters spread and a run can be repeated.
fn backoff(cluster: &ObjectRef<ChatCluster>, failures: u32, min: Duration, max: Duration) -> Duration {
    let most = min.saturating_mul(1 << failures.min(16)).min(max);
    let mut hasher = DefaultHasher::new();
    (&cluster.name, &cluster.namespace, failures).hash(&mut hasher);
    let jitter = f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    most.mul_f64(0.5 + jitter / 2.0)
}

//! The controller: which cluster is reconciled when, how many at once, and when again after a failure.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use crds::ChatCluster;
use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Client, ResourceExt,
    runtime::{
        Controller, WatchStreamExt,
        controller::{Action, Config},
        events::{Recorder, Reporter},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use parking_lot::Mutex;
use tokio::{
    sync::{OnceCell, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    caches::{Caches, api, slim_cluster},
    health::Health,
    metrics::{self, Outcome},
    nodes::Nodes,
    observe::Observer,
    pace::Pace,
    reconcile::{self, Context, Verdict},
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
const RECONCILE_MAX: Duration = Duration::from_secs(90);

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
    failures: Mutex<HashMap<ObjectRef<ChatCluster>, u32>>,
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
    let stream = watcher(api::<ChatCluster>(&client, namespace), watcher::Config::default()).modify(slim_cluster);
    let controller = Controller::for_stream(stream.reflect(writer).applied_objects(), clusters.clone());
    let mut tasks = JoinSet::new();
    let caches = Caches::start(&client, namespace, clusters, &wake, &mut tasks);
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
        failures: Mutex::default(),
    });
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
    if cluster.metadata.deletion_timestamp.is_some() {
        // Kubernetes deletes the children, by their owner references.
        shared.failures.lock().remove(&reference);
        shared.context.observer.forget(&reference).await;
        shared.context.pace.forget(&reference);
        metrics::rollout_failed(&reference.to_string(), false);
        return Ok(Action::await_change());
    }
    let began = Instant::now();
    metrics::in_flight(1.0);
    let result = timeout(RECONCILE_MAX, Box::pin(reconcile::reconcile(&cluster, &shared.context))).await;
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
            shared.failures.lock().remove(&reference);
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
    Ok(action)
}

/// Doubles with each failure. Its jitter is a hash and not chance, so that clusters spread and a run can be repeated.
fn backoff(cluster: &ObjectRef<ChatCluster>, failures: u32, min: Duration, max: Duration) -> Duration {
    let most = min.saturating_mul(1 << failures.min(16)).min(max);
    let mut hasher = DefaultHasher::new();
    (&cluster.name, &cluster.namespace, failures).hash(&mut hasher);
    let jitter = f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    most.mul_f64(0.5 + jitter / 2.0)
}

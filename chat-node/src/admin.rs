//! The admin port: probes, metrics, `/status` and `/self-test`. Not for clients.
//!
//! Liveness never looks at a dependency, and readiness only at whether the node can take a connection, so that an outage of the
//! database does not evict every node.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use crds::node_status::NodeStatus;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::Instant;

use crate::{drain::Drain, gateway::Gateway, health::Health, metric::Metric, reach::Reach, self_test::SelfTester};

/// What the admin port tells of.
pub struct Admin {
    /// The gateway, once the store is ready.
    pub gateway: Arc<Gateway>,
    /// The drain.
    pub drain: Arc<Drain>,
    /// State of the dependencies.
    pub health: Arc<Health>,
    /// Whether the Redis that sessions live in can be reached, where there is one.
    pub redis: Option<Reach>,
    /// Metrics.
    pub metrics: PrometheusHandle,
    /// The self-test.
    pub self_tester: SelfTester,
    /// The revision of the pod; empty outside Kubernetes.
    pub revision: String,
    /// When the process started.
    pub started: Instant,
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(|State(admin): State<Arc<Admin>>| async move { Json(status(&admin)) }))
        .route("/self-test", post(|State(admin): State<Arc<Admin>>| async move { Json(admin.self_tester.run().await) }))
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.drain.has_begun() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if !admin.health.is_migrated() {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the database\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> String {
    // Looked at when it is asked for, so that no send has to keep it.
    Metric::SendsQueued.set(admin.gateway.intake.queued() as f64);
    admin.metrics.render()
}

fn status(admin: &Admin) -> NodeStatus {
    let gateway = &admin.gateway;
    let stats = &gateway.stats;
    NodeStatus {
        node: gateway.node.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        revision: admin.revision.clone(),
        uptime_seconds: admin.started.elapsed().as_secs(),
        connections: stats.connections.load(Relaxed),
        rooms_resident: gateway.hub.rooms_resident() as u64,
        store: admin.health.store(gateway.store.kind()),
        store_synchronous: admin.health.is_synchronous(),
        bus: gateway.bus.dependency(),
        queue: gateway.intake.queue().map(|reach| reach.dependency(gateway.bus.kind())),
        redis: admin.redis.as_ref().map(|reach| reach.dependency("redis")),
        sends: stats.sends.load(Relaxed),
        sends_committed: stats.committed.load(Relaxed),
        sends_accepted: stats.accepted.load(Relaxed),
        sends_waiting: gateway.intake.accepted() as u64,
        sends_failed: stats.failed.load(Relaxed),
        deliveries: gateway.hub.deliveries(),
        ack_latency: stats.ack_latency(),
        resumes: stats.resumes(),
        slow_consumers: stats.slow_consumers.load(Relaxed),
        recent: stats.recent(),
        self_test: admin.self_tester.last(),
        drain: admin.drain.report(),
    }
}

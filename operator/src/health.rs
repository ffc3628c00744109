//! Whether the operator is alive and ready.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;

/// What is known of the parts.
#[derive(Default)]
pub struct Health {
    dead: AtomicBool,
    leads: AtomicBool,
    filled: AtomicBool,
}

impl Health {
    /// A task has died: the process is to be restarted.
    pub fn task_died(&self) {
        self.dead.store(true, Relaxed);
    }

    /// This process is the leader now.
    pub fn leads(&self) {
        self.leads.store(true, Relaxed);
    }

    /// The caches were filled.
    pub fn caches_are_filled(&self) {
        self.filled.store(true, Relaxed);
    }
}

/// `/healthz`, `/readyz` and `/metrics`.
pub fn router(health: Arc<Health>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(healthz))
        .route("/metrics", get(move || async move { metrics.render() }))
        .with_state(health)
}

/// Fails when any task has died. A standby is as ready as the leader: it is there to take over.
async fn healthz(State(health): State<Arc<Health>>) -> (StatusCode, &'static str) {
    if health.dead.load(Relaxed) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "a task has died\n");
    }
    match (health.leads.load(Relaxed), health.filled.load(Relaxed)) {
        (false, _) => (StatusCode::OK, "standing by\n"),
        (true, false) => (StatusCode::OK, "leading; no cluster was looked at yet\n"),
        (true, true) => (StatusCode::OK, "leading\n"),
    }
}

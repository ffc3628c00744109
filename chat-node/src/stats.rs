//! What a node counts: metrics for Prometheus, and the figures of its `/status`.
//!
//! Labels come from closed sets, never from users.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crds::node_status::{Quantiles, Recent, Resumes};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    metric::Metric,
    protocol::{ClientType, CloseReason, ResumeOutcome},
    recent::{Happened, Window},
};

/// Connections whose client has not named its type.
const UNNAMED: &str = "unnamed";

/// Bounds and precision of latencies: a microsecond to a minute, two digits.
const LATENCY_US_MAX: u64 = 60_000_000;
const DIGITS: u8 = 2;

/// Counters since the process started.
pub struct Stats {
    /// Open connections.
    pub connections: AtomicU64,
    /// Sends that arrived.
    pub sends: AtomicU64,
    /// Sends that were acknowledged as committed.
    pub committed: AtomicU64,
    /// Sends that were acknowledged as accepted.
    pub accepted: AtomicU64,
    /// Sends that failed for no fault of the client.
    pub failed: AtomicU64,
    /// Connections closed because they read too slowly.
    pub slow_consumers: AtomicU64,
    resumes: [AtomicU64; 3],
    ack_latency: Mutex<Histogram<u64>>,
    recent: Mutex<Window>,
}

impl Default for Stats {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("the bounds are good");
        Stats {
            connections: AtomicU64::new(0),
            sends: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            slow_consumers: AtomicU64::new(0),
            resumes: Default::default(),
            ack_latency: Mutex::new(histogram),
            recent: Mutex::new(Window::new(Instant::now())),
        }
    }
}

impl Stats {
    /// A connection is open.
    pub fn opened(&self) {
        self.connections.fetch_add(1, Relaxed);
        Metric::Connections.change_for(UNNAMED, 1.0);
        Metric::ConnectionsOpened.count();
    }

    /// A connection's client has named its type.
    pub fn identified(&self, client: ClientType) {
        Metric::Connections.change_for(UNNAMED, -1.0);
        Metric::Connections.change_for(client.as_str(), 1.0);
    }

    /// A connection has ended, whose client had named this type, if any.
    pub fn closed(&self, reason: Option<CloseReason>, client: Option<ClientType>) {
        self.connections.fetch_sub(1, Relaxed);
        Metric::Connections.change_for(client.map_or(UNNAMED, ClientType::as_str), -1.0);
        let reason = reason.map_or("client", CloseReason::as_str);
        Metric::ConnectionsClosed.count_for(reason);
        if reason == CloseReason::SlowConsumer.as_str() {
            self.slow_consumers.fetch_add(1, Relaxed);
        }
    }

    /// A send arrived.
    pub fn send(&self) {
        self.sends.fetch_add(1, Relaxed);
        Metric::Sends.count();
        self.lately(Happened::Send);
    }

    /// A send was acknowledged as committed, so long after it arrived.
    pub fn committed(&self, latency: Duration) {
        self.settled();
        self.acknowledged(latency);
    }

    /// A send was acknowledged as accepted, so long after it arrived.
    pub fn accepted(&self, latency: Duration) {
        self.accepted.fetch_add(1, Relaxed);
        self.acknowledged(latency);
    }

    /// An accepted send was acknowledged as committed.
    pub fn settled(&self) {
        self.committed.fetch_add(1, Relaxed);
        Metric::SendsCommitted.count();
    }

    fn acknowledged(&self, latency: Duration) {
        Metric::AckLatency.observe(latency.as_secs_f64());
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX).clamp(1, LATENCY_US_MAX);
        self.ack_latency.lock().saturating_record(us);
        self.lately(Happened::Committed(us));
    }

    /// A send failed for no fault of the client.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
        Metric::SendsFailed.count();
        self.lately(Happened::Failed);
    }

    /// A room's resume ended so.
    pub fn resumed(&self, outcome: ResumeOutcome) {
        let (index, label) = match outcome {
            ResumeOutcome::Live => return,
            ResumeOutcome::Replayed => (0, "replayed"),
            ResumeOutcome::TooFar => (1, "too_far"),
            ResumeOutcome::Reset => (2, "reset"),
        };
        self.resumes[index].fetch_add(1, Relaxed);
        Metric::Resumes.count_for(label);
        self.lately(Happened::Resumed(index));
    }

    /// Outcomes of resumes.
    pub fn resumes(&self) -> Resumes {
        let [replayed, too_far, reset] = &self.resumes;
        Resumes { replayed: replayed.load(Relaxed), too_far: too_far.load(Relaxed), reset: reset.load(Relaxed) }
    }

    /// What happened in the latest minute or two.
    pub fn recent(&self) -> Recent {
        self.recent.lock().report(Instant::now())
    }

    fn lately(&self, happened: Happened) {
        self.recent.lock().count(happened, Instant::now());
    }

    /// Quantiles of the time from a send to its acknowledgement.
    pub fn ack_latency(&self) -> Quantiles {
        let histogram = self.ack_latency.lock();
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Quantiles { samples: histogram.len(), p50_ms: ms(0.5), p99_ms: ms(0.99) }
    }
}

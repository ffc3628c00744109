//! The drain: how a node leaves without a stampede.
//!
//! Not ready, wait for load balancers to notice, then move each connection at its own moment within the window. The schedule is
//! pure; [`run`] carries it out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crds::node_config::DrainConfig;
use rand::{RngExt, seq::SliceRandom};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    gateway::Gateway,
    protocol::{CloseReason, ServerFrame},
};

/// How long a client is asked to wait before it connects again, at most; enough to spread those that leave at the same moment.
const AFTER_MS_MAX: u64 = 500;

/// The drain's progress, for `/status` and readiness.
#[derive(Default)]
pub struct Drain {
    begun: AtomicBool,
    at_start: AtomicU64,
    left: AtomicU64,
}

impl Drain {
    /// Whether it has begun; the node is not ready from then on.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Relaxed)
    }

    /// The report, once it has begun.
    pub fn report(&self) -> Option<crds::node_status::Drain> {
        self.has_begun().then(|| crds::node_status::Drain {
            connections_at_start: self.at_start.load(Relaxed),
            connections_left: self.left.load(Relaxed),
        })
    }
}

/// Moves all connections; returns when each was told, or at once when there is none.
pub async fn run(gateway: &Gateway, drain: &Drain, config: &DrainConfig) {
    drain.begun.store(true, Relaxed);
    let connections = gateway.connections().len() as u64;
    drain.at_start.store(connections, Relaxed);
    drain.left.store(connections, Relaxed);
    tracing::info!(connections, "draining");
    sleep(Duration::from_secs(config.settle_seconds)).await;
    gateway.close_to_new();
    let mut connections = gateway.connections();
    drain.left.store(connections.len() as u64, Relaxed);
    connections.shuffle(&mut rand::rng());
    let start = Instant::now();
    let moments = moments(connections.len(), Duration::from_secs(config.window_seconds));
    for (outbound, moment) in connections.into_iter().zip(moments) {
        sleep_until(start + moment).await;
        let after_ms = rand::rng().random_range(0..=AFTER_MS_MAX);
        outbound.close(CloseReason::Leaving, Some(&ServerFrame::Reconnect { after_ms }.encode()));
        drain.left.fetch_sub(1, Relaxed);
    }
    // Upgrades that were under way when the node closed to new connections.
    for outbound in gateway.connections() {
        outbound.close(CloseReason::Leaving, Some(&ServerFrame::Reconnect { after_ms: 0 }.encode()));
    }
}

/// When each of so many connections moves: evenly over the window. A few connections do not need all of it.
fn moments(connections: usize, window: Duration) -> impl Iterator<Item = Duration> {
    /// Moving one connection in this time is gentle enough.
    const GENTLE: Duration = Duration::from_millis(20);
    let step = (window / u32::try_from(connections.max(1)).unwrap_or(u32::MAX)).min(GENTLE);
    (0..connections).map(move |index| step * u32::try_from(index).unwrap_or(u32::MAX))
}

/// Waits until all connections are gone, but not longer than `flush`.
pub async fn wait_for_goodbyes(gateway: &Arc<Gateway>, flush: Duration) {
    let deadline = Instant::now() + flush;
    while !gateway.connections().is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_move_one_by_one_within_the_window() {
        for (connections, window) in [(0, 30), (1, 30), (50, 30), (10_000, 30), (10_000, 0)] {
            let window = Duration::from_secs(window);
            let moments: Vec<_> = moments(connections, window).collect();
            assert_eq!(moments.len(), connections);
            assert!(moments.is_sorted() && moments.iter().all(|moment| *moment <= window), "{connections}");
        }
        let spread: Vec<_> = moments(10_000, Duration::from_secs(30)).collect();
        assert_eq!(spread[5_000], Duration::from_secs(15));
    }
}

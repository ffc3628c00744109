//! Retention: drops history that is older than the cluster keeps, a little at a time.
//!
//! Every node does it; the store sees to it that two never work on the same room. Owns the pace, and nothing of what is dropped.

use std::{sync::Arc, time::Duration};

use crds::node_config::Retention;
use rand::RngExt;
use tokio::time::{Instant, sleep};

use crate::{health::Health, metric::Metric, store::SharedStore};

/// Events that are dropped in one transaction at most: the room takes no message meanwhile.
const EVENTS_AT_ONCE: usize = 1_000;

/// Time between two looks for what is old, at most.
const EVERY: Duration = Duration::from_secs(15 * 60);

/// Time to begin with, so that a node that starts has more urgent things done.
const FIRST_AFTER: Duration = Duration::from_secs(30);

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Drops what is old, for as long as the node lives.
pub async fn run(store: SharedStore, health: Arc<Health>, retention: Retention) {
    let Some(days) = retention.history_days else { return };
    sleep(some_of(FIRST_AFTER)).await;
    loop {
        health.store_is_up().await;
        sweep(&store, i64::from(days) * DAY_MS).await;
        sleep(some_of(EVERY)).await;
    }
}

/// Half of the time at least, so that nodes do not all work at the same moment.
fn some_of(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// Drops everything that is older than that, with as much rest as work: what people do goes first.
pub async fn sweep(store: &SharedStore, age_ms: i64) {
    let mut dropped = 0;
    loop {
        let (now_ms, began) = (crate::gateway::now_ms(), Instant::now());
        match store.expire(now_ms - age_ms, now_ms, EVENTS_AT_ONCE).await {
            Ok(expired) => {
                Metric::EventsExpired.count_by(expired.events as u64);
                dropped += expired.events;
                if !expired.more {
                    break;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "old history cannot be dropped yet");
                break;
            }
        }
        sleep(began.elapsed()).await;
    }
    if dropped > 0 {
        tracing::info!(events = dropped, "dropped history that is older than the cluster keeps");
    }
}

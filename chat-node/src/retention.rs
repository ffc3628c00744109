//! Retention: drops history that is older than the cluster keeps, and outboxes that nobody uses any more, a little at a time.
//!
//! Every node does it; the store sees to it that two never work on the same. Owns the pace, and nothing of what is dropped.

use std::{sync::Arc, time::Duration};

use crds::node_config::Retention;
use rand::RngExt;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    gateway::now_ms,
    health::Health,
    intake::Intake,
    metric::Metric,
    store::{SharedStore, StoreError, answered},
};

/// Events that are dropped in one transaction at most: the room takes no message meanwhile.
const EVENTS_AT_ONCE: usize = 1_000;

/// Time between two looks for what is old, at most.
const EVERY: Duration = Duration::from_secs(15 * 60);

/// Outboxes that are looked at together, and dropped in one transaction if they are old. Each may have some hundred results.
const OUTBOXES_AT_ONCE: usize = 200;

/// Time between two walks through the outboxes. Nobody waits for the space.
const WALKED_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// How old the note may be that an open outbox is used, in milliseconds: well below a day, the least that outboxes are kept.
const NOTED_EVERY_MS: i64 = 6 * 60 * 60 * 1000;

/// Open outboxes that are noted together.
const NOTED_AT_ONCE: usize = 1_000;

/// Time to begin with, so that a node that starts has more urgent things done.
const FIRST_AFTER: Duration = Duration::from_secs(30);

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Drops what is old, for as long as the node lives.
pub async fn run(store: SharedStore, health: Arc<Health>, intake: Intake, retention: Retention) {
    sleep(some_of(FIRST_AFTER)).await;
    let mut walk_at = Instant::now();
    loop {
        health.store_is_up().await;
        if let Some(days) = retention.history_days {
            sweep(&store, i64::from(days) * DAY_MS).await;
        }
        // First, so that a connection that has said nothing for long keeps its outbox.
        if let Err(error) = note_open(&store, &intake.open_outboxes(), now_ms()).await {
            tracing::debug!(%error, "that outboxes are in use cannot be noted yet");
        } else if walk_at <= Instant::now() {
            walk(&store, i64::from(retention.outbox_days) * DAY_MS).await;
            walk_at = Instant::now() + WALKED_EVERY;
        }
        sleep(some_of(EVERY)).await;
    }
}

/// Notes that these outboxes are used, where that was not noted lately.
///
/// # Errors
/// When the store is away.
pub async fn note_open(store: &SharedStore, open: &[Uuid], now_ms: i64) -> Result<(), StoreError> {
    for keys in open.chunks(NOTED_AT_ONCE) {
        answered(store.touch_outboxes(keys, now_ms - NOTED_EVERY_MS, now_ms)).await?;
    }
    Ok(())
}

/// Drops all outboxes that nobody has used for so long, with as much rest as work.
pub async fn walk(store: &SharedStore, age_ms: i64) {
    let (mut after, mut dropped) = (Some(Uuid::nil()), 0);
    while let Some(key) = after {
        let began = Instant::now();
        match answered(store.drop_outboxes(key, now_ms() - age_ms, OUTBOXES_AT_ONCE)).await {
            Ok(walked) => {
                Metric::OutboxesExpired.count_by(walked.dropped as u64);
                dropped += walked.dropped;
                after = walked.next;
            }
            Err(error) => {
                tracing::debug!(%error, "old outboxes cannot be dropped yet");
                break;
            }
        }
        sleep(began.elapsed()).await;
    }
    if dropped > 0 {
        tracing::info!(outboxes = dropped, "dropped outboxes that nobody has used for long");
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
        let (now_ms, began) = (now_ms(), Instant::now());
        match answered(store.expire(now_ms - age_ms, now_ms, EVENTS_AT_ONCE)).await {
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

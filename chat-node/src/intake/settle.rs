//! Finds out what became of accepted sends that another node brought into the log, and tells their senders.
//!
//! The log itself is asked, by the sends' keys, so nothing has to be told between nodes for a sender to hear of its message.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Shared;
use crate::store::{SendKey, within};

/// Time between looks while something waits.
const EVERY: Duration = Duration::from_millis(100);

/// Time between looks for what nobody waits for any more.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// How long a look may take. Sends wait behind it that the queue would take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sends that are looked up at once.
const AT_ONCE: usize = 500;

/// Looks for as long as something waits.
pub(super) async fn run(shared: &Shared) {
    let (mut after, mut forget_at) = (Uuid::nil(), Instant::now() + FORGET_EVERY);
    loop {
        if shared.outboxes.lock().count() == 0 {
            shared.stirred.notified().await;
            continue;
        }
        shared.parts.health.store_is_up().await;
        let oldest = shared.outboxes.lock().oldest(after, AT_ONCE);
        after = oldest.last().map_or(Uuid::nil(), |(key, _)| *key);
        look_up(shared, oldest).await;
        if Instant::now() >= forget_at {
            shared.forget_idle();
            forget_at = Instant::now() + FORGET_EVERY;
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            () = shared.stirred.notified() => {}
        }
    }
}

/// Looks up what waits in these outboxes.
pub(super) async fn look_up_of(shared: &Shared, keys: &HashSet<Uuid>) {
    let oldest = shared.outboxes.lock().oldest_of(keys);
    look_up(shared, oldest).await;
}

async fn look_up(shared: &Shared, waiting: Vec<(Uuid, SendKey)>) {
    let (keys, sends): (Vec<Uuid>, Vec<SendKey>) = waiting.into_iter().unzip();
    match within(PATIENCE, shared.parts.store.outcomes(&sends)).await {
        Ok(answers) => {
            for ((key, send), answer) in keys.into_iter().zip(&sends).zip(answers) {
                if let Some(answer) = answer {
                    shared.settle(key, send.n, &Ok(answer));
                }
            }
        }
        Err(error) => tracing::debug!(%error, "the fate of accepted sends cannot be read yet"),
    }
}

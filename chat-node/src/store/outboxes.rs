//! Outboxes that nobody uses any more: they go with their results, so that what each client once had, and each idempotency key, is not kept
//! for ever.
//!
//! An outbox may go when it was used so long ago that nobody repeats one of its sends: `docs/protocol.md` §4 tells clients how long that
//! is. Nothing of this costs a send: there is no index to keep, the table is walked in pages instead.

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;

/// What became of a page of outboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// How many were dropped.
    pub dropped: usize,
    /// The last key that was looked at, if there may be more behind it.
    pub next: Option<Uuid>,
}

/// Keeps outboxes for as long as they are used.
#[async_trait]
pub trait Outboxes {
    /// Notes that these outboxes, by their keys, are used now, unless they were noted to be since `since_ms`.
    async fn touch_outboxes(&self, keys: &[Uuid], since_ms: i64, now_ms: i64) -> Result<(), StoreError>;

    /// Drops those of the next `limit` outboxes behind the key `after` that were last used before `before_ms`, with their results. Nothing
    /// is dropped twice, however many nodes do this at once, and no outbox that is being used.
    async fn drop_outboxes(&self, after: Uuid, before_ms: i64, limit: usize) -> Result<Walked, StoreError>;
}

/// A page as it was read: keys and when they were last used. Gives the old ones, and where to go on.
pub(super) fn old_ones(page: &[(Uuid, i64)], before_ms: i64, limit: usize) -> (Vec<Uuid>, Option<Uuid>) {
    let old = page.iter().filter(|(_, touched_ms)| *touched_ms < before_ms).map(|(key, _)| *key).collect();
    let next = page.last().filter(|_| page.len() == limit).map(|(key, _)| *key);
    (old, next)
}

/// Reads a page of outboxes: the first $2 behind the key $1.
pub(super) const PAGE: &str = "SELECT key, touched_ms FROM outboxes WHERE key > $1 ORDER BY key LIMIT $2";

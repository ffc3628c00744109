//! Dropping outboxes from SQLite, one by one in one transaction: writes take turns.

use async_trait::async_trait;
use uuid::Uuid;

use super::SqliteStore;
use crate::store::{
    StoreError,
    outboxes::{Outboxes, PAGE, Walked, old_ones},
};

#[async_trait]
impl Outboxes for SqliteStore {
    async fn touch_outboxes(&self, keys: &[Uuid], since_ms: i64, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for key in keys {
            let update = sqlx::query("UPDATE outboxes SET touched_ms = $3 WHERE key = $1 AND touched_ms < $2");
            update.bind(key).bind(since_ms).bind(now_ms).execute(&mut *tx.0).await?;
        }
        tx.commit().await
    }

    async fn drop_outboxes(&self, after: Uuid, before_ms: i64, limit: usize) -> Result<Walked, StoreError> {
        let page: Vec<(Uuid, i64)> =
            sqlx::query_as(PAGE).bind(after).bind(limit as i64).fetch_all(&self.gate.pool()?).await?;
        let (old, next) = old_ones(&page, before_ms, limit);
        if old.is_empty() {
            return Ok(Walked { dropped: 0, next });
        }
        let (mut tx, mut dropped) = (self.begin().await?, 0);
        for key in old {
            // Looked at again: it may have been used since.
            let delete = sqlx::query("DELETE FROM outboxes WHERE key = $1 AND touched_ms < $2");
            if delete.bind(key).bind(before_ms).execute(&mut *tx.0).await?.rows_affected() == 1 {
                let results = sqlx::query("DELETE FROM outbox_results WHERE outbox = $1");
                results.bind(key).execute(&mut *tx.0).await?;
                dropped += 1;
            }
        }
        tx.commit().await?;
        Ok(Walked { dropped, next })
    }
}

//! Dropping outboxes from PostgreSQL. Rows that others have locked are passed over: they are in use.

use async_trait::async_trait;
use uuid::Uuid;

use super::PostgresStore;
use crate::store::{
    StoreError,
    outboxes::{Outboxes, PAGE, Walked, old_ones},
};

#[async_trait]
impl Outboxes for PostgresStore {
    async fn touch_outboxes(&self, keys: &[Uuid], since_ms: i64, now_ms: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE outboxes SET touched_ms = $3 WHERE key IN (
                 SELECT key FROM outboxes WHERE key = ANY($1) AND touched_ms < $2 ORDER BY key FOR UPDATE SKIP LOCKED)",
        )
        .bind(keys)
        .bind(since_ms)
        .bind(now_ms)
        .execute(&self.gate.pool()?)
        .await?;
        Ok(())
    }

    async fn drop_outboxes(&self, after: Uuid, before_ms: i64, limit: usize) -> Result<Walked, StoreError> {
        let page: Vec<(Uuid, i64)> =
            sqlx::query_as(PAGE).bind(after).bind(limit as i64).fetch_all(&self.gate.pool()?).await?;
        let (old, next) = old_ones(&page, before_ms, limit);
        if old.is_empty() {
            return Ok(Walked { dropped: 0, next });
        }
        let mut tx = self.begin().await?;
        // Looked at again under the lock: one may have been used since.
        let locked: Vec<Uuid> = sqlx::query_scalar(
            "SELECT key FROM outboxes WHERE key = ANY($1) AND touched_ms < $2 ORDER BY key FOR UPDATE SKIP LOCKED",
        )
        .bind(old)
        .bind(before_ms)
        .fetch_all(&mut *tx.0)
        .await?;
        for delete in ["DELETE FROM outbox_results WHERE outbox = ANY($1)", "DELETE FROM outboxes WHERE key = ANY($1)"]
        {
            sqlx::query(delete).bind(&locked).execute(&mut *tx.0).await?;
        }
        tx.commit().await?;
        Ok(Walked { dropped: locked.len(), next })
    }
}

//! What of logins PostgreSQL does in its own way: many rows in one statement, and telling other nodes.

use uuid::Uuid;

use super::{PostgresStore, hints, rooms::PostgresTransaction};
use crate::store::{
    StoreError,
    attempts::attempts,
    bots::bots,
    logins::{Seen, logins},
};

impl PostgresTransaction {
    /// Tells all nodes, once this is committed, that these logins are over.
    pub(super) async fn tell_ended(&mut self, logins: &[Uuid]) -> Result<(), StoreError> {
        if !logins.is_empty() {
            sqlx::query("SELECT pg_notify($1, payload) FROM UNNEST($2::text[]) AS payload")
                .bind(hints::CHANNEL)
                .bind(hints::endings(logins))
                .execute(&mut *self.0)
                .await?;
        }
        Ok(())
    }
}

impl PostgresStore {
    async fn good_logins_among(&self, logins: &[Uuid], now_ms: i64) -> Result<Vec<Uuid>, StoreError> {
        let query = sqlx::query_scalar("SELECT id FROM logins WHERE id = ANY($1) AND expires_ms > $2");
        Ok(query.bind(logins).bind(now_ms).fetch_all(&self.pool).await?)
    }

    async fn note_logins_seen(&self, seen: &[(Uuid, Seen)]) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE logins SET seen_ms = GREATEST(seen_ms, seen.ms), client = COALESCE(seen.client, logins.client),
                 address = COALESCE(seen.address, logins.address)
             FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS seen (id, ms, client, address)
             WHERE logins.id = seen.id",
        )
        .bind(seen.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(seen.iter().map(|(_, seen)| seen.ms).collect::<Vec<_>>())
        .bind(seen.iter().map(|(_, seen)| seen.client).collect::<Vec<_>>())
        .bind(seen.iter().map(|(_, seen)| seen.address.clone()).collect::<Vec<_>>())
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

logins!(PostgresStore, "FOR UPDATE");
attempts!(PostgresStore, PostgresTransaction);
bots!(PostgresStore, "FOR UPDATE");

//! What of logins PostgreSQL does in its own way: many rows in one statement, and telling other nodes.

use async_trait::async_trait;
use uuid::Uuid;

use super::{PostgresStore, hints, rooms::PostgresTransaction};
use crate::{
    event::User,
    store::{
        StoreError,
        attempts::attempts,
        bots::bots,
        logins::{Seen, Sightings, logins},
    },
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
    async fn good_logins_among(&self, logins: &[Uuid], of_bots: bool, now_ms: i64) -> Result<Vec<Uuid>, StoreError> {
        let query = "SELECT id FROM logins WHERE id = ANY($1) AND expires_ms > $2 AND (selector IS NULL OR NOT $3)";
        let query = sqlx::query_scalar(query).bind(logins).bind(now_ms).bind(of_bots);
        Ok(query.fetch_all(&self.gate.pool()?).await?)
    }

    /// Rows are locked in the order of their ids, as wherever many are changed at once.
    async fn note_logins_seen(&self, seen: &[(Uuid, Seen)]) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE logins SET seen_ms = GREATEST(seen_ms, seen.ms), client = COALESCE(seen.client, logins.client),
                 address = COALESCE(seen.address, logins.address)
             FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS seen (id, ms, client, address)
             WHERE logins.id = seen.id
               AND logins.id IN (SELECT id FROM logins WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE)",
        )
        .bind(seen.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(seen.iter().map(|(_, seen)| seen.ms).collect::<Vec<_>>())
        .bind(seen.iter().map(|(_, seen)| seen.client).collect::<Vec<_>>())
        .bind(seen.iter().map(|(_, seen)| seen.address.clone()).collect::<Vec<_>>())
        .execute(&self.gate.pool()?)
        .await?;
        Ok(())
    }
}

#[async_trait]
impl Sightings for PostgresStore {
    async fn note_seen(&self, users: &[(User, i64)]) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE users SET last_seen_ms = GREATEST(last_seen_ms, seen.ms)
             FROM UNNEST($1::text[], $2::bigint[]) AS seen (name, ms)
             WHERE users.name = seen.name
               AND users.name IN (SELECT name FROM users WHERE name = ANY($1) ORDER BY name FOR NO KEY UPDATE)",
        )
        .bind(users.iter().map(|(user, _)| user.to_string()).collect::<Vec<_>>())
        .bind(users.iter().map(|(_, ms)| *ms).collect::<Vec<_>>())
        .execute(&self.gate.pool()?)
        .await?;
        Ok(())
    }

    async fn last_seen(&self, users: &[String]) -> Result<Vec<(String, i64)>, StoreError> {
        let query = "SELECT name, last_seen_ms FROM users WHERE name = ANY($1) AND last_seen_ms IS NOT NULL";
        Ok(sqlx::query_as(query).bind(users).fetch_all(&self.gate.pool()?).await?)
    }
}

logins!(PostgresStore, "FOR UPDATE");
attempts!(PostgresStore, PostgresTransaction);
bots!(PostgresStore, "FOR UPDATE");

//! What of logins SQLite does in its own way: row by row, and without other nodes to tell.

use async_trait::async_trait;
use uuid::Uuid;

use super::{SqliteStore, rooms::SqliteTransaction};
use crate::{
    event::User,
    store::{
        StoreError,
        attempts::attempts,
        bots::bots,
        logins::{Seen, Sightings, logins},
    },
};

impl SqliteTransaction {
    /// There is no other node to tell.
    #[allow(clippy::unused_async, reason = "written as for PostgreSQL, which waits")]
    pub(super) async fn tell_ended(&mut self, _logins: &[Uuid]) -> Result<(), StoreError> {
        Ok(())
    }
}

impl SqliteStore {
    async fn good_logins_among(&self, logins: &[Uuid], of_bots: bool, now_ms: i64) -> Result<Vec<Uuid>, StoreError> {
        let mut good = Vec::with_capacity(logins.len());
        for login in logins {
            let query = "SELECT id FROM logins WHERE id = $1 AND expires_ms > $2 AND (selector IS NULL OR NOT $3)";
            let query = sqlx::query_scalar(query).bind(login).bind(now_ms).bind(of_bots);
            let found: Option<Uuid> = query.fetch_optional(&self.gate.pool()?).await?;
            good.extend(found);
        }
        Ok(good)
    }

    async fn note_logins_seen(&self, seen: &[(Uuid, Seen)]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (login, Seen { ms, client, address }) in seen {
            sqlx::query(
                "UPDATE logins SET seen_ms = max(seen_ms, $2), client = coalesce($3, client), address = coalesce($4, address)
                 WHERE id = $1",
            )
            .bind(login)
            .bind(*ms)
            .bind(*client)
            .bind(address)
            .execute(&mut *tx.0)
            .await?;
        }
        tx.commit().await
    }
}

#[async_trait]
impl Sightings for SqliteStore {
    async fn note_seen(&self, users: &[(User, i64)]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (user, ms) in users {
            let update = "UPDATE users SET last_seen_ms = max(coalesce(last_seen_ms, 0), $2) WHERE name = $1";
            sqlx::query(update).bind(&**user).bind(*ms).execute(&mut *tx.0).await?;
        }
        tx.commit().await
    }

    async fn last_seen(&self, users: &[String]) -> Result<Vec<(String, i64)>, StoreError> {
        let mut found = Vec::new();
        for user in users {
            let query = "SELECT name, last_seen_ms FROM users WHERE name = $1 AND last_seen_ms IS NOT NULL";
            found
                .extend(sqlx::query_as::<_, (String, i64)>(query).bind(user).fetch_optional(&self.gate.pool()?).await?);
        }
        Ok(found)
    }
}

logins!(SqliteStore, "");
attempts!(SqliteStore, SqliteTransaction);
bots!(SqliteStore, "");

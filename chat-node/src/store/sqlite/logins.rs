//! What of logins SQLite does in its own way: row by row, and without other nodes to tell.

use uuid::Uuid;

use super::{SqliteStore, rooms::SqliteTransaction};
use crate::store::{
    StoreError,
    attempts::attempts,
    bots::bots,
    logins::{Seen, logins},
};

impl SqliteTransaction {
    /// There is no other node to tell.
    #[allow(clippy::unused_async, reason = "written as for PostgreSQL, which waits")]
    pub(super) async fn tell_ended(&mut self, _logins: &[Uuid]) -> Result<(), StoreError> {
        Ok(())
    }
}

impl SqliteStore {
    async fn good_logins_among(&self, logins: &[Uuid], now_ms: i64) -> Result<Vec<Uuid>, StoreError> {
        let mut good = Vec::with_capacity(logins.len());
        for login in logins {
            let query = sqlx::query_scalar("SELECT id FROM logins WHERE id = $1 AND expires_ms > $2");
            let found: Option<Uuid> = query.bind(login).bind(now_ms).fetch_optional(&self.pool).await?;
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

logins!(SqliteStore, "");
attempts!(SqliteStore, SqliteTransaction);
bots!(SqliteStore, "");

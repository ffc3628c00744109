//! What of announcements PostgreSQL does in its own way: telling other nodes.

use super::{PostgresStore, hints, rooms::PostgresTransaction};
use crate::store::{StoreError, announcements::announcements};

impl PostgresTransaction {
    /// Tells all nodes, once this is committed, that the announcements are other ones.
    async fn tell_announced(&mut self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT pg_notify($1, $2)").bind(hints::CHANNEL).bind(hints::announced());
        query.execute(&mut *self.0).await?;
        Ok(())
    }
}

announcements!(PostgresStore, "LOCK TABLE announcements IN SHARE ROW EXCLUSIVE MODE");

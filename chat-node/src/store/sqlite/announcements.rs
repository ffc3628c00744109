//! What of announcements SQLite does in its own way: writes take turns anyway, and there is no other node to tell.

use super::{SqliteStore, rooms::SqliteTransaction};
use crate::store::{StoreError, announcements::announcements};

impl SqliteTransaction {
    /// There is no other node to tell.
    #[allow(clippy::unused_async, reason = "written as for PostgreSQL, which waits")]
    async fn tell_announced(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

announcements!(SqliteStore, "SELECT 1");

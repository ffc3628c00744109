//! A store's pools, shut until the schema is there: whoever asks before is answered as while the database is away, and the database is
//! not asked for tables that it does not have yet.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use sqlx::{Database, Pool};

use super::StoreError;

/// The pools of a store.
pub(super) struct Gate<DB: Database> {
    pool: Pool<DB>,
    sends: Pool<DB>,
    is_open: AtomicBool,
}

impl<DB: Database> Gate<DB> {
    /// Shut. `sends` is the pool of the sends alone.
    pub(super) fn new(pool: Pool<DB>, sends: Pool<DB>) -> Gate<DB> {
        Gate { pool, sends, is_open: AtomicBool::new(false) }
    }

    /// The pool, for whatever needs tables.
    ///
    /// # Errors
    /// [`StoreError::Unmigrated`] until [`open`](Self::open) was called.
    pub(super) fn pool(&self) -> Result<&Pool<DB>, StoreError> {
        self.opened(&self.pool)
    }

    /// The pool of the sends, whose connections no request takes, however many there are and however long they last.
    ///
    /// # Errors
    /// As [`pool`](Self::pool).
    pub(super) fn sends(&self) -> Result<&Pool<DB>, StoreError> {
        self.opened(&self.sends)
    }

    /// The pool, for what needs no tables of ours, such as making them.
    pub(super) fn without_tables(&self) -> &Pool<DB> {
        &self.pool
    }

    /// The pool that tells whether the database is there: that of the sends, since it is there as long as they get through.
    pub(super) fn to_ping(&self) -> &Pool<DB> {
        &self.sends
    }

    fn opened<'a>(&self, pool: &'a Pool<DB>) -> Result<&'a Pool<DB>, StoreError> {
        if self.is_open.load(Relaxed) { Ok(pool) } else { Err(StoreError::Unmigrated) }
    }

    /// Closes the connections.
    pub(super) async fn close(&self) {
        self.pool.close().await;
        self.sends.close().await;
    }

    /// The schema is there.
    pub(super) fn open(&self) {
        self.is_open.store(true, Relaxed);
    }
}

//! A store's pool, shut until the schema is there: whoever asks before is answered as while the database is away, and the database is
//! not asked for tables that it does not have yet.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use sqlx::{Database, Pool};

use super::StoreError;

/// The pool of a store.
pub(super) struct Gate<DB: Database> {
    pool: Pool<DB>,
    is_open: AtomicBool,
}

impl<DB: Database> Gate<DB> {
    /// Shut.
    pub(super) fn new(pool: Pool<DB>) -> Gate<DB> {
        Gate { pool, is_open: AtomicBool::new(false) }
    }

    /// The pool, for whatever needs tables.
    ///
    /// # Errors
    /// [`StoreError::Unmigrated`] until [`open`](Self::open) was called.
    pub(super) fn pool(&self) -> Result<&Pool<DB>, StoreError> {
        if self.is_open.load(Relaxed) { Ok(&self.pool) } else { Err(StoreError::Unmigrated) }
    }

    /// The pool, for what needs no tables of ours: making them, and asking whether the database is there.
    pub(super) fn without_tables(&self) -> &Pool<DB> {
        &self.pool
    }

    /// The schema is there.
    pub(super) fn open(&self) {
        self.is_open.store(true, Relaxed);
    }
}

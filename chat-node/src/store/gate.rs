//! A store's pools, shut until the schema is there: whoever asks before is answered as while the database is away, and the database is
//! not asked for tables that it does not have yet.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::RwLock;
use sqlx::{Database, Pool};

use super::StoreError;

/// The pools of a store.
pub(super) struct Gate<DB: Database> {
    pools: RwLock<Pools<DB>>,
    make: Box<dyn Fn() -> Pools<DB> + Send + Sync>,
    is_open: AtomicBool,
}

/// Two pools, which may be one and the same.
pub(super) struct Pools<DB: Database> {
    /// Of everything else.
    pub(super) others: Pool<DB>,
    /// Of the sends alone, whose connections no request takes, however many there are and however long they last.
    pub(super) sends: Pool<DB>,
}

impl<DB: Database> Gate<DB> {
    /// Shut, over pools that are made so.
    pub(super) fn new(make: impl Fn() -> Pools<DB> + Send + Sync + 'static) -> Gate<DB> {
        Gate { pools: RwLock::new(make()), make: Box::new(make), is_open: AtomicBool::new(false) }
    }

    /// The pool, for whatever needs tables.
    ///
    /// # Errors
    /// [`StoreError::Unmigrated`] until [`open`](Self::open) was called.
    pub(super) fn pool(&self) -> Result<Pool<DB>, StoreError> {
        if self.is_open.load(Relaxed) { Ok(self.without_tables()) } else { Err(StoreError::Unmigrated) }
    }

    /// The pool of the sends.
    ///
    /// # Errors
    /// As [`pool`](Self::pool).
    pub(super) fn sends(&self) -> Result<Pool<DB>, StoreError> {
        if self.is_open.load(Relaxed) { Ok(self.to_ping()) } else { Err(StoreError::Unmigrated) }
    }

    /// The pool, for what needs no tables of ours, such as making them.
    pub(super) fn without_tables(&self) -> Pool<DB> {
        self.pools.read().others.clone()
    }

    /// The pool that tells whether the database is there: that of the sends, since it is there as long as they get through.
    pub(super) fn to_ping(&self) -> Pool<DB> {
        self.pools.read().sends.clone()
    }

    /// The schema is there.
    pub(super) fn open(&self) {
        self.is_open.store(true, Relaxed);
    }

    /// Goes on over new connections. A pool waits for an answer on each connection that comes back, for as long as TCP does: on those to
    /// a server that has lost its power, a quarter of an hour.
    pub(super) fn renew(&self) {
        let former = std::mem::replace(&mut *self.pools.write(), (self.make)());
        tokio::spawn(former.close());
    }

    /// Closes the connections.
    pub(super) async fn close(&self) {
        Pools { others: self.without_tables(), sends: self.to_ping() }.close().await;
    }

    /// Whether that was done.
    pub(super) fn is_closed(&self) -> bool {
        self.pools.read().others.is_closed()
    }
}

impl<DB: Database> Pools<DB> {
    async fn close(self) {
        // Each begins with the idle ones at once, and waits for the others.
        tokio::join!(self.others.close(), self.sends.close());
    }
}

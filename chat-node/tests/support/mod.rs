//! Both stores, for what is claimed of either.

#[allow(dead_code, reason = "not every claim is of two nodes")]
pub(crate) mod pair;
#[allow(dead_code, reason = "not every claim has people")]
pub(crate) mod running;

use std::sync::Arc;

use chat_node::store::{PostgresStore, SharedStore, SqliteStore, StoreLimits};
use services::Services;

/// Runs a claim on a SQLite and on a PostgreSQL store, each empty.
pub(crate) async fn on_both<F: Future<Output = ()>>(limits: StoreLimits, claim: impl Fn(SharedStore) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let postgres = PostgresStore::new(&services.postgres.fresh_database().unwrap(), None, 5, limits).unwrap();
    let stores: [SharedStore; 2] =
        [Arc::new(SqliteStore::new(&folder.path().join("chat.db"), limits)), Arc::new(postgres)];
    for store in stores {
        store.migrate().await.unwrap();
        claim(store.clone()).await;
        store.close().await;
    }
}

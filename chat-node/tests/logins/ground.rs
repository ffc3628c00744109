//! Empty stores with small limits, and where their sessions live.

use std::sync::Arc;

use chat_node::{
    redis::RedisSessions,
    store::{PostgresStore, SharedSessions, SharedStore, StoreLimits},
};
use services::Services;

pub(crate) const LIMITS: StoreLimits =
    StoreLimits { rooms_per_user_max: 3, members_per_room_max: 3, outbox_results_kept: 5 };

/// An empty store, and where its sessions live.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) store: SharedStore,
    pub(crate) sessions: SharedSessions,
}

/// Runs a claim on both stores, each empty, and on one whose sessions live in an empty Redis.
pub(crate) async fn on_all<F: Future<Output = ()>>(claim: impl Fn(Ground) -> F) {
    crate::support::on_both(LIMITS, |store| claim(Ground { sessions: store.clone(), store })).await;
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let postgres = services.postgres.fresh_database().unwrap();
    let store: SharedStore = Arc::new(PostgresStore::new(&postgres, None, 5, LIMITS).unwrap());
    store.migrate().await.unwrap();
    let (sessions, _endings) = RedisSessions::new(&fresh_redis(), None, store.clone()).unwrap();
    claim(Ground { store: store.clone(), sessions: Arc::new(sessions) }).await;
    store.close().await;
}

/// The URL of an empty Redis.
pub(crate) fn fresh_redis() -> String {
    let services = Services::new().unwrap();
    services.redis.start().unwrap();
    services.redis.fresh_database().unwrap()
}

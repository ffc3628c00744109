//! The state of what the node depends on, as it was last seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use crate::{bus::Bus, hub::Hub, store::SharedStore};

/// Time between looks.
const EVERY: Duration = Duration::from_secs(5);

/// What was last seen.
#[derive(Default)]
pub struct Health {
    migrated: AtomicBool,
    store_up: AtomicBool,
}

impl Health {
    /// Whether the schema was brought up to date; the node can take connections from then on.
    pub fn is_migrated(&self) -> bool {
        self.migrated.load(Relaxed)
    }

    /// Whether the store answered when it was last asked.
    pub fn is_store_up(&self) -> bool {
        self.store_up.load(Relaxed)
    }

    /// Brings the schema up to date, for as long as it takes.
    pub async fn migrate(&self, store: &SharedStore) {
        const RETRY: Duration = Duration::from_secs(1);
        while let Err(error) = store.migrate().await {
            tracing::warn!(%error, "the database is not ready");
            tokio::time::sleep(RETRY).await;
        }
        self.store_up.store(true, Relaxed);
        self.migrated.store(true, Relaxed);
    }

    /// Looks again and again.
    pub async fn watch(self: Arc<Self>, store: SharedStore, bus: Bus, hub: Arc<Hub>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let store_up = store.ping().await.is_ok();
            self.store_up.store(store_up, Relaxed);
            metrics::gauge!("chat_store_up").set(f64::from(u8::from(store_up)));
            metrics::gauge!("chat_bus_up").set(f64::from(u8::from(bus.is_up())));
            metrics::gauge!("chat_rooms_resident").set(hub.rooms_resident() as f64);
            metrics::counter!("chat_deliveries_total").absolute(hub.deliveries());
        }
    }
}

//! The state of what the node depends on, as it was last seen. Whoever finds the store away says so, and all others need not try.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crds::node_status::Dependency;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    bus::Bus,
    hub::Hub,
    metric::Metric,
    reach::Reach,
    store::{SharedStore, within},
};

/// Time between looks at a store that answers, and at one that is away.
const EVERY: Duration = Duration::from_secs(5);
const EVERY_AWAY: Duration = Duration::from_millis(250);

/// How long a store may take to say that it is there.
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(1);

/// How long a store may be away before its connections are given up, once: they may lead to a server that has lost its power, while
/// another has long taken its place.
const RENEW_AFTER: Duration = Duration::from_secs(10);

/// What was last seen.
pub struct Health {
    migrated: AtomicBool,
    store_up: watch::Sender<bool>,
    /// Why it is not, in the database's words.
    store: Reach,
    synchronous: Mutex<Option<bool>>,
}

/// Since when a store is away.
#[derive(Default)]
struct Away {
    since: Option<Instant>,
    is_renewed: bool,
}

impl Away {
    /// Takes what was seen; whether the store's connections are to be given up, which is so once each time that it is away.
    fn is_to_renew(&mut self, up: bool, now: Instant) -> bool {
        if up {
            *self = Away::default();
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.duration_since(since) >= RENEW_AFTER && !std::mem::replace(&mut self.is_renewed, true)
    }
}

impl Default for Health {
    fn default() -> Self {
        Health {
            migrated: AtomicBool::new(false),
            store_up: watch::Sender::new(false),
            store: Reach::default(),
            synchronous: Mutex::default(),
        }
    }
}

impl Health {
    /// Of a store that is known to be there.
    pub fn of_ready_store() -> Self {
        Health { migrated: AtomicBool::new(true), store_up: watch::Sender::new(true), ..Health::default() }
    }

    /// Whether the schema was brought up to date; the node can take connections from then on.
    pub fn is_migrated(&self) -> bool {
        self.migrated.load(Relaxed)
    }

    /// Whether the store answered when it was last asked.
    pub fn is_store_up(&self) -> bool {
        *self.store_up.borrow()
    }

    /// What `/status` tells of the store.
    pub fn store(&self, kind: &str) -> Dependency {
        Dependency { up: self.is_store_up(), ..self.store.dependency(kind) }
    }

    /// Whether the store has a commit on a second machine before it is acknowledged, as far as is known.
    pub fn is_synchronous(&self) -> Option<bool> {
        *self.synchronous.lock()
    }

    /// The store did not answer. It counts as away until it says otherwise.
    pub fn lost_store(&self) {
        self.see(false);
    }

    /// Waits until the store is there.
    pub async fn store_is_up(&self) {
        // It cannot fail: the sender lives as long as `self`.
        let _ = self.store_up.subscribe().wait_for(|up| *up).await;
    }

    /// Waits until the store is away.
    pub async fn store_is_down(&self) {
        let _ = self.store_up.subscribe().wait_for(|up| !up).await;
    }

    /// Tells each time that the store is there again, however shortly it was away.
    pub async fn each_return(&self, mut tell: impl FnMut()) {
        let mut store_up = self.store_up.subscribe();
        while store_up.changed().await.is_ok() {
            if *store_up.borrow_and_update() {
                tell();
            }
        }
    }

    /// Brings the schema up to date, for as long as it takes.
    pub async fn migrate(&self, store: &SharedStore) {
        const RETRY: Duration = Duration::from_secs(1);
        while let Err(error) = store.migrate().await {
            tracing::warn!(%error, "the database is not ready");
            self.store.down(&error);
            sleep(RETRY).await;
        }
        self.see(true);
        self.migrated.store(true, Relaxed);
    }

    /// Looks again and again, and more often while the store is away.
    pub async fn watch(self: Arc<Self>, store: SharedStore, bus: Bus, hub: Arc<Hub>) {
        let mut away = Away::default();
        loop {
            let answer = within(ANSWER_SECONDS_MAX, store.ping()).await;
            let up = answer.is_ok();
            if away.is_to_renew(up, Instant::now()) {
                tracing::warn!("the database is away for long: its connections are made anew");
                store.renew();
            }
            answer.unwrap_or_else(|error| self.store.down(&error));
            self.see(up);
            if up && let Ok(synchronous) = within(ANSWER_SECONDS_MAX, store.is_synchronous()).await {
                *self.synchronous.lock() = synchronous;
            }
            Metric::StoreUp.set(f64::from(u8::from(up)));
            Metric::BusUp.set(f64::from(u8::from(bus.is_up())));
            Metric::RoomsResident.set(hub.rooms_resident() as f64);
            Metric::Deliveries.count_is(hub.deliveries());
            match up {
                true => tokio::select! {
                    () = sleep(EVERY) => {}
                    () = self.store_is_down() => {}
                },
                false => sleep(EVERY_AWAY).await,
            }
        }
    }

    fn see(&self, up: bool) {
        if up {
            self.store.up();
        }
        let changed = self.store_up.send_if_modified(|was| std::mem::replace(was, up) != up);
        match (changed, up) {
            (true, true) => tracing::info!("the database is there"),
            (true, false) => tracing::warn!("the database is away"),
            (false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_given_up_once_each_time_that_a_store_is_away_for_long() {
        let (mut away, start) = (Away::default(), Instant::now());
        let mut sees = |up, seconds| away.is_to_renew(up, start + Duration::from_secs(seconds));
        assert_eq!([sees(true, 0), sees(false, 20), sees(false, 29)], [false; 3]);
        assert_eq!([sees(false, 30), sees(false, 31), sees(false, 99)], [true, false, false]);
        assert_eq!([sees(true, 100), sees(false, 101), sees(false, 110)], [false; 3]);
        assert!(sees(false, 111));
    }
}

//! The hub: delivers committed events to the connections of this node, each once and in order.
//!
//! Owns who is here and which rooms are resident. Events come from this node's commits and from the bus, in any order and
//! perhaps never; a [`Feed`] puts them in order, and what is missing is read from the store. A lock on a room is held for a moment, never
//! across an await and never while a socket is written to.

mod catch_up;
mod fan_out;
mod feed;
mod outbound;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::extract::ws::Utf8Bytes;
use indexmap::IndexMap;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::mpsc;
use uuid::Uuid;

pub use self::catch_up::Start;

#[cfg(test)]
pub(crate) use self::outbound::tests::outbound as scripted;
pub use self::outbound::{Notice, Outbound, Socket, Turn, Writes};
use self::{
    fan_out::FanOut,
    feed::{Feed, Sent},
};
use crate::{
    bus::{Bus, SHARDS, Scope, shard},
    event::{Event, Membership, Seat, Seq, User},
    metric::Metric,
    protocol::{CloseReason, Frames, ServerFrame},
    store::{Head, SharedStore, answered},
    trace::Traces,
};

/// How long those who followed a history that was set back are asked to wait before they connect again, at most: not all at once.
const COME_BACK_MS_MAX: u64 = 2_000;

/// A connection of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Delivers committed events to connections.
pub struct Hub {
    rooms: Vec<Mutex<HashMap<Uuid, Feed>>>,
    users: Mutex<HashMap<User, HashMap<ConnectionId, Arc<Outbound>>>>,
    store: SharedStore,
    bus: Bus,
    traces: Traces,
    ring_events: usize,
    /// Rooms of which something is missing.
    lacking: mpsc::UnboundedSender<Uuid>,
    fan_out: FanOut,
    deliveries: AtomicU64,
}

impl Hub {
    /// Makes the hub and starts its background tasks, which end with the hub.
    pub fn new(store: SharedStore, bus: Bus, traces: Traces, ring_events: usize) -> Arc<Hub> {
        let (lacking, receiver) = mpsc::unbounded_channel();
        let (fan_out, gathered) = FanOut::new();
        let hub = Arc::new(Hub {
            rooms: (0..SHARDS).map(|_| Mutex::default()).collect(),
            users: Mutex::default(),
            store,
            bus,
            traces,
            ring_events,
            lacking,
            fan_out,
            deliveries: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&hub);
        fan_out::start(&weak, gathered);
        tokio::spawn(catch_up::fill_gaps(weak, receiver));
        hub
    }

    /// A connection has become a user's.
    pub fn enter(&self, user: &User, id: ConnectionId, outbound: &Arc<Outbound>) {
        self.users.lock().entry(user.clone()).or_default().insert(id, outbound.clone());
    }

    /// A connection has ended.
    pub fn exit(&self, user: &User, id: ConnectionId, rooms: impl Iterator<Item = Uuid>) {
        let mut users = self.users.lock();
        if let Some(connections) = users.get_mut(user) {
            connections.remove(&id);
            if connections.is_empty() {
                users.remove(user);
            }
        }
        drop(users);
        for room in rooms {
            self.unfollow(room, id);
        }
    }

    /// A connection receives a room's events no more. A room without connections is resident no more.
    pub fn unfollow(&self, room: Uuid, id: ConnectionId) {
        self.release(room, |feed| feed.remove(id));
    }

    /// Does something that may leave a room unused; such a room is resident no more, and a shard without rooms is followed no more.
    fn release(&self, room: Uuid, act: impl FnOnce(&mut Feed)) {
        let mut rooms = self.shard(room).lock();
        let Some(feed) = rooms.get_mut(&room) else { return };
        act(feed);
        if feed.is_unused() {
            rooms.remove(&room);
            if rooms.is_empty() {
                // Under the lock: whoever makes a room of this shard resident from now on follows it after this.
                self.bus.unfollow(shard(room));
            }
        }
    }

    /// Brings committed events: they are placed and delivered in a moment.
    pub fn deliver(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            if let Err(event) = self.fan_out.bring(event) {
                self.hear([(event.room, event.seq)]);
            }
        }
    }

    /// Places committed events and delivers those whose turn it is. What belongs to one room goes out together.
    async fn deliver_now(&self, events: impl IntoIterator<Item = Event>) {
        let mut rooms: IndexMap<Uuid, Vec<Event>> = IndexMap::new();
        for event in events {
            rooms.entry(event.room).or_default().push(event);
        }
        let mut writes = Writes::default();
        for (room, events) in rooms {
            let (outbounds, sent) = self.place(room, events);
            for outbound in &outbounds {
                writes.flush(outbound).await;
            }
            sent.iter().for_each(|sent| note_age(sent.id));
            self.traces.delivered(sent.into_iter().filter_map(|sent| sent.trail), outbounds.len());
        }
    }

    /// Puts a room's events into queues, and tells whose are to be flushed, and what went into them.
    fn place(&self, room: Uuid, events: Vec<Event>) -> (Vec<Arc<Outbound>>, Vec<Sent>) {
        let mut events = events.into_iter();
        loop {
            let mut rooms = self.shard(room).lock();
            let Some(feed) = rooms.get_mut(&room) else { return Default::default() };
            let placed = feed.place(&mut events);
            self.count_deliveries(placed.deliveries);
            if !placed.broken {
                if placed.lacks {
                    self.report_lacking(room);
                }
                let outbounds = if placed.deliveries == 0 { Vec::new() } else { feed.followers().cloned().collect() };
                return (outbounds, placed.sent);
            }
            drop(rooms);
            self.break_off(room);
        }
    }

    /// A room's history is another one: whoever followed it comes back and is told what follows.
    fn break_off(&self, room: Uuid) {
        let mut followers = Vec::new();
        self.release(room, |feed| followers = feed.restart());
        followers.iter().for_each(|outbound| send_anew(outbound));
    }

    /// Tells a user's connections of a membership.
    pub fn change(&self, membership: &Membership) {
        if let Some(connections) = self.users.lock().get(&membership.user) {
            for outbound in connections.values() {
                outbound.notice(Notice::Changed(membership.clone()));
            }
        }
    }

    /// Tells a user's connections of something that is not stored.
    pub fn tell_user(&self, user: &str, frame: &Utf8Bytes) {
        if let Some(connections) = self.users.lock().get(user) {
            let frame = Frames::text(frame);
            connections.values().for_each(|outbound| outbound.offer(&frame));
        }
    }

    /// Tells the connections of a room of something that is not stored, unless the room is a crowd.
    pub fn tell_room(&self, room: Uuid, frame: &Utf8Bytes) {
        self.with_feed(room, |feed| feed.tell(frame));
    }

    /// Hears that rooms have these heads, and reads what is missing.
    pub fn hear(&self, heads: impl IntoIterator<Item = (Uuid, Seq)>) {
        for (room, seq) in heads {
            if self.with_feed(room, |feed| feed.hear(seq)) == Some(true) {
                self.report_lacking(room);
            }
        }
    }

    /// Hears that something may have been missed, and compares with the store.
    pub async fn recheck(&self, scope: Scope) -> Result<(), crate::store::StoreError> {
        const ROOMS_AT_ONCE: usize = 1_000;
        let shards = match scope {
            Scope::Everything => 0..SHARDS,
            Scope::Shard(shard) => usize::from(shard)..usize::from(shard) + 1,
            Scope::Memberships => 0..0,
        };
        let resident: Vec<Uuid> =
            shards.flat_map(|shard| self.rooms[shard].lock().keys().copied().collect::<Vec<_>>()).collect();
        for rooms in resident.chunks(ROOMS_AT_ONCE) {
            let heads = answered(self.store.heads(rooms)).await?;
            for Head { room, epoch, .. } in &heads {
                if self.with_feed(*room, |feed| feed.is_of(*epoch)) == Some(false) {
                    self.break_off(*room);
                }
            }
            self.hear(heads.iter().map(|head| (head.room, head.seq)));
        }
        if matches!(scope, Scope::Everything | Scope::Memberships) {
            let users: Vec<User> = self.users.lock().keys().cloned().collect();
            self.recheck_memberships(&users).await?;
        }
        Ok(())
    }

    /// Compares the memberships of those of these users who are here with the store.
    pub async fn recheck_memberships(&self, users: &[User]) -> Result<(), crate::store::StoreError> {
        const USERS_AT_ONCE: usize = 500;
        let here: Vec<User> = {
            let connected = self.users.lock();
            users.iter().filter(|user| connected.contains_key(*user)).cloned().collect()
        };
        for users in here.chunks(USERS_AT_ONCE) {
            let mut rooms: HashMap<User, Vec<Seat>> = users.iter().map(|user| (user.clone(), Vec::new())).collect();
            for (user, room) in answered(self.store.memberships(users)).await? {
                rooms.entry(user).or_default().push(room);
            }
            let connected = self.users.lock();
            for (user, rooms) in rooms {
                for outbound in connected.get(&user).into_iter().flat_map(HashMap::values) {
                    outbound.notice(Notice::All(rooms.clone()));
                }
            }
        }
        Ok(())
    }

    /// Rooms that are resident now.
    pub fn rooms_resident(&self) -> usize {
        self.rooms.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Events put into connections' queues since the start.
    pub fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    fn shard(&self, room: Uuid) -> &Mutex<HashMap<Uuid, Feed>> {
        &self.rooms[usize::from(shard(room))]
    }

    fn report_lacking(&self, room: Uuid) {
        // The receiver lives as long as the hub.
        let _ = self.lacking.send(room);
    }

    fn with_feed<T>(&self, room: Uuid, act: impl FnOnce(&mut Feed) -> T) -> Option<T> {
        self.shard(room).lock().get_mut(&room).map(act)
    }

    fn count_deliveries(&self, deliveries: usize) {
        self.deliveries.fetch_add(deliveries as u64, Ordering::Relaxed);
    }
}

/// Lets a client come back for another history, not all at once.
fn send_anew(outbound: &Outbound) {
    let after_ms = rand::rng().random_range(0..=COME_BACK_MS_MAX);
    outbound.close(CloseReason::HistoryChanged, Some(&ServerFrame::Reconnect { after_ms }.encode()));
}

/// Notes how old an event is at its delivery. Its id has the time of its arrival (UUIDv7).
fn note_age(event: Uuid) {
    let Some((seconds, nanoseconds)) = event.get_timestamp().map(|time| time.to_unix()) else { return };
    let arrived = Duration::new(seconds, nanoseconds);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Metric::DeliveryLatency.observe(now.saturating_sub(arrived).as_secs_f64());
}

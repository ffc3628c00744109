//! Catching up: reading from the store what the bus did not bring, for a room or for one connection.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{ConnectionId, Hub, Outbound, feed::Feed, feed::Follow, send_anew};
use crate::{
    bus::shard,
    event::{Event, Seq},
    metric::Metric,
    protocol::{Frames, HistoryRange},
    store::answered,
};

/// How long a gap waits for the bus before the store is read. Long beside the bus's latency, short beside a person's.
const GAP: Duration = Duration::from_millis(50);

/// How often a room that lacks something is left to fan-out that is busy, before the store is read all the same.
const WAITS_MAX: u32 = 20;

/// Time between attempts to read from a store that is away.
const RETRY: Duration = Duration::from_millis(200);

/// Events read at once.
const PAGE_EVENTS: usize = 200;

/// Where a connection begins to follow a room.
#[derive(Debug)]
pub struct Start {
    /// The room.
    pub room: Uuid,
    /// The history that it follows.
    pub epoch: i32,
    /// What the connection has seen of it.
    pub position: Seq,
    /// Cancelled when the connection is to follow it no more.
    pub ended: CancellationToken,
}

impl Hub {
    /// Makes rooms resident, so that everything committed from now on arrives or is noticed to be missing: first the bus, then
    /// the heads. Waits for as long as the store is away.
    async fn reside(&self, rooms: &[Uuid]) {
        let mut loading: Vec<Uuid> = rooms.iter().copied().filter(|room| !self.is_loaded(*room)).collect();
        if loading.is_empty() {
            return;
        }
        self.bus.follow(loading.iter().map(|room| shard(*room))).await;
        // One reads a room's head for all; in id order, so that nobody waits for each other.
        loading.sort_unstable();
        loading.dedup();
        let mut flights = Vec::with_capacity(loading.len());
        for &room in &loading {
            let flight = self.shard(room).lock().entry(room).or_insert_with(|| Feed::new(self.ring_events)).flight();
            flights.push(flight.lock_owned().await);
        }
        loading.retain(|room| !self.is_loaded(*room));
        if loading.is_empty() {
            return;
        }
        let heads = loop {
            match answered(self.store.heads(&loading)).await {
                Ok(heads) => break heads,
                Err(error) => tracing::debug!(%error, "heads cannot be read yet"),
            }
            sleep(RETRY).await;
        };
        for head in heads {
            self.with_feed(head.room, |feed| feed.load(head.seq, head.epoch));
        }
    }

    fn is_loaded(&self, room: Uuid) -> bool {
        self.with_feed(room, |feed| feed.head().is_some()) == Some(true)
    }

    /// Lets a connection follow rooms, each from the position that it has seen, by replaying what it missed. Dropping the future
    /// gives up; a token gives up for one room, before anything more of it is replayed if whoever cancels it also polls this.
    pub async fn follow(self: Arc<Self>, id: ConnectionId, outbound: Arc<Outbound>, starts: Vec<Start>) {
        let rooms: Vec<Uuid> = starts.iter().map(|start| start.room).collect();
        let _expected = Expected::new(&self, rooms.clone());
        self.reside(&rooms).await;
        for Start { room, epoch, position, ended } in starts {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = self.follow_one(id, &outbound, room, epoch, position) => {}
            }
        }
    }

    async fn follow_one(&self, id: ConnectionId, outbound: &Arc<Outbound>, room: Uuid, epoch: i32, mut position: Seq) {
        let (mut reading, mut is_reread) = (None, false);
        while !outbound.is_closing() {
            if reading.is_none() {
                // Never with the right to read: a slow client must not keep others from it.
                outbound.space(self.ring_events).await;
            }
            match self.with_feed(room, |feed| feed.follow(id, outbound, epoch, position)) {
                Some(Follow::Joined(deliveries)) => {
                    outbound.flush();
                    return self.count_deliveries(deliveries);
                }
                // One reads at a time. Whoever waited looks first whether it still has to.
                Some(Follow::Behind { .. }) if reading.is_none() => {
                    let Some(flight) = self.with_feed(room, Feed::flight) else { continue };
                    reading = Some(flight.lock_owned().await);
                }
                // The first one reads for all: what memory would hold had the node been here all the time.
                Some(Follow::Behind { head }) if self.with_feed(room, Feed::warm) == Some(true) => {
                    let latest = HistoryRange { before: Some(head + 1), after: None };
                    let events = self.read(room, latest, self.ring_events).await;
                    self.with_feed(room, |feed| feed.remember(&events, head));
                    reading = None;
                }
                Some(Follow::Behind { head }) => {
                    let events = self.read_after(room, position).await;
                    reading = None;
                    // What retention has dropped cannot be replayed.
                    position = events.last().map_or(head, |event| event.seq);
                    self.with_feed(room, |feed| feed.remember(&events, head));
                    for event in events {
                        outbound.space(1).await;
                        outbound.put(Frames::text(&event.frame));
                        self.count_deliveries(1);
                    }
                    outbound.flush();
                }
                // The connection was welcomed to a history that is no more.
                Some(Follow::Over) => return send_anew(outbound),
                // Nor is a later one than the database's own, once that was read anew.
                Some(Follow::Stale) if is_reread => return send_anew(outbound),
                Some(Follow::Stale) => {
                    self.break_off(room);
                    (reading, is_reread) = (None, true);
                }
                Some(Follow::Ahead) => {
                    let events = self.with_feed(room, |feed| feed.head()).flatten();
                    let events = self.read_after(room, events.unwrap_or(position)).await;
                    if events.is_empty() {
                        // The store has gone back to before this position: nothing to follow until the client learns of it.
                        sleep(RETRY).await;
                    }
                    self.deliver_now(events).await;
                }
                Some(Follow::Loading) | None => {
                    reading = None;
                    self.reside(&[room]).await;
                }
            }
        }
    }

    async fn read_after(&self, room: Uuid, position: Seq) -> Vec<Event> {
        self.read(room, HistoryRange { before: None, after: Some(position) }, PAGE_EVENTS).await
    }

    /// Reads a page of the log, waiting for as long as the store is away.
    async fn read(&self, room: Uuid, range: HistoryRange, limit: usize) -> Vec<Event> {
        loop {
            Metric::LogReads.count();
            match answered(self.store.page(room, range, limit)).await {
                Ok(page) => return page.events,
                Err(error) => tracing::debug!(%error, "events cannot be read yet"),
            }
            sleep(RETRY).await;
        }
    }
}

/// Keeps rooms resident while a connection catches up.
struct Expected<'a> {
    hub: &'a Hub,
    rooms: Vec<Uuid>,
}

impl<'a> Expected<'a> {
    fn new(hub: &'a Hub, rooms: Vec<Uuid>) -> Self {
        for &room in &rooms {
            let mut feeds = hub.shard(room).lock();
            feeds.entry(room).or_insert_with(|| Feed::new(hub.ring_events)).expect();
        }
        Expected { hub, rooms }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        for &room in &self.rooms {
            self.hub.release(room, Feed::expect_no_more);
        }
    }
}

/// The hub's background task: reads what rooms lack, once the bus had its chance, and fan-out too.
pub(super) async fn fill_gaps(hub: Weak<Hub>, mut lacking: mpsc::UnboundedReceiver<Uuid>) {
    let mut due: HashMap<Uuid, Due> = HashMap::new();
    loop {
        let next = due.values().map(|due| due.at).min();
        tokio::select! {
            room = lacking.recv() => match room {
                Some(room) => {
                    due.entry(room).or_insert_with(|| Due { at: Instant::now() + GAP, waits: 0 });
                    continue;
                }
                None => return,
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
        let Some(hub) = hub.upgrade() else { return };
        let now = Instant::now();
        let ready: Vec<Uuid> = due.iter().filter(|(_, due)| due.at <= now).map(|(room, _)| *room).collect();
        for room in ready {
            let waits = due.remove(&room).map_or(0, |due| due.waits);
            let Some(head) = hub.with_feed(room, |feed| feed.is_lacking().then(|| feed.head())).flatten().flatten()
            else {
                continue;
            };
            if waits < WAITS_MAX && hub.fan_out.is_behind(shard(room)) {
                // What seems to be missing may be among what is on its way.
                due.insert(room, Due { at: Instant::now() + GAP, waits: waits + 1 });
                continue;
            }
            Metric::GapReads.count();
            let missing = HistoryRange { before: None, after: Some(head) };
            match answered(hub.store.page(room, missing, PAGE_EVENTS)).await {
                Ok(page) => hub.deliver_now(page.events).await,
                Err(error) => tracing::debug!(%error, "a gap cannot be filled yet"),
            }
            if hub.with_feed(room, |feed| feed.is_lacking()) == Some(true) {
                due.insert(room, Due { at: Instant::now() + RETRY, waits: 0 });
            }
        }
    }
}

/// When a room is looked at, and how often it was left to fan-out before.
struct Due {
    at: Instant,
    waits: u32,
}

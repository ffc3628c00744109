//! Catching up: reading from the store what the bus did not bring, for a room or for one connection.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::{
    sync::CancellationToken,
    time::{DelayQueue, delay_queue::Expired},
};
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

/// Rooms whose gaps are filled at once: few, since requests share the connections.
const FILLED_AT_ONCE: usize = 4;

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
                    if events.iter().any(|event| event.epoch > epoch) {
                        // The history became another one while it was read.
                        return send_anew(outbound);
                    }
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

/// The hub's background task: reads what rooms lack, once the bus had its chance, and fan-out too. Some rooms at a time, so that one which is
/// far behind holds up no other.
pub(super) async fn fill_gaps(hub: Weak<Hub>, mut lacking: mpsc::UnboundedReceiver<Uuid>) {
    let (mut known, mut due, mut filling) = (HashSet::new(), DelayQueue::new(), FuturesUnordered::new());
    loop {
        tokio::select! {
            room = lacking.recv() => match room {
                Some(room) if known.insert(room) => drop(due.insert(Due { room, waits: 0 }, GAP)),
                Some(_) => {}
                None => return,
            },
            Some(Due { room, waits }) = next(&mut due), if filling.len() < FILLED_AT_ONCE => {
                let Some(hub) = hub.upgrade() else { return };
                filling.push(async move { (room, hub.fill(room, waits).await) });
            }
            Some((room, again)) = filling.next() => {
                // What was reported meanwhile was not taken up: so it is looked at here.
                let lacks = || hub.upgrade()?.with_feed(room, |feed| feed.is_lacking())?.then_some((RETRY, 0));
                match again.or_else(lacks) {
                    Some((after, waits)) => drop(due.insert(Due { room, waits }, after)),
                    None => drop(known.remove(&room)),
                }
            }
        }
    }
}

async fn next(due: &mut DelayQueue<Due>) -> Option<Due> {
    due.next().await.map(Expired::into_inner)
}

/// A room that lacks something, and how often it was left to fan-out before.
struct Due {
    room: Uuid,
    waits: u32,
}

impl Hub {
    /// Reads what a room lacks. Tells after what time to look again, where it is to wait, and how often it was left to fan-out then.
    async fn fill(&self, room: Uuid, waits: u32) -> Option<(Duration, u32)> {
        let mut last = None;
        loop {
            let head = self.with_feed(room, |feed| feed.is_lacking().then(|| feed.head()))???;
            // A page that was full and brought nothing is not read again at once.
            if last.replace(head) == Some(head) {
                return None;
            }
            if waits < WAITS_MAX && self.fan_out.is_behind(shard(room)) {
                // What seems to be missing may be among what is on its way.
                return Some((GAP, waits + 1));
            }
            Metric::GapReads.count();
            let missing = HistoryRange { before: None, after: Some(head) };
            let read = answered(self.store.page(room, missing, PAGE_EVENTS)).await;
            let events = read.inspect_err(|error| tracing::debug!(%error, "a gap cannot be filled yet")).ok()?.events;
            let is_last = events.len() < PAGE_EVENTS;
            self.deliver_now(events).await;
            if is_last {
                return None;
            }
        }
    }
}

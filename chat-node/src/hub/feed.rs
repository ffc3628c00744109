//! A resident room: its order, its latest events, and who receives them.
//!
//! Pure: no clock, no store, no await. The feed's head advances by one event at a time, and each advance delivers that event to every
//! connection that follows; a connection joins only at the head. That alone makes delivery exactly once and in order.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use axum::extract::ws::Utf8Bytes;
use indexmap::IndexMap;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{ConnectionId, Outbound};
use crate::{
    event::{Event, Seq},
    protocol::Frames,
    trace::Trail,
};

/// Events that wait for an earlier one. Beyond, they are forgotten and read from the store when their turn comes.
const EARLY_MAX: usize = 1_024;

/// Connections of a room beyond which it is a crowd, in which nobody is told who types.
const CROWD: usize = 500;

pub(super) struct Feed {
    /// The last event that was delivered; `None` until the store was asked.
    head: Option<Seq>,
    /// The epoch of that head.
    epoch: i32,
    /// The highest position that was heard of.
    known: Seq,
    ring: VecDeque<Event>,
    ring_max: usize,
    early: BTreeMap<Seq, Event>,
    /// Frames whose turn it is, within one call.
    outgoing: Vec<(Utf8Bytes, Sent)>,
    followers: IndexMap<ConnectionId, Arc<Outbound>>,
    /// Connections that are catching up and keep the room resident.
    arriving: usize,
    /// Held by the one that reads the log for those who are behind; made when somebody is.
    flight: Option<Arc<Mutex<()>>>,
    /// Whether the log was read to fill the ring.
    warm: bool,
    /// The last event that changed what an earlier one says.
    rewritten: Seq,
}

/// What became of events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    /// Frames that went into queues.
    pub(super) deliveries: usize,
    /// Whether an earlier event is missing.
    pub(super) lacks: bool,
    /// One belongs to a later history: this one ends. Those behind it were not looked at.
    pub(super) broken: bool,
    /// What went into queues.
    pub(super) sent: Vec<Sent>,
}

/// An event that went into queues.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its id.
    pub(super) id: Uuid,
    /// How it came here, if that is followed.
    pub(super) trail: Option<Box<Trail>>,
}

/// What became of a connection that wants to follow from a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// It follows now; so many events were given to it from memory.
    Joined(usize),
    /// It must read up to the head first.
    Behind {
        /// The head.
        head: Seq,
    },
    /// It has seen more than this node.
    Ahead,
    /// It has seen a history that is over.
    Over,
    /// It has seen a later history than this node.
    Stale,
    /// The store was not asked yet.
    Loading,
}

impl Feed {
    pub(super) fn new(ring_max: usize) -> Self {
        Feed {
            head: None,
            epoch: 0,
            known: 0,
            ring: VecDeque::new(),
            ring_max,
            early: BTreeMap::new(),
            outgoing: Vec::new(),
            followers: IndexMap::new(),
            arriving: 0,
            flight: None,
            warm: false,
            rewritten: 0,
        }
    }

    pub(super) fn head(&self) -> Option<Seq> {
        self.head
    }

    /// Sets the head as the store tells it, for a feed that has none.
    pub(super) fn load(&mut self, head: Seq, epoch: i32) {
        if self.head.is_none() {
            (self.head, self.epoch) = (Some(head), epoch);
            self.early.retain(|_, event| event.epoch == epoch);
            self.known = self.known.max(head);
            self.early = self.early.split_off(&(head + 1));
            self.release();
            // Nobody follows a feed that has no head.
            self.outgoing.clear();
        }
    }

    /// Hears of a position; tells whether something is missing.
    pub(super) fn hear(&mut self, seq: Seq) -> bool {
        self.known = self.known.max(seq);
        self.is_lacking()
    }

    /// Whether something that was heard of was not delivered.
    pub(super) fn is_lacking(&self) -> bool {
        self.head.is_some_and(|head| head < self.known)
    }

    /// Takes events of this room in any order, and puts those whose turn it is into the followers' queues, encoded once for all of
    /// them. The followers are to be flushed.
    pub(super) fn place(&mut self, events: &mut impl Iterator<Item = Event>) -> Placed {
        let mut broken = false;
        for event in events {
            match self.head {
                Some(_) if event.epoch > self.epoch => {
                    broken = true;
                    break;
                }
                Some(_) if event.epoch < self.epoch => continue,
                _ => self.known = self.known.max(event.seq),
            }
            match self.head {
                Some(head) if event.seq <= head => {}
                Some(head) if event.seq == head + 1 => {
                    self.advance(event);
                    self.release();
                }
                _ if self.early.len() < EARLY_MAX => {
                    self.early.insert(event.seq, event);
                }
                _ => {}
            }
        }
        let (deliveries, sent) = self.broadcast();
        Placed { deliveries, lacks: self.is_lacking(), broken, sent }
    }

    /// Whether the log of this epoch is the one that is followed, as far as is known.
    pub(super) fn is_of(&self, epoch: i32) -> bool {
        self.head.is_none() || self.epoch == epoch
    }

    /// Forgets everything, because the history is another one. Gives those who followed the old one.
    pub(super) fn restart(&mut self) -> Vec<Arc<Outbound>> {
        let followers = std::mem::take(&mut self.followers);
        *self = Feed { arriving: self.arriving, ..Feed::new(self.ring_max) };
        followers.into_values().collect()
    }

    /// Lets a connection follow from a position: it must have seen exactly what comes before. The connection is to be flushed.
    pub(super) fn follow(&mut self, id: ConnectionId, outbound: &Arc<Outbound>, epoch: i32, position: Seq) -> Follow {
        let Some(head) = self.head else { return Follow::Loading };
        match epoch.cmp(&self.epoch) {
            Ordering::Less => return Follow::Over,
            Ordering::Greater => return Follow::Stale,
            Ordering::Equal => {}
        }
        if position > head {
            return Follow::Ahead;
        }
        let missed = usize::try_from(head - position).unwrap_or(usize::MAX);
        if missed > self.ring.len() {
            return Follow::Behind { head };
        }
        if missed > 0 {
            let missed = self.ring.range(self.ring.len() - missed..);
            outbound.put(Frames::texts(missed.map(|event| event.frame.as_str())));
        }
        self.followers.insert(id, outbound.clone());
        Follow::Joined(missed)
    }

    /// Takes events that were read from the store when the head was `as_of`, so that the next one finds them in memory.
    pub(super) fn remember(&mut self, events: &[Event], as_of: Seq) {
        let is_later = |event: &Event| event.epoch > self.epoch;
        if self.rewritten > as_of || events.iter().any(is_later) {
            // They may say what was taken back since, or belong to a history after this one.
            return;
        }
        for event in events.iter().rev() {
            let next = self.ring.front().map(|oldest| oldest.seq).or(self.head.map(|head| head + 1));
            if self.ring.len() < self.ring_max && Some(event.seq + 1) == next {
                self.ring.push_front(event.clone());
            }
        }
    }

    /// What to hold while reading the log, so that those who are behind together read it once.
    pub(super) fn flight(&mut self) -> Arc<Mutex<()>> {
        self.flight.get_or_insert_default().clone()
    }

    /// Whether the ring is still to be filled from the log; tells so once.
    pub(super) fn warm(&mut self) -> bool {
        !std::mem::replace(&mut self.warm, true)
    }

    /// Tells those who follow of something that is no event.
    pub(super) fn tell(&self, frame: &Utf8Bytes) {
        if self.followers.len() <= CROWD {
            let frame = Frames::text(frame);
            self.followers.values().for_each(|outbound| outbound.offer(&frame));
        }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.followers.swap_remove(&id);
    }

    /// Counts a connection that is catching up.
    pub(super) fn expect(&mut self) {
        self.arriving += 1;
    }

    /// That connection follows now, or is gone.
    pub(super) fn expect_no_more(&mut self) {
        self.arriving -= 1;
    }

    pub(super) fn is_unused(&self) -> bool {
        self.followers.is_empty() && self.arriving == 0
    }

    /// Everybody who follows.
    pub(super) fn followers(&self) -> impl Iterator<Item = &Arc<Outbound>> {
        self.followers.values()
    }

    /// Takes early events whose turn has come.
    fn release(&mut self) {
        while let Some(entry) = self.early.first_entry() {
            let next = self.head.map_or(0, |head| head + 1);
            if *entry.key() > next {
                break;
            }
            let event = entry.remove();
            if event.seq == next {
                self.advance(event);
            }
        }
    }

    fn advance(&mut self, mut event: Event) {
        self.head = Some(event.seq);
        self.outgoing.push((event.frame.clone(), Sent { id: event.id, trail: event.trail.take() }));
        if event.rewrites {
            // What is replaced or deleted is not told again from memory: the store knows what earlier events say now.
            self.ring.clear();
            self.rewritten = event.seq;
        } else if self.ring.len() == self.ring_max {
            self.ring.pop_front();
        }
        self.ring.push_back(event);
    }

    /// Puts what is outgoing into everybody's queue.
    fn broadcast(&mut self) -> (usize, Vec<Sent>) {
        let outgoing = std::mem::take(&mut self.outgoing);
        if outgoing.is_empty() || self.followers.is_empty() {
            return (0, Vec::new());
        }
        let frames = Frames::texts(outgoing.iter().map(|(frame, _)| frame.as_str()));
        self.followers.values().for_each(|outbound| outbound.put(frames.clone()));
        (frames.count() * self.followers.len(), outgoing.into_iter().map(|(_, sent)| sent).collect())
    }
}

#[cfg(test)]
mod tests;

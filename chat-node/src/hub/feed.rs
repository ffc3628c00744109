//! A resident room: its order, its latest events, and who receives them.
//!
//! Pure: no clock, no store, no await. The feed's head advances by one event at a time, and each advance delivers that event to every
//! connection that follows; a connection joins only at the head. That alone makes delivery exactly once and in order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use axum::extract::ws::Utf8Bytes;
use indexmap::IndexMap;

use super::{ConnectionId, Outbound};
use crate::event::{Event, Seq};

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
    followers: IndexMap<ConnectionId, Arc<Outbound>>,
    /// Connections that are catching up and keep the room resident.
    arriving: usize,
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It was its turn: so many frames went out, with those that it released.
    Delivered(usize),
    /// An earlier one is missing.
    Early,
    /// It had been delivered, or belongs to an earlier history.
    Old,
    /// It belongs to a later history: this one ends.
    Broken,
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
            followers: IndexMap::new(),
            arriving: 0,
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

    pub(super) fn place(&mut self, event: Event) -> Place {
        match self.head {
            Some(_) if event.epoch > self.epoch => return Place::Broken,
            Some(_) if event.epoch < self.epoch => return Place::Old,
            _ => {}
        }
        self.known = self.known.max(event.seq);
        match self.head {
            Some(head) if event.seq <= head => Place::Old,
            Some(head) if event.seq == head + 1 => {
                let first = self.advance(event);
                Place::Delivered(first + self.release())
            }
            _ => {
                if self.early.len() < EARLY_MAX {
                    self.early.insert(event.seq, event);
                }
                if self.head.is_some() { Place::Early } else { Place::Delivered(0) }
            }
        }
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

    /// Lets a connection follow from a position: it must have seen exactly what comes before.
    pub(super) fn follow(&mut self, id: ConnectionId, outbound: &Arc<Outbound>, position: Seq) -> Follow {
        let Some(head) = self.head else { return Follow::Loading };
        if position > head {
            return Follow::Ahead;
        }
        let missed = usize::try_from(head - position).unwrap_or(usize::MAX);
        if missed > self.ring.len() {
            return Follow::Behind { head };
        }
        for event in self.ring.range(self.ring.len() - missed..) {
            outbound.push(event.frame.clone());
        }
        self.followers.insert(id, outbound.clone());
        Follow::Joined(missed)
    }

    /// Takes events that were read from the store for a connection, so that the next one finds them in memory.
    pub(super) fn remember(&mut self, events: &[Event]) {
        for event in events.iter().rev() {
            let next = self.ring.front().map(|oldest| oldest.seq).or(self.head.map(|head| head + 1));
            if self.ring.len() < self.ring_max && Some(event.seq + 1) == next {
                self.ring.push_front(event.clone());
            }
        }
    }

    /// Tells those who follow of something that is no event.
    pub(super) fn tell(&self, frame: &Utf8Bytes) {
        if self.followers.len() <= CROWD {
            self.followers.values().for_each(|outbound| outbound.offer(frame));
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

    /// Delivers early events whose turn has come.
    fn release(&mut self) -> usize {
        let mut deliveries = 0;
        while let Some(entry) = self.early.first_entry() {
            let next = self.head.map_or(0, |head| head + 1);
            if *entry.key() > next {
                break;
            }
            let event = entry.remove();
            if event.seq == next {
                deliveries += self.advance(event);
            }
        }
        deliveries
    }

    fn advance(&mut self, event: Event) -> usize {
        self.head = Some(event.seq);
        for outbound in self.followers.values() {
            outbound.push(event.frame.clone());
        }
        if event.rewrites {
            // What is replaced or deleted is not told again from memory: the store knows what earlier events say now.
            self.ring.clear();
        } else if self.ring.len() == self.ring_max {
            self.ring.pop_front();
        }
        self.ring.push_back(event);
        self.followers.len()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn event(seq: Seq) -> Event {
        Event {
            room: Uuid::nil(),
            epoch: 1,
            seq,
            id: Uuid::from_u128(seq as u128),
            rewrites: false,
            frame: seq.to_string().into(),
        }
    }

    fn outbound() -> Arc<Outbound> {
        Arc::new(Outbound::new(1_000, 1_000_000))
    }

    fn seen(outbound: &Outbound) -> Vec<Seq> {
        outbound.drain().frames.iter().map(|frame| frame.as_str().parse().unwrap()).collect()
    }

    const ME: ConnectionId = ConnectionId(1);

    #[test]
    fn events_are_delivered_in_order_once_however_they_come() {
        // Every order of five events, each given twice.
        let mut orders = vec![vec![]];
        for seq in 1..=5 {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<Seq>| {
                    (0..=order.len()).map(move |at| {
                        let mut order = order.clone();
                        order.insert(at, seq);
                        order
                    })
                })
                .collect();
        }
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut feed = Feed::new(3);
            feed.load(0, 1);
            let me = outbound();
            assert_eq!(feed.follow(ME, &me, 0), Follow::Joined(0));
            for &seq in order.iter().chain(&order) {
                feed.place(event(seq));
            }
            assert_eq!(seen(&me), [1, 2, 3, 4, 5], "{order:?}");
            assert!(!feed.is_lacking());
        }
    }

    #[test]
    fn a_gap_is_told_and_filled_by_whatever_brings_the_missing_event() {
        let mut feed = Feed::new(3);
        feed.load(10, 1);
        let me = outbound();
        feed.follow(ME, &me, 10);
        assert_eq!(feed.place(event(12)), Place::Early);
        assert!(feed.is_lacking() && seen(&me).is_empty());
        assert_eq!(feed.place(event(11)), Place::Delivered(2));
        assert_eq!(seen(&me), [11, 12]);
        assert!(feed.hear(13), "a head that was heard of is missing");
    }

    #[test]
    fn what_comes_before_the_head_is_known_waits_and_nothing_is_lost() {
        let mut feed = Feed::new(3);
        let me = outbound();
        assert_eq!(feed.follow(ME, &me, 4), Follow::Loading);
        for seq in [5, 6, 8] {
            feed.place(event(seq));
        }
        feed.load(5, 1);
        assert_eq!(feed.head(), Some(6));
        assert!(feed.is_lacking(), "8 waits for 7");
        assert_eq!(feed.follow(ME, &me, 6), Follow::Joined(0));
        feed.place(event(7));
        assert_eq!(seen(&me), [7, 8]);
    }

    #[test]
    fn another_history_ends_this_one_and_an_earlier_one_is_not_delivered() {
        let mut feed = Feed::new(3);
        feed.load(10, 2);
        let me = outbound();
        feed.follow(ME, &me, 10);
        assert_eq!(feed.place(Event { epoch: 1, ..event(11) }), Place::Old);
        assert_eq!(feed.place(Event { epoch: 2, ..event(11) }), Place::Delivered(1));
        assert_eq!(feed.place(Event { epoch: 3, ..event(12) }), Place::Broken);
        assert!(feed.is_of(2) && !feed.is_of(3));
        assert_eq!(feed.restart().len(), 1);
        assert!(feed.is_unused() && feed.is_of(3));
        assert_eq!(feed.follow(ME, &me, 12), Follow::Loading);
        assert_eq!(seen(&me), [11]);
    }

    #[test]
    fn a_connection_joins_only_at_the_head() {
        let mut feed = Feed::new(3);
        feed.load(10, 1);
        for seq in 11..=15 {
            feed.place(event(seq));
        }
        let me = outbound();
        assert_eq!(feed.follow(ME, &me, 16), Follow::Ahead);
        assert_eq!(feed.follow(ME, &me, 11), Follow::Behind { head: 15 });
        assert_eq!(feed.follow(ME, &me, 12), Follow::Joined(3));
        feed.place(event(16));
        assert_eq!(seen(&me), [13, 14, 15, 16]);
    }

    #[test]
    fn what_was_read_from_the_store_serves_the_next_connection() {
        let mut feed = Feed::new(3);
        feed.load(10, 1);
        feed.remember(&[event(6), event(7), event(8), event(9), event(10)]);
        let me = outbound();
        assert_eq!(feed.follow(ME, &me, 6), Follow::Behind { head: 10 });
        assert_eq!(feed.follow(ME, &me, 7), Follow::Joined(3));
        assert_eq!(seen(&me), [8, 9, 10]);
        feed.remember(&[event(3), event(4)]);
        assert_eq!(feed.follow(ME, &me, 4), Follow::Behind { head: 10 }, "what does not join is not kept");
    }

    #[test]
    fn a_text_that_was_taken_back_is_not_told_again_from_memory() {
        let mut feed = Feed::new(5);
        feed.load(0, 1);
        for seq in 1..=3 {
            feed.place(event(seq));
        }
        feed.place(Event { rewrites: true, ..event(4) });
        let me = outbound();
        assert_eq!(feed.follow(ME, &me, 2), Follow::Behind { head: 4 }, "3 may be what 4 deletes");
        assert_eq!(feed.follow(ME, &me, 3), Follow::Joined(1));
        assert_eq!(seen(&me), [4]);
    }
}

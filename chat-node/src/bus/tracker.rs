//! Notices what did not arrive: a number that was skipped, or a node that fell silent.
//!
//! Pure. Each node numbers its messages per topic and tells the latest numbers in a heartbeat each second, so even the last message of
//! a busy hour is missed for a second at most.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::{
    Scope,
    wire::{Sender, Topic},
};

/// Silence after which a node counts as gone, and what it last committed as perhaps unpublished: three heartbeats.
const SILENCE: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct Tracker {
    senders: HashMap<Sender, Heard>,
}

struct Heard {
    at: Instant,
    numbers: HashMap<Topic, u64>,
}

impl Tracker {
    /// A numbered message arrived. Tells what was missed before it.
    pub(super) fn message(&mut self, sender: &Sender, topic: Topic, number: u64, now: Instant) -> Option<Scope> {
        match self.senders.get_mut(sender) {
            Some(heard) => {
                heard.at = now;
                let last = heard.numbers.insert(topic, number).unwrap_or(0);
                (number > last + 1).then(|| scope(topic)).flatten()
            }
            None => {
                // What it sent before it was first heard of is covered by the look at the store when listening began.
                self.senders.insert(sender.clone(), Heard { at: now, numbers: HashMap::from([(topic, number)]) });
                None
            }
        }
    }

    /// A heartbeat arrived. Tells what was missed before it.
    pub(super) fn heartbeat(&mut self, sender: &Sender, numbers: BTreeMap<Topic, u64>, now: Instant) -> Vec<Scope> {
        let Some(heard) = self.senders.get_mut(sender) else {
            self.senders.insert(sender.clone(), Heard { at: now, numbers: numbers.into_iter().collect() });
            return Vec::new();
        };
        heard.at = now;
        let missed = |(topic, number): (Topic, u64)| {
            let last = heard.numbers.insert(topic, number).unwrap_or(0);
            (number > last).then(|| scope(topic)).flatten()
        };
        numbers.into_iter().filter_map(missed).collect()
    }

    /// Forgets nodes that fell silent; tells whether there were any.
    pub(super) fn silent(&mut self, now: Instant) -> bool {
        let before = self.senders.len();
        self.senders.retain(|_, heard| now.duration_since(heard.at) < SILENCE);
        self.senders.len() < before
    }
}

fn scope(topic: Topic) -> Option<Scope> {
    match topic {
        Topic::Room(shard) => Some(Scope::Shard(shard)),
        Topic::Members => Some(Scope::Memberships),
        Topic::Signals | Topic::Heartbeat => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = Topic::Room(7);

    fn sender(run: u64) -> Sender {
        Sender { node: "demo-0".into(), run }
    }

    #[test]
    fn a_skipped_number_is_missed_and_the_next_ones_are_not() {
        let (mut tracker, now) = (Tracker::default(), Instant::now());
        let told: Vec<_> = [4, 5, 7, 8].map(|number| tracker.message(&sender(1), TOPIC, number, now)).into();
        assert_eq!(told, [None, None, Some(Scope::Shard(7)), None]);
        assert_eq!(
            tracker.message(&sender(1), Topic::Members, 2, now),
            Some(Scope::Memberships),
            "a known node begins at 1"
        );
        assert_eq!(tracker.message(&sender(2), TOPIC, 9, now), None, "another run is another sender");
    }

    #[test]
    fn a_heartbeat_tells_of_a_last_message_that_never_came() {
        let (mut tracker, now) = (Tracker::default(), Instant::now());
        let beat = |number| BTreeMap::from([(TOPIC, number)]);
        assert_eq!(tracker.heartbeat(&sender(1), beat(3), now), []);
        tracker.message(&sender(1), TOPIC, 4, now);
        assert_eq!(tracker.heartbeat(&sender(1), beat(4), now), []);
        assert_eq!(tracker.heartbeat(&sender(1), beat(5), now), [Scope::Shard(7)]);
        assert_eq!(tracker.heartbeat(&sender(1), beat(5), now), []);
    }

    #[test]
    fn a_silent_node_is_told_once() {
        let (mut tracker, now) = (Tracker::default(), Instant::now());
        tracker.heartbeat(&sender(1), BTreeMap::new(), now);
        assert!(!tracker.silent(now + SILENCE / 2));
        assert!(tracker.silent(now + SILENCE));
        assert!(!tracker.silent(now + SILENCE));
    }
}

//! What this node knows of outboxes: how far each was taken, and which of its sends wait in the queue.
//!
//! Pure. It decides what may be acknowledged without the database: a send whose predecessor is known to be durable, and no other. So
//! whatever was acknowledged finds its predecessors before it, in the log or in the queue, and never a gap.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use crate::{event::User, store::SendKey};

/// Sends of one outbox that are looked up at once.
const OLDEST_OF_EACH: usize = 16;

/// Outboxes that are open here or have sends that wait. `W` is whoever wants to hear of a send's fate.
#[derive(Debug)]
pub(super) struct Outboxes<W> {
    known: HashMap<Uuid, Known>,
    waiting: BTreeMap<Uuid, Waiting<W>>,
    count: usize,
    /// Outboxes that nobody used when [`Self::forget_idle`] was last asked, and the first send that waited in each.
    idle: HashMap<Uuid, i64>,
}

#[derive(Debug, Default)]
struct Known {
    /// Connections that use it.
    connections: usize,
    /// The last number that is known to be in the log.
    logged: i64,
    /// The last number that is known to be in the log or in the queue.
    taken: i64,
}

#[derive(Debug)]
struct Waiting<W> {
    owner: User,
    outbox: Uuid,
    sends: BTreeMap<i64, Vec<W>>,
}

/// Whether a send may go into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its predecessor is durable.
    Goes,
    /// Its predecessor is not known to be durable.
    Gap {
        /// The number to go on from.
        expected: i64,
    },
    /// Nothing is known of the outbox.
    Unknown,
}

impl<W> Default for Outboxes<W> {
    fn default() -> Self {
        Outboxes { known: HashMap::new(), waiting: BTreeMap::new(), count: 0, idle: HashMap::new() }
    }
}

impl<W> Outboxes<W> {
    /// A connection uses this outbox from now on.
    pub(super) fn open(&mut self, key: Uuid) {
        self.known.entry(key).or_default().connections += 1;
    }

    /// The log said that `last` was the last number it took; it may have taken more meanwhile, from a connection that the client has given up.
    /// What waits here comes after, and what waited and came to nothing counts no more.
    pub(super) fn found(&mut self, key: Uuid, last: i64) {
        let waiting = self.waiting.get(&key).and_then(|waiting| waiting.sends.keys().next_back()).copied();
        if let Some(known) = self.known.get_mut(&key) {
            known.logged = known.logged.max(last);
            known.taken = known.logged.max(waiting.unwrap_or(0));
        }
    }

    /// A connection uses this outbox no more.
    pub(super) fn close(&mut self, key: Uuid) {
        if let Some(known) = self.known.get_mut(&key) {
            known.connections -= 1;
        }
        self.forget_unused(key);
    }

    /// The log took this number: as an event or as a refusal.
    pub(super) fn took(&mut self, key: Uuid, n: i64) {
        if let Some(known) = self.known.get_mut(&key) {
            known.logged = known.logged.max(n);
            known.taken = known.taken.max(n);
        }
    }

    /// Which of these sends, in order, may go into the queue together.
    pub(super) fn verdicts(&self, sends: &[(Uuid, i64)]) -> Vec<Verdict> {
        let mut ahead: HashMap<Uuid, i64> = HashMap::new();
        let verdict = |(key, n): &(Uuid, i64)| {
            let Some(known) = self.known.get(key) else {
                // The first send of an outbox has no predecessor.
                return if *n == 1 { Verdict::Goes } else { Verdict::Unknown };
            };
            let taken = ahead.entry(*key).or_insert(known.taken);
            if *n > *taken + 1 {
                return Verdict::Gap { expected: *taken + 1 };
            }
            *taken = (*taken).max(*n);
            Verdict::Goes
        };
        sends.iter().map(verdict).collect()
    }

    /// The queue holds this send: its fate is to be told to `whoever`.
    pub(super) fn wait(&mut self, key: Uuid, send: &SendKey, whoever: Option<W>) {
        if let Some(known) = self.known.get_mut(&key) {
            known.taken = known.taken.max(send.n);
        }
        let new = || Waiting { owner: send.sender.clone(), outbox: send.outbox, sends: BTreeMap::new() };
        let sends = &mut self.waiting.entry(key).or_insert_with(new).sends;
        if !sends.contains_key(&send.n) {
            self.count += 1;
        }
        sends.entry(send.n).or_default().extend(whoever);
    }

    /// Whether an earlier send of the outbox waits.
    pub(super) fn is_behind(&self, key: Uuid, n: i64) -> bool {
        self.first(key).is_some_and(|first| first < n)
    }

    /// Whether the log is known to have taken a number.
    pub(super) fn has_taken(&self, key: Uuid, n: i64) -> bool {
        self.known.get(&key).is_some_and(|known| known.logged >= n)
    }

    /// The fate of a send is known. Gives whoever waits for it, if it is this one's turn: fates are told in the outbox's order.
    pub(super) fn settle(&mut self, key: Uuid, n: i64) -> Option<Vec<W>> {
        if self.first(key) != Some(n) {
            return None;
        }
        let waiting = self.waiting.get_mut(&key)?;
        let whoever = waiting.sends.remove(&n)?;
        self.count -= 1;
        if waiting.sends.is_empty() {
            self.waiting.remove(&key);
            self.forget_unused(key);
        }
        Some(whoever)
    }

    /// Forgets what waits in outboxes that nobody uses and that have not gone on since this was last asked: what was lost with the queue would
    /// else be looked for as long as the node lives. Nobody waits for it here, what is in the queue comes into the log all the same, and a
    /// client that is back sends again what it has no fate of.
    pub(super) fn forget_idle(&mut self) {
        let unused = self.waiting.iter().filter(|(key, _)| !self.is_open(**key));
        let idle: HashMap<Uuid, i64> =
            unused.filter_map(|(key, waiting)| Some((*key, *waiting.sends.keys().next()?))).collect();
        for (key, first) in &idle {
            if self.idle.get(key) == Some(first) {
                self.count -= self.waiting.remove(key).map_or(0, |waiting| waiting.sends.len());
                self.forget_unused(*key);
            }
        }
        self.idle = idle;
    }

    /// Up to `max` sends that have waited longest in their outboxes, beginning after the outbox `after`.
    pub(super) fn oldest(&self, after: Uuid, max: usize) -> Vec<(Uuid, SendKey)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let round =
            self.waiting.range((Excluded(after), Unbounded)).chain(self.waiting.range((Unbounded, Included(after))));
        round.flat_map(|(key, waiting)| oldest(*key, waiting)).take(max).collect()
    }

    /// The sends of these outboxes that have waited longest.
    pub(super) fn oldest_of(&self, keys: &HashSet<Uuid>) -> Vec<(Uuid, SendKey)> {
        let waiting = keys.iter().filter_map(|key| Some((*key, self.waiting.get(key)?)));
        waiting.flat_map(|(key, waiting)| oldest(key, waiting)).collect()
    }

    /// Whether a connection uses it.
    pub(super) fn is_open(&self, key: Uuid) -> bool {
        self.known.get(&key).is_some_and(|known| known.connections > 0)
    }

    /// The outboxes that connections use.
    pub(super) fn open_keys(&self) -> Vec<Uuid> {
        self.known.keys().filter(|key| self.is_open(**key)).copied().collect()
    }

    /// Sends that wait.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn first(&self, key: Uuid) -> Option<i64> {
        self.waiting.get(&key)?.sends.keys().next().copied()
    }

    fn forget_unused(&mut self, key: Uuid) {
        if !self.waiting.contains_key(&key) && self.known.get(&key).is_some_and(|known| known.connections == 0) {
            self.known.remove(&key);
        }
    }
}

fn oldest<W>(key: Uuid, waiting: &Waiting<W>) -> impl Iterator<Item = (Uuid, SendKey)> {
    let send = move |n: &i64| (key, SendKey { sender: waiting.owner.clone(), outbox: waiting.outbox, n: *n });
    waiting.sends.keys().take(OLDEST_OF_EACH).map(send)
}

/// Of sends that went into the queue in order, which may be acknowledged: those that are durable and have no predecessor in the same
/// outbox that is not.
pub(super) fn acknowledged(keys: &[Uuid], durable: &[bool]) -> Vec<bool> {
    let mut broken: HashSet<Uuid> = HashSet::new();
    let acknowledge = |(key, durable): (&Uuid, &bool)| {
        if !durable {
            broken.insert(*key);
        }
        !broken.contains(key)
    };
    keys.iter().zip(durable).map(acknowledge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn key(n: i64) -> SendKey {
        SendKey { sender: "alice".into(), outbox: Uuid::from_u128(9), n }
    }

    fn outboxes(last: i64) -> Outboxes<&'static str> {
        let mut outboxes = Outboxes::default();
        outboxes.open(A);
        outboxes.found(A, last);
        outboxes
    }

    /// Verdicts on numbers of A: `go`, the expected number, or `?`.
    #[track_caller]
    fn check(outboxes: &Outboxes<&'static str>, numbers: &[i64], expected: &[&str]) {
        let sends: Vec<_> = numbers.iter().map(|n| (A, *n)).collect();
        let told: Vec<String> = outboxes
            .verdicts(&sends)
            .into_iter()
            .map(|verdict| match verdict {
                Verdict::Goes => "go".into(),
                Verdict::Gap { expected } => expected.to_string(),
                Verdict::Unknown => "?".into(),
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn only_what_follows_on_something_durable_goes_into_the_queue() {
        check(&outboxes(4), &[5, 6, 7], &["go", "go", "go"]);
        check(&outboxes(4), &[6, 5, 6], &["5", "go", "go"]);
        check(&outboxes(4), &[3, 4, 5, 5, 7], &["go", "go", "go", "go", "6"]);
        check(&Outboxes::default(), &[1, 2], &["go", "?"]);
    }

    #[test]
    fn what_the_log_or_the_queue_took_is_followed_on() {
        let mut outboxes = outboxes(0);
        outboxes.took(A, 1);
        check(&outboxes, &[2, 4], &["go", "3"]);
        outboxes.wait(A, &key(2), Some("two"));
        check(&outboxes, &[3], &["go"]);
        outboxes.found(A, 1);
        check(&outboxes, &[3], &["go"]);
        assert_eq!(outboxes.settle(A, 2), Some(vec!["two"]));
        outboxes.found(A, 1);
        check(&outboxes, &[3], &["2"]);
    }

    #[test]
    fn what_the_log_has_taken_since_it_was_asked_is_not_forgotten() {
        let mut outboxes = outboxes(0);
        outboxes.open(A);
        (1..=20).for_each(|n| outboxes.took(A, n));
        outboxes.found(A, 0);
        check(&outboxes, &[21, 23], &["go", "22"]);
    }

    #[test]
    fn what_waits_is_not_taken_for_logged() {
        let mut outboxes = outboxes(4);
        outboxes.wait(A, &key(5), None);
        assert!(outboxes.has_taken(A, 4) && !outboxes.has_taken(A, 5));
        outboxes.took(A, 5);
        outboxes.settle(A, 5);
        assert!(outboxes.has_taken(A, 5) && !outboxes.has_taken(A, 6));
        assert!(!outboxes.has_taken(B, 1), "nothing is known");
    }

    #[test]
    fn fates_are_told_in_the_order_of_the_outbox_and_once() {
        let mut outboxes = outboxes(0);
        outboxes.wait(A, &key(1), Some("one"));
        outboxes.wait(A, &key(2), Some("two"));
        outboxes.wait(A, &key(2), Some("two again"));
        outboxes.wait(A, &key(3), None);
        assert!(outboxes.is_behind(A, 2) && !outboxes.is_behind(A, 1) && !outboxes.is_behind(B, 2));
        assert_eq!(outboxes.settle(A, 2), None, "not its turn");
        assert_eq!(outboxes.settle(A, 1), Some(vec!["one"]));
        assert_eq!(outboxes.settle(A, 1), None);
        assert_eq!(outboxes.settle(A, 2), Some(vec!["two", "two again"]));
        assert_eq!(outboxes.settle(A, 3), Some(vec![]));
        assert_eq!(outboxes.count(), 0);
    }

    #[test]
    fn an_outbox_is_known_while_it_is_open_or_waits() {
        let mut outboxes = outboxes(0);
        outboxes.open(A);
        outboxes.close(A);
        assert_eq!(outboxes.open_keys(), [A], "another connection uses it");
        outboxes.wait(A, &key(1), None);
        outboxes.close(A);
        assert!(outboxes.open_keys().is_empty(), "it only waits");
        check(&outboxes, &[2], &["go"]);
        outboxes.settle(A, 1);
        check(&outboxes, &[2], &["?"]);
    }

    #[test]
    fn all_outboxes_have_their_turn_to_be_looked_up() {
        let mut outboxes = Outboxes::<()>::default();
        for outbox in 1..=5 {
            (1..=20).for_each(|n| outboxes.wait(Uuid::from_u128(outbox), &key(n), None));
        }
        let mut after = Uuid::nil();
        let mut seen = Vec::new();
        for _ in 0..5 {
            let oldest = outboxes.oldest(after, OLDEST_OF_EACH);
            assert_eq!(oldest.iter().map(|(_, send)| send.n).collect::<Vec<_>>(), (1..=16).collect::<Vec<_>>());
            after = oldest.last().unwrap().0;
            seen.push(after.as_u128());
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
        assert_eq!(outboxes.oldest_of(&HashSet::from([A])).len(), OLDEST_OF_EACH);
    }

    #[test]
    fn what_waits_for_nobody_and_does_not_go_on_is_forgotten() {
        let mut outboxes = outboxes(0);
        for (outbox, n) in [(A, 1), (B, 1), (B, 2)] {
            outboxes.wait(outbox, &key(n), Some("somebody"));
        }
        outboxes.forget_idle();
        outboxes.settle(B, 1);
        outboxes.forget_idle();
        assert_eq!(outboxes.count(), 2, "one is in use, and the other went on");
        outboxes.close(A);
        outboxes.forget_idle();
        assert_eq!((outboxes.count(), outboxes.known.len()), (1, 1), "it has until next time");
        outboxes.forget_idle();
        assert_eq!((outboxes.count(), outboxes.known.len(), outboxes.waiting.len()), (0, 0, 0));
        check(&outboxes, &[1], &["go"]);
    }

    /// Every outcome of publishing five sends of two outboxes: nothing is acknowledged whose predecessor is not durable.
    #[test]
    fn nothing_is_acknowledged_after_something_that_is_not_durable() {
        let keys = [A, B, A, A, B];
        for outcome in 0..1 << keys.len() {
            let durable: Vec<bool> = (0..keys.len()).map(|bit| outcome >> bit & 1 == 1).collect();
            for (index, told) in acknowledged(&keys, &durable).into_iter().enumerate() {
                let before = (0..=index).filter(|earlier| keys[*earlier] == keys[index]);
                assert_eq!(told, before.clone().all(|earlier| durable[earlier]), "{durable:?} at {index}");
            }
        }
    }
}

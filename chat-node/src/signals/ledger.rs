//! The ledger: what the store has of this node's messages, and what it has yet to be given.
//!
//! Pure. The store keeps a message with everybody and the messages of changes that follow it. When these have become as many as it is
//! worth to read, everybody is told anew, so that the cost grows with changes and whoever reads finds a bounded number of messages. What
//! cannot be given waits, and is dropped when it is too much: then too everybody is told anew.

use super::roll::Told;

/// Messages that follow one with everybody, and that wait.
const MESSAGES_MAX: usize = 128;

/// Changes that follow a message with everybody: as many as there are users, and at least so many.
const CHANGES_MIN: usize = 1_000;

/// A message that the store is given: its number, and the text.
pub(super) type Message = (i64, String);

#[derive(Default)]
pub(super) struct Ledger {
    /// Whether the store has everybody, as of some message.
    is_begun: bool,
    /// What the store has yet to be given, and how many users each tells of.
    waiting: Vec<(Message, usize)>,
    /// The number of the latest message that was dropped.
    dropped: i64,
    /// Messages and changes since everybody was told.
    messages: usize,
    changes: usize,
}

impl Ledger {
    /// This was told, by a node that has so many users.
    pub(super) fn add(&mut self, told: &Told, users: usize) {
        let Told::Changes { users: changes, .. } = told else { return };
        let Some(message) = message(told) else { return };
        self.messages += 1;
        self.changes += changes.len();
        if self.waiting.len() == MESSAGES_MAX {
            self.waiting.clear();
            self.dropped = message.0;
        } else {
            self.waiting.push((message, changes.len()));
        }
        if self.dropped > 0 || self.messages > MESSAGES_MAX || self.changes > users.max(CHANGES_MIN) {
            self.is_begun = false;
        }
    }

    /// Whether everybody is to be told.
    pub(super) fn must_begin(&self) -> bool {
        !self.is_begun
    }

    /// Everybody was told, as of this number.
    pub(super) fn begun(&mut self, number: i64) {
        self.waiting.retain(|((waiting, _), _)| *waiting > number);
        self.messages = self.waiting.len();
        self.changes = self.waiting.iter().map(|(_, changes)| changes).sum();
        self.is_begun = number >= self.dropped;
        if self.is_begun {
            self.dropped = 0;
        }
    }

    /// What follows what the store has.
    pub(super) fn waiting(&self) -> Vec<Message> {
        self.waiting.iter().map(|(message, _)| message.clone()).collect()
    }

    /// The store has it, up to this number.
    pub(super) fn given(&mut self, number: i64) {
        self.waiting.retain(|((waiting, _), _)| *waiting > number);
    }

    /// The store has nothing any more.
    pub(super) fn lost(&mut self) {
        self.is_begun = false;
    }
}

/// A message as the store is given it.
pub(super) fn message(told: &Told) -> Option<Message> {
    Some((i64::try_from(told.number()?).ok()?, serde_json::to_string(told).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(number: u64, users: usize) -> Told {
        Told::Changes { number, users: (0..users).map(|user| (format!("user{user}").into(), None)).collect() }
    }

    fn numbers(ledger: &Ledger) -> Vec<i64> {
        ledger.waiting().into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn what_is_told_waits_until_the_store_has_it() {
        let mut ledger = Ledger::default();
        assert!(ledger.must_begin());
        ledger.add(&told(1, 1), 1);
        ledger.begun(1);
        assert!(!ledger.must_begin());
        for number in 2..=4 {
            ledger.add(&told(number, 1), 1);
        }
        ledger.add(&Told::Beat { number: 4 }, 1);
        assert_eq!(numbers(&ledger), [2, 3, 4]);
        ledger.given(3);
        assert_eq!(numbers(&ledger), [4]);
        ledger.lost();
        assert!(ledger.must_begin());
        // Something was told while everybody was.
        ledger.add(&told(5, 1), 1);
        ledger.begun(4);
        assert_eq!((ledger.must_begin(), numbers(&ledger)), (false, vec![5]));
    }

    #[test]
    fn everybody_is_told_anew_after_as_many_changes_as_there_are_users() {
        for (changes, users, begins) in
            [(1_000, 10, false), (1_001, 10, true), (1_001, 5_000, false), (5_001, 5_000, true)]
        {
            let mut ledger = Ledger::default();
            ledger.begun(0);
            ledger.add(&told(1, changes), users);
            assert_eq!(ledger.must_begin(), begins, "{changes} changes of {users} users");
        }
        let mut ledger = Ledger::default();
        ledger.begun(0);
        for number in 1..=MESSAGES_MAX as u64 {
            assert!(!ledger.must_begin());
            ledger.add(&told(number, 1), 9);
            ledger.given(number as i64);
        }
        ledger.add(&told(129, 1), 9);
        assert!(ledger.must_begin());
        ledger.begun(129);
        assert!(!ledger.must_begin());
    }

    #[test]
    fn what_is_too_much_is_dropped_and_no_gap_is_taken_for_whole() {
        let mut ledger = Ledger::default();
        ledger.begun(0);
        for number in 1..=200 {
            ledger.add(&told(number, 1), 9);
            assert!(ledger.waiting().len() <= MESSAGES_MAX);
        }
        ledger.begun(100);
        assert!(ledger.must_begin(), "129 was dropped");
        ledger.begun(200);
        assert!(!ledger.must_begin() && ledger.waiting().is_empty());
    }
}

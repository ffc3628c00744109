//! What was taken out of the queue and not let go of yet, and which of it came ahead of its turn.
//!
//! Pure. A consumer that leaves puts back what it did not let go of, and RabbitMQ may have given the next one a later message by then
//! (<https://www.rabbitmq.com/docs/consumers#single-active-consumer>). So a send can come before the one that it follows on: it is held
//! until that has come. What is held is not let go of, so it comes again should this consumer fall away too.

use std::{collections::HashSet, time::Instant};

use uuid::Uuid;

use crate::{bus::queue::Receipt, store::Append};

/// A send that was taken out of the queue.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) append: Append,
    /// Its outbox.
    pub(super) key: Uuid,
    pub(super) receipt: Receipt,
    /// How long it waits for the one before it.
    pub(super) until: Instant,
}

/// What one consumer holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Sends that came ahead of their turn.
    ahead: Vec<Queued>,
    /// Receipts of what is in the database.
    safe: Vec<Receipt>,
}

impl Held {
    /// Holds a send that came ahead of its turn; gives it back when it has waited for long enough.
    pub(super) fn hold(&mut self, queued: Queued, now: Instant) -> Option<Queued> {
        if now >= queued.until {
            return Some(queued);
        }
        self.ahead.push(queued);
        None
    }

    /// Takes those that are to be tried again, in order: of outboxes that went on, and those that have waited for long enough.
    pub(super) fn due(&mut self, went_on: &HashSet<Uuid>, now: Instant) -> Vec<Queued> {
        let is_due = |queued: &mut Queued| went_on.contains(&queued.key) || now >= queued.until;
        let mut due: Vec<Queued> = self.ahead.extract_if(.., is_due).collect();
        due.sort_by_key(|queued| queued.append.n);
        due
    }

    /// When the first has waited for long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ahead.iter().map(|queued| queued.until).min()
    }

    /// This is in the database, whatever its fate.
    pub(super) fn is_safe(&mut self, receipt: Receipt) {
        self.safe.push(receipt);
    }

    /// Takes the receipts that may be let go of: letting go of one lets go of all before it on its channel.
    pub(super) fn let_go(&mut self) -> Vec<Receipt> {
        let ahead = &self.ahead;
        let is_free = |receipt: &mut Receipt| !ahead.iter().any(|queued| receipt.is_behind(queued.receipt));
        self.safe.extract_if(.., is_free).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Content;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn queued(outbox: u128, n: i64, tag: u64, since: Instant) -> Queued {
        let key = Uuid::from_u128(outbox);
        let append = Append {
            sender: "alice".into(),
            outbox: key,
            n,
            room: Uuid::nil(),
            content: Content::text("hi"),
            event: Uuid::nil(),
            time: 0,
        };
        Queued { append, key, receipt: Receipt::new(0, tag), until: since + PATIENCE }
    }

    fn numbers(queued: &[Queued]) -> Vec<i64> {
        queued.iter().map(|queued| queued.append.n).collect()
    }

    #[test]
    fn what_came_ahead_is_tried_again_in_order_when_its_outbox_went_on() {
        let (mut held, now) = (Held::default(), Instant::now());
        for (outbox, n) in [(1, 4), (1, 3), (2, 9)] {
            assert!(held.hold(queued(outbox, n, 1, now), now).is_none());
        }
        assert_eq!(numbers(&held.due(&HashSet::from([Uuid::from_u128(3)]), now)), [0; 0]);
        assert_eq!(numbers(&held.due(&HashSet::from([Uuid::from_u128(1)]), now)), [3, 4]);
        assert_eq!(held.deadline(), Some(now + PATIENCE));
        assert_eq!(numbers(&held.due(&HashSet::new(), now + PATIENCE)), [9]);
        assert_eq!(held.deadline(), None);
    }

    #[test]
    fn what_has_waited_for_long_enough_is_held_no_more() {
        let (mut held, now) = (Held::default(), Instant::now());
        assert!(held.hold(queued(1, 4, 1, now), now + PATIENCE - Duration::from_millis(1)).is_none());
        assert_eq!(held.hold(queued(1, 4, 1, now), now + PATIENCE).map(|queued| queued.append.n), Some(4));
    }

    #[test]
    fn nothing_behind_what_is_held_is_let_go_of() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.hold(queued(1, 4, 5, now), now);
        for tag in [3, 4, 6, 7] {
            held.is_safe(Receipt::new(0, tag));
        }
        held.is_safe(Receipt::new(1, 9));
        assert_eq!(held.let_go(), [Receipt::new(0, 3), Receipt::new(0, 4), Receipt::new(1, 9)]);
        assert_eq!(held.due(&HashSet::from([Uuid::from_u128(1)]), now).len(), 1);
        held.is_safe(Receipt::new(0, 5));
        assert_eq!(held.let_go(), [Receipt::new(0, 6), Receipt::new(0, 7), Receipt::new(0, 5)]);
        assert!(held.let_go().is_empty());
    }
}

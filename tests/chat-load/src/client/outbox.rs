//! The outbox: numbered sends that are kept until the server has told their fate. Pure.
//!
//! Numbers run from 1 without gaps. The first `sent` entries are on their way over the present connection; whatever makes
//! that untrue (a lost connection, a retryable error) takes them back, and they go out again with the same number and text.
//!
//! The server keeps an outbox for some days. What was first tried so long ago is not repeated, because nobody could tell whether it was
//! taken: the outbox begins anew under another id, and counts from 1 again for the server. For its owner the numbers go on. It begins anew as
//! well when the server knows less of it than it has settled.

use std::collections::VecDeque;

use uuid::Uuid;

/// A client's numbered queue of sends. `T` is whatever the owner wants back when the fate of a send is known.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    id: Uuid,
    /// The last number of the outboxes before.
    before: u64,
    /// When the server last knew of it, in milliseconds since 1970 UTC.
    used_ms: Option<u64>,
    next: u64,
    waiting: VecDeque<Entry<T>>,
    sent: usize,
    /// How many of the sent ones are accepted.
    accepted: usize,
}

/// A send whose fate is not known yet.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) n: u64,
    pub(super) room: Uuid,
    pub(super) text: String,
    pub(super) ticket: T,
    /// When it first went out, in milliseconds since 1970 UTC.
    tried_ms: Option<u64>,
    /// The request that carries it now. Answers to an earlier request for it are out of date.
    pub(super) request: Option<u64>,
    /// Whether that request was accepted: nobody waits for its answer.
    accepted: bool,
}

impl<T> Outbox<T> {
    pub(super) fn new(id: Uuid) -> Self {
        Outbox { id, before: 0, used_ms: None, next: 1, waiting: VecDeque::new(), sent: 0, accepted: 0 }
    }

    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// Takes a message in, under the next number.
    pub(super) fn push(&mut self, room: Uuid, text: String, ticket: T) -> u64 {
        let n = self.next;
        self.next += 1;
        self.waiting.push_back(Entry { n, room, text, ticket, tried_ms: None, request: None, accepted: false });
        n
    }

    /// The number that the server knows an entry by.
    pub(super) fn told(&self, n: u64) -> u64 {
        n.saturating_sub(self.before)
    }

    /// The number of what the server tells of.
    pub(super) fn own(&self, told: u64) -> u64 {
        told.saturating_add(self.before)
    }

    /// The server knows of the outbox now.
    pub(super) fn used(&mut self, now_ms: u64) {
        self.used_ms = Some(now_ms);
    }

    /// Begins anew if something was first tried, or the outbox last used, so long ago. Hands out all that was tried, which is not
    /// repeated; what never was goes into the new outbox.
    pub(super) fn expire(&mut self, age_ms: u64, now_ms: u64) -> Vec<Entry<T>> {
        let is_old = |at_ms: Option<u64>| at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) >= age_ms);
        if !is_old(self.used_ms) && !self.waiting.iter().any(|entry| is_old(entry.tried_ms)) {
            return Vec::new();
        }
        let tried = self.waiting.iter().take_while(|entry| entry.tried_ms.is_some()).count();
        let expired = self.waiting.drain(..tried).collect();
        self.begin_anew();
        expired
    }

    /// Goes on under another id with what waits. What was tried counts as tried then.
    pub(super) fn begin_anew(&mut self) {
        self.take_back(0);
        // The same for the same, and nobody else's: an id that was random made it.
        self.id = Uuid::new_v5(&self.id, b"next");
        (self.before, self.used_ms) = (self.first_waiting() - 1, None);
    }

    /// The next entry that has to go out; it then counts as on its way in `request`.
    pub(super) fn send_next(&mut self, request: u64, now_ms: u64) -> Option<&Entry<T>> {
        let entry = self.waiting.get_mut(self.sent)?;
        self.sent += 1;
        entry.tried_ms.get_or_insert(now_ms);
        entry.request = Some(request);
        Some(entry)
    }

    /// `n`, which is on its way, is durable, and its fate comes later.
    pub(super) fn accept(&mut self, n: u64) {
        if let Some(entry) = self.waiting.iter_mut().take(self.sent).find(|entry| entry.n == n && !entry.accepted) {
            entry.accepted = true;
            self.accepted += 1;
        }
    }

    /// The fate of `n` is known: hands its entry out.
    pub(super) fn settle(&mut self, n: u64) -> Option<Entry<T>> {
        let index = self.waiting.iter().position(|entry| entry.n == n)?;
        if index < self.sent {
            self.sent -= 1;
        }
        let entry = self.waiting.remove(index)?;
        self.accepted -= usize::from(entry.accepted);
        Some(entry)
    }

    /// Takes back `n` and all after it: they have to go out again.
    pub(super) fn take_back(&mut self, n: u64) {
        let kept = self.waiting.iter().take(self.sent).take_while(|entry| entry.n < n).count();
        for entry in self.waiting.iter_mut().skip(kept) {
            self.accepted -= usize::from(entry.accepted);
            (entry.request, entry.accepted) = (None, false);
        }
        self.sent = kept;
    }

    /// The number whose latest request is `request`.
    pub(super) fn number_of(&self, request: u64) -> Option<u64> {
        self.waiting.iter().find(|entry| entry.request == Some(request)).map(|entry| entry.n)
    }

    /// The lowest number whose fate is not known.
    pub(super) fn first_waiting(&self) -> u64 {
        self.waiting.front().map_or(self.next, |entry| entry.n)
    }

    /// The last number that was given out; 0 when none was.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Those that somebody waits for an answer to.
    pub(super) fn outstanding(&self) -> usize {
        self.sent - self.accepted
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry<T>> {
        (self.sent, self.accepted) = (0, 0);
        self.waiting.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(texts: &[&str]) -> Outbox<()> {
        let mut outbox = Outbox::new(Uuid::nil());
        for text in texts {
            outbox.push(Uuid::nil(), (*text).to_owned(), ());
        }
        outbox
    }

    fn sent(outbox: &mut Outbox<()>, first_request: u64) -> Vec<(u64, String)> {
        let mut requests = first_request..;
        std::iter::from_fn(|| outbox.send_next(requests.next()?, 0).map(|entry| (entry.n, entry.text.clone())))
            .collect()
    }

    #[test]
    fn what_was_taken_back_goes_out_again_with_the_same_numbers_and_texts() {
        let mut outbox = outbox(&["a", "b", "c", "d"]);
        sent(&mut outbox, 1);
        outbox.settle(1);
        outbox.settle(3);
        outbox.take_back(0);
        assert_eq!(outbox.outstanding(), 0);
        assert_eq!(sent(&mut outbox, 11), [(2, "b".to_owned()), (4, "d".to_owned())]);
    }

    #[test]
    fn what_was_first_tried_too_long_ago_is_handed_out_and_the_rest_begins_anew() {
        let mut outbox = outbox(&["a", "b", "c"]);
        outbox.used(0);
        outbox.send_next(1, 10);
        outbox.send_next(2, 20);
        outbox.take_back(0);
        outbox.send_next(3, 50);
        outbox.take_back(0);
        outbox.used(50);
        let id = outbox.id();
        assert!(outbox.expire(100, 109).is_empty(), "the first try counts, and that is not so long ago");
        assert_eq!((outbox.id(), outbox.told(3)), (id, 3));
        let expired: Vec<u64> = outbox.expire(100, 110).iter().map(|entry| entry.n).collect();
        assert_eq!(expired, [1, 2], "b was tried later, but the outbox cannot go on without a");
        assert_ne!(outbox.id(), id);
        assert_eq!((outbox.told(3), outbox.own(1), outbox.first_waiting(), outbox.last()), (1, 3, 3, 3));
        assert_eq!(outbox.send_next(4, 110).map(|entry| entry.n), Some(3));
        assert!(outbox.expire(100, 209).is_empty() && outbox.expire(100, 210).len() == 1);
    }

    #[test]
    fn an_outbox_that_was_not_used_for_long_begins_anew_with_nothing_lost() {
        let mut outbox = outbox(&["a"]);
        assert!(outbox.expire(100, 1_000).is_empty() && outbox.id() == Uuid::nil(), "it was never used");
        outbox.used(1_000);
        sent(&mut outbox, 1);
        outbox.settle(1);
        outbox.push(Uuid::nil(), "b".into(), ());
        assert!(outbox.expire(100, 1_100).is_empty() && outbox.id() != Uuid::nil());
        assert_eq!((outbox.len(), outbox.told(2)), (1, 1));
    }

    #[test]
    fn nobody_waits_for_what_is_accepted_until_it_goes_out_again() {
        let mut outbox = outbox(&["a", "b", "c"]);
        outbox.accept(1);
        assert_eq!(sent(&mut outbox, 1).len(), 3);
        assert_eq!(outbox.outstanding(), 3, "it had not gone out");
        for n in [1, 2, 2, 4] {
            outbox.accept(n);
        }
        assert_eq!(outbox.outstanding(), 1);
        outbox.settle(1);
        outbox.settle(3);
        assert_eq!((outbox.outstanding(), outbox.len()), (0, 1));
        outbox.take_back(2);
        assert_eq!(sent(&mut outbox, 11), [(2, "b".to_owned())]);
        assert_eq!(outbox.outstanding(), 1);
    }

    #[test]
    fn only_the_latest_request_speaks_for_a_number() {
        let mut outbox = outbox(&["a", "b"]);
        sent(&mut outbox, 1);
        outbox.take_back(2);
        assert_eq!((outbox.number_of(1), outbox.number_of(2)), (Some(1), None));
        sent(&mut outbox, 11);
        assert_eq!(outbox.number_of(11), Some(2));
    }

    #[test]
    fn numbers_go_on_after_all_is_settled() {
        let mut outbox = outbox(&["a"]);
        sent(&mut outbox, 1);
        assert!(outbox.settle(1).is_some() && outbox.settle(1).is_none());
        assert_eq!((outbox.first_waiting(), outbox.last(), outbox.len()), (2, 1, 0));
        assert_eq!(outbox.push(Uuid::nil(), "b".into(), ()), 2);
    }
}

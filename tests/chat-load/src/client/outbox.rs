//! The outbox: numbered sends that are kept until the server has told their fate. Pure.
//!
//! Numbers run from 1 without gaps. The first `sent` entries are on their way over the present connection; whatever makes
//! that untrue (a lost connection, a retryable error) takes them back, and they go out again with the same number and text.

use std::collections::VecDeque;

use uuid::Uuid;

/// A client's numbered queue of sends. `T` is whatever the owner wants back when the fate of a send is known.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    id: Uuid,
    next: u64,
    waiting: VecDeque<Entry<T>>,
    sent: usize,
}

/// A send whose fate is not known yet.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) n: u64,
    pub(super) room: Uuid,
    pub(super) text: String,
    pub(super) ticket: T,
    /// The request that carries it now. Answers to an earlier request for it are out of date.
    pub(super) request: Option<u64>,
}

impl<T> Outbox<T> {
    pub(super) fn new(id: Uuid) -> Self {
        Outbox { id, next: 1, waiting: VecDeque::new(), sent: 0 }
    }

    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// Takes a message in, under the next number.
    pub(super) fn push(&mut self, room: Uuid, text: String, ticket: T) -> u64 {
        let n = self.next;
        self.next += 1;
        self.waiting.push_back(Entry { n, room, text, ticket, request: None });
        n
    }

    /// The next entry that has to go out; it then counts as on its way in `request`.
    pub(super) fn send_next(&mut self, request: u64) -> Option<&Entry<T>> {
        let entry = self.waiting.get_mut(self.sent)?;
        self.sent += 1;
        entry.request = Some(request);
        Some(entry)
    }

    /// The fate of `n` is known: hands its entry out.
    pub(super) fn settle(&mut self, n: u64) -> Option<Entry<T>> {
        let index = self.waiting.iter().position(|entry| entry.n == n)?;
        if index < self.sent {
            self.sent -= 1;
        }
        self.waiting.remove(index)
    }

    /// Takes back `n` and all after it: they have to go out again.
    pub(super) fn take_back(&mut self, n: u64) {
        let kept = self.waiting.iter().take(self.sent).take_while(|entry| entry.n < n).count();
        for entry in self.waiting.iter_mut().skip(kept) {
            entry.request = None;
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

    pub(super) fn on_their_way(&self) -> usize {
        self.sent
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry<T>> {
        self.sent = 0;
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
        std::iter::from_fn(|| outbox.send_next(requests.next()?).map(|entry| (entry.n, entry.text.clone()))).collect()
    }

    #[test]
    fn what_was_taken_back_goes_out_again_with_the_same_numbers_and_texts() {
        let mut outbox = outbox(&["a", "b", "c", "d"]);
        sent(&mut outbox, 1);
        outbox.settle(1);
        outbox.settle(3);
        outbox.take_back(0);
        assert_eq!(outbox.on_their_way(), 0);
        assert_eq!(sent(&mut outbox, 11), [(2, "b".to_owned()), (4, "d".to_owned())]);
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

//! Fates of sends, told in the order of the outbox.
//!
//! An accepted send's fate comes by another way than the answer to a later send, so the later one may arrive first and is held back.

use std::collections::{BTreeMap, BTreeSet};

/// What is told of an outbox's sends. `F` is whatever tells a fate.
#[derive(Debug)]
pub(super) struct Fates<F> {
    /// Accepted sends whose fate is not told.
    awaited: BTreeSet<i64>,
    /// Fates that wait for those of lower numbers.
    held: BTreeMap<i64, F>,
}

impl<F> Default for Fates<F> {
    fn default() -> Self {
        Fates { awaited: BTreeSet::new(), held: BTreeMap::new() }
    }
}

impl<F> Fates<F> {
    /// The send was accepted: its fate comes later.
    pub(super) fn accepted(&mut self, n: i64) {
        self.awaited.insert(n);
    }

    /// The fate of `n` is known. Gives those that may be told now, in order.
    pub(super) fn known(&mut self, n: i64, fate: F) -> Vec<F> {
        self.awaited.remove(&n);
        self.held.insert(n, fate);
        let turn = match self.awaited.first() {
            Some(awaited) => self.held.split_off(awaited),
            None => BTreeMap::new(),
        };
        std::mem::replace(&mut self.held, turn).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All orders in which the fates of five sends can come, with every choice of those that were accepted first: each is told once, and
    /// none before that of a lower number that was accepted.
    #[test]
    fn no_fate_is_told_before_that_of_an_accepted_send_with_a_lower_number() {
        let mut orders = vec![vec![]];
        for n in 1..=5i64 {
            let with = |order: &Vec<i64>, at| [&order[..at], &[n], &order[at..]].concat();
            orders = orders.iter().flat_map(|order| (0..=order.len()).map(move |at| with(order, at))).collect();
        }
        assert_eq!(orders.len(), 120);
        for (order, choice) in orders.iter().flat_map(|order| (0..32).map(move |choice| (order, choice))) {
            let is_accepted = |n: i64| choice >> (n - 1) & 1 == 1;
            let mut fates = Fates::default();
            (1..=5).filter(|n| is_accepted(*n)).for_each(|n| fates.accepted(n));
            let told: Vec<i64> = order.iter().flat_map(|n| fates.known(*n, *n)).collect();
            let place = |n: i64| told.iter().position(|told| *told == n).unwrap();
            assert_eq!(told.len(), 5, "{order:?} {choice:b}: {told:?}");
            for (low, high) in (1..=5).flat_map(|high| (1..high).map(move |low| (low, high))) {
                assert!(!is_accepted(low) || place(low) < place(high), "{order:?} {choice:b}: {told:?}");
            }
        }
    }
}

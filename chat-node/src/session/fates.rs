//! Fates of sends, told in the order of the outbox.
//!
//! Answers to several sends that are under way come in any order: an accepted send's fate comes by another way than the answer to a later
//! one, and a task that is handed many answers at once does not take them up in turn. So what comes too early is held back here.

use std::collections::BTreeMap;

/// What is told of an outbox's sends. `F` is whatever tells a fate.
#[derive(Debug)]
pub(super) struct Fates<F> {
    /// Sends that are under way, those that were accepted among them, and how often each is: a client may not wait for an answer before it
    /// says one again.
    awaited: BTreeMap<i64, u32>,
    /// Fates that wait for those of lower numbers.
    held: BTreeMap<i64, Vec<F>>,
}

impl<F> Default for Fates<F> {
    fn default() -> Self {
        Fates { awaited: BTreeMap::new(), held: BTreeMap::new() }
    }
}

impl<F> Fates<F> {
    /// The send is on its way.
    pub(super) fn awaits(&mut self, n: i64) {
        *self.awaited.entry(n).or_default() += 1;
    }

    /// The send has no fate: it may come again, so nobody waits for it. Gives what may be told now, in order.
    pub(super) fn has_none(&mut self, n: i64) -> Vec<F> {
        if let Some(times) = self.awaited.get_mut(&n) {
            *times -= 1;
            if *times == 0 {
                self.awaited.remove(&n);
            }
        }
        let first = self.awaited.first_key_value().map(|(first, _)| *first);
        let mut later = first.map(|first| self.held.split_off(&first)).unwrap_or_default();
        // A fate of the first one itself waits for no other copy of it.
        let of_first = first.and_then(|first| later.remove(&first)).unwrap_or_default();
        std::mem::replace(&mut self.held, later).into_values().flatten().chain(of_first).collect()
    }

    /// The fate of `n` is known. Gives those that may be told now, in order.
    pub(super) fn known(&mut self, n: i64, fate: F) -> Vec<F> {
        self.held.entry(n).or_default().push(fate);
        self.has_none(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All orders in which the answers to five sends can come, with every choice of those that have no fate: each fate is told once, in
    /// the order of the numbers, and as soon as nothing lower is under way.
    #[test]
    fn fates_are_told_in_the_order_of_the_numbers() {
        let mut orders = vec![vec![]];
        for n in 1..=5i64 {
            let with = |order: &Vec<i64>, at| [&order[..at], &[n], &order[at..]].concat();
            orders = orders.iter().flat_map(|order| (0..=order.len()).map(move |at| with(order, at))).collect();
        }
        assert_eq!(orders.len(), 120);
        for (order, choice) in orders.iter().flat_map(|order| (0..32).map(move |choice| (order, choice))) {
            let has_fate = |n: i64| choice >> (n - 1) & 1 == 1;
            let mut fates = Fates::default();
            (1..=5).for_each(|n| fates.awaits(n));
            let mut told: Vec<i64> = Vec::new();
            for (answered, n) in order.iter().enumerate() {
                told.extend(if has_fate(*n) { fates.known(*n, *n) } else { fates.has_none(*n) });
                let is_due = |n: &i64| has_fate(*n) && (1..=*n).all(|lower| order[..=answered].contains(&lower));
                assert_eq!(told, (1..=5).filter(is_due).collect::<Vec<_>>(), "{order:?} {choice:b}");
            }
        }
    }

    #[test]
    fn a_send_that_comes_again_is_told_again() {
        let mut fates = Fates::default();
        (1..=2).for_each(|n| fates.awaits(n));
        assert_eq!(fates.known(1, "one"), ["one"]);
        fates.awaits(1);
        assert_eq!(fates.known(2, "two"), [""; 0], "one is under way again");
        assert_eq!(fates.known(1, "one again"), ["one again", "two"]);
    }

    #[test]
    fn a_send_that_is_under_way_twice_is_waited_for_twice() {
        let mut fates = Fates::default();
        (1..=2).for_each(|n| fates.awaits(n));
        fates.awaits(1);
        assert_eq!(fates.known(2, "two"), [""; 0]);
        assert_eq!(fates.has_none(1), [""; 0], "the other one may have a fate");
        assert_eq!(fates.known(1, "one"), ["one", "two"]);
        // Each has its answer.
        (1..=2).for_each(|n| fates.awaits(n));
        fates.awaits(2);
        assert_eq!(fates.known(2, "two"), [""; 0]);
        assert_eq!(fates.known(2, "two again"), [""; 0]);
        assert_eq!(fates.known(1, "one"), ["one", "two", "two again"]);
    }
}

//! How often somebody may do something: a token bucket each, as the generic cell rate algorithm (ITU-T I.371) has it, which needs no
//! more than one moment of each. Pure, with the time given.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Buckets that are remembered before those are forgotten that are full again.
const KEYS_BEFORE_SWEEP: usize = 1024;

/// The buckets, each of a user, an address, or whatever else `K` is.
pub(crate) struct Rates<K> {
    interval: Duration,
    burst: Duration,
    /// When each bucket is full again.
    full_at: HashMap<K, Instant>,
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash> Rates<K> {
    /// So many a second, after a burst of so many.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Rates { interval, burst: interval * burst.max(1), full_at: HashMap::new(), sweep_at: KEYS_BEFORE_SWEEP }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long to wait before the next has a chance.
    pub(crate) fn take(&mut self, key: &K, now: Instant) -> Result<(), Duration> {
        self.reserve(key, now, Duration::ZERO).map(drop)
    }

    /// Takes one for whoever is ready to wait for it, and tells how long.
    ///
    /// # Errors
    /// How long to wait before the next has a chance, where nobody waits for longer than `patience`.
    pub(crate) fn reserve(&mut self, key: &K, now: Instant, patience: Duration) -> Result<Duration, Duration> {
        if self.full_at.len() >= self.sweep_at {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.sweep_at = KEYS_BEFORE_SWEEP.max(2 * self.full_at.len());
        }
        let full_at = self.full_at.get(key).copied().unwrap_or(now).max(now) + self.interval;
        let wait = full_at.duration_since(now).saturating_sub(self.burst);
        if wait > patience {
            return Err(wait - patience);
        }
        self.full_at.insert(key.clone(), full_at);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::User;

    #[test]
    fn a_burst_is_taken_and_then_the_rate_holds() {
        let (mut rates, start) = (Rates::new(10, 5), Instant::now());
        let (alice, bob) = (User::from("alice"), User::from("bob"));
        let taken = |rates: &mut Rates<User>, user: &User, ms| rates.take(user, start + Duration::from_millis(ms));
        for _ in 0..5 {
            assert_eq!(taken(&mut rates, &alice, 0), Ok(()));
        }
        assert_eq!(taken(&mut rates, &alice, 0), Err(Duration::from_millis(100)));
        assert_eq!(taken(&mut rates, &bob, 0), Ok(()), "users do not share");
        assert_eq!(taken(&mut rates, &alice, 99), Err(Duration::from_millis(1)), "a refusal costs nothing");
        assert_eq!(taken(&mut rates, &alice, 100), Ok(()));
        assert!(taken(&mut rates, &alice, 100).is_err());
    }

    #[test]
    fn who_waits_gets_its_turn_in_order() {
        let (mut rates, now) = (Rates::new(10, 1), Instant::now());
        let mut reserve = || rates.reserve(&User::from("alice"), now, Duration::from_millis(200));
        assert_eq!([reserve(), reserve(), reserve()].map(Result::unwrap).map(|wait| wait.as_millis()), [0, 100, 200]);
        assert_eq!(reserve(), Err(Duration::from_millis(100)), "nobody waits for longer than that");
        assert_eq!(rates.take(&User::from("alice"), now), Err(Duration::from_millis(300)), "all turns are given");
    }

    #[test]
    fn whoever_has_the_whole_burst_again_is_forgotten() {
        let (mut rates, start) = (Rates::new(10, 5), Instant::now());
        for number in 0..KEYS_BEFORE_SWEEP {
            rates.take(&User::from(format!("u{number}")), start).unwrap();
        }
        rates.take(&User::from("late"), start + Duration::from_secs(1)).unwrap();
        assert_eq!(rates.full_at.len(), 1);
    }
}

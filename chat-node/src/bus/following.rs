//! Which shards this node wants to hear of, and which the bus carries to it now.
//!
//! A wish is never lost and nobody waits long for it: whoever could not wait is made up for, by a look at the store once the wish is
//! fulfilled. Pure but for the waiting.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use super::{SHARDS, Shard};

/// How long a connection's start waits for the bus. Long beside a binding's usual millisecond, short beside a person's patience.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// A set of shards: a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shards(u64);

const _: () = assert!(SHARDS == u64::BITS as usize);

impl Shards {
    fn one(shard: Shard) -> Self {
        Shards(1 << shard)
    }

    pub(super) fn contains(self, shard: Shard) -> bool {
        self.has(Shards::one(shard))
    }

    fn has(self, other: Shards) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn without(self, other: Shards) -> Self {
        Shards(self.0 & !other.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Shard> {
        (0..SHARDS as Shard).filter(move |shard| self.contains(*shard))
    }
}

impl FromIterator<Shard> for Shards {
    fn from_iter<I: IntoIterator<Item = Shard>>(shards: I) -> Self {
        Shards(shards.into_iter().fold(0, |bits, shard| bits | Shards::one(shard).0))
    }
}

/// What is wanted and what is carried.
pub(super) struct Following {
    wanted: watch::Sender<Shards>,
    carried: watch::Sender<Shards>,
    /// Shards that somebody could not wait for.
    late: AtomicU64,
}

impl Default for Following {
    fn default() -> Self {
        let none = Shards::default();
        Following { wanted: watch::Sender::new(none), carried: watch::Sender::new(none), late: AtomicU64::new(0) }
    }
}

impl Following {
    /// Wants these shards. Returns once they are carried, or after a while all the same; at once when the bus is away.
    pub(super) async fn follow(&self, shards: Shards, bus_is_up: bool) {
        self.wanted.send_if_modified(|wanted| {
            let before = *wanted;
            wanted.0 |= shards.0;
            *wanted != before
        });
        let mut carried = self.carried.subscribe();
        let wait = carried.wait_for(|carried| carried.has(shards));
        if !bus_is_up || timeout(WAIT_MAX, wait).await.is_err() {
            // Either this is seen by whoever carries them out, or they are carried before the store is read.
            self.late.fetch_or(shards.0, SeqCst);
        }
    }

    /// Wants a shard no more.
    pub(super) fn unfollow(&self, shard: Shard) {
        self.wanted.send_if_modified(|wanted| {
            let before = *wanted;
            *wanted = wanted.without(Shards::one(shard));
            *wanted != before
        });
    }

    /// To be told when the wishes change.
    pub(super) fn wishes(&self) -> watch::Receiver<Shards> {
        self.wanted.subscribe()
    }

    pub(super) fn carried(&self) -> Shards {
        *self.carried.borrow()
    }

    /// These are carried from now on. Tells those of the new ones that somebody could not wait for.
    pub(super) fn carry(&self, shards: Shards) -> Shards {
        let new = shards.without(self.carried.send_replace(shards));
        Shards(self.late.fetch_and(!new.0, SeqCst) & new.0)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn shards(shards: &[Shard]) -> Shards {
        shards.iter().copied().collect()
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        assert_eq!(shards(&[0, 7, 63]).iter().collect::<Vec<_>>(), [0, 7, 63]);
        assert_eq!(shards(&[1, 2]).without(shards(&[2, 3])), shards(&[1]));
        assert!(shards(&[1]).contains(1) && !shards(&[1]).contains(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_is_waited_for_until_it_is_carried() {
        let following = Following::default();
        let mut follow = Box::pin(following.follow(shards(&[3]), true));
        assert!((&mut follow).now_or_never().is_none());
        assert_eq!(*following.wishes().borrow(), shards(&[3]));
        assert_eq!(following.carry(shards(&[3])), shards(&[]), "nobody was late");
        follow.await;
        following.follow(shards(&[3]), true).await;
        following.unfollow(3);
        assert_eq!(*following.wishes().borrow(), shards(&[]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_wait_is_made_up_for_once() {
        let following = Following::default();
        following.follow(shards(&[3]), true).await;
        following.follow(shards(&[4]), false).await;
        assert_eq!(following.carry(shards(&[3, 5])), shards(&[3]));
        assert_eq!(following.carry(shards(&[3, 4, 5])), shards(&[4]));
        assert_eq!(following.carry(shards(&[])), shards(&[]));
        assert_eq!(following.carry(shards(&[3, 4, 5])), shards(&[]));
    }
}

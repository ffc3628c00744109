//! How long somebody has to wait after wrong passwords. Pure, with the time given.
//!
//! Failures are counted for three things. For an account and an address together, which slows down whoever guesses. For an address, which
//! slows down whoever tries one password on many accounts. And for an account, from whatever address, which slows down whoever guesses from
//! many addresses: the owner waits with them then, a minute at most, and not at all at an address where the owner is signed in. So nobody
//! locks anybody out for good. Whether there is such an account makes no difference.

use std::{net::IpAddr, time::Duration};

/// Without another failure for so long, those before are forgotten. Longer than any wait.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// The first wait.
const BASE: Duration = Duration::from_secs(1);

/// What failures are counted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An account, from whatever address.
    Account(String),
    /// An address, with whatever account.
    Address(IpAddr),
    /// An account from an address.
    Pair(String, IpAddr),
}

impl Subject {
    /// What an attempt is counted for. `account` is absent for a name that no account can have; `is_known`: the account is signed in at
    /// that address.
    pub fn of(account: Option<&str>, address: Option<IpAddr>, is_known: bool) -> Vec<Subject> {
        let address = address.map(network);
        let account = account.map(str::to_owned);
        let pair = account.clone().zip(address).map(|(account, address)| Subject::Pair(account, address));
        let strangers = [account.map(Subject::Account), address.map(Subject::Address)];
        let strangers = if is_known && pair.is_some() { [None, None] } else { strangers };
        // Rows are locked in this order, by everyone.
        let mut subjects: Vec<Subject> = strangers.into_iter().flatten().chain(pair).collect();
        subjects.sort();
        subjects
    }

    /// Whether it is an address alone.
    pub fn is_address(&self) -> bool {
        matches!(self, Subject::Address(_))
    }

    /// Its key in the store.
    pub fn key(&self) -> String {
        match self {
            Subject::Account(account) => format!("account {account}"),
            Subject::Address(address) => format!("address {address}"),
            Subject::Pair(account, address) => format!("pair {account} {address}"),
        }
    }

    /// Failures that cost nothing: a person mistypes, and many people share an address.
    fn free(&self) -> u32 {
        match self {
            Subject::Pair(..) => 5,
            Subject::Account(_) => 20,
            Subject::Address(_) => 50,
        }
    }

    /// The longest wait.
    fn wait_max(&self) -> Duration {
        match self {
            Subject::Account(_) => Duration::from_secs(60),
            Subject::Pair(..) | Subject::Address(_) => Duration::from_secs(15 * 60),
        }
    }

    /// The wait after so many failures.
    fn wait_after(&self, count: u32) -> Duration {
        let beyond = count.checked_sub(self.free());
        beyond.map_or(Duration::ZERO, |beyond| BASE.saturating_mul(1 << beyond.min(20)).min(self.wait_max()))
    }
}

/// Who has one address of IPv6 usually has the 64 bits behind its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// How many.
    pub count: u32,
    /// When the last one was, in milliseconds since 1970 UTC.
    pub last_ms: i64,
}

impl Failures {
    /// These, and one more.
    pub fn and_one(self, now_ms: i64) -> Failures {
        let is_old = now_ms - self.last_ms >= i64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX);
        Failures { count: if is_old { 1 } else { self.count.saturating_add(1) }, last_ms: now_ms }
    }

    /// These without the attempt of `made_ms`, which was no failure: its password was not looked at. It had waited long enough, so, unless
    /// another came after it, the next need not wait. The others stay: nobody begins anew by overloading a node.
    pub fn but_one(self, subject: &Subject, made_ms: i64) -> Failures {
        let count = self.count.saturating_sub(1);
        let waited_ms = i64::try_from(subject.wait_after(count).as_millis()).unwrap_or(i64::MAX);
        let last_ms = if self.last_ms == made_ms { made_ms.saturating_sub(waited_ms) } else { self.last_ms };
        Failures { count, last_ms }
    }
}

/// How long an attempt has to wait, given what was counted for each of its subjects. Zero: it may be made. An attempt that was not made counts
/// for nothing, so that nobody makes the wait longer by asking.
pub fn wait(counted: &[(Subject, Failures)], now_ms: i64) -> Duration {
    let waits = counted.iter().map(|(subject, failures)| {
        // A clock that was set back must not make anybody wait longer.
        let waited = Duration::from_millis(u64::try_from(now_ms - failures.last_ms).unwrap_or(0));
        subject.wait_after(failures.count).saturating_sub(waited)
    });
    waits.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn all() -> [Subject; 3] {
        let (account, address) = ("alice".to_owned(), ip("192.0.2.1"));
        [Subject::Account(account.clone()), Subject::Address(address), Subject::Pair(account, address)]
    }

    fn waits(subject: &Subject, count: u32, ms_later: i64) -> Duration {
        wait(&[(subject.clone(), Failures { count, last_ms: NOW })], NOW + ms_later)
    }

    #[test]
    fn each_wait_is_twice_the_one_before_up_to_its_bound() {
        for subject in all() {
            let free = subject.free();
            for count in 0..free {
                assert_eq!(waits(&subject, count, 0), Duration::ZERO, "{subject:?} {count}");
            }
            let mut expected = BASE;
            for count in free..free + 100 {
                assert_eq!(waits(&subject, count, 0), expected, "{subject:?} {count}");
                let ms = i64::try_from(expected.as_millis()).unwrap();
                assert_eq!(waits(&subject, count, ms - 1), Duration::from_millis(1));
                assert_eq!(waits(&subject, count, ms), Duration::ZERO);
                expected = (2 * expected).min(subject.wait_max());
            }
            assert_eq!(waits(&subject, u32::MAX, 0), subject.wait_max());
            assert!(subject.wait_max() < FORGOTTEN_AFTER);
            assert_eq!(waits(&subject, free, -5_000), BASE, "the clock was set back");
        }
    }

    #[test]
    fn the_longest_wait_counts_and_nothing_counted_is_no_wait() {
        let [account, address, pair] = all();
        let failures = |count| Failures { count, last_ms: NOW };
        assert_eq!(wait(&[], NOW), Duration::ZERO);
        let counted = [(account, failures(20)), (address, failures(0)), (pair, failures(7))];
        assert_eq!(wait(&counted, NOW), 4 * BASE);
    }

    #[test]
    fn failures_are_forgotten_after_an_hour_without_one() {
        let mut failures = Failures::default();
        for count in 1..=3 {
            failures = failures.and_one(NOW);
            assert_eq!(failures.count, count);
        }
        let hour = i64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap();
        assert_eq!(failures.and_one(NOW + hour - 1).count, 4);
        assert_eq!(failures.and_one(NOW + hour), Failures { count: 1, last_ms: NOW + hour });
    }

    #[test]
    fn an_attempt_that_is_taken_back_costs_no_time_and_leaves_the_others() {
        for subject in all() {
            for count in [0, subject.free() - 1, subject.free(), subject.free() + 7, subject.free() + 100] {
                let before = Failures { count, last_ms: NOW };
                let made_ms = NOW + i64::try_from(subject.wait_after(count).as_millis()).unwrap();
                let counted = before.and_one(made_ms);
                assert_eq!(counted.but_one(&subject, made_ms), before, "{subject:?}");
                let later = counted.and_one(made_ms + 1);
                let expected = Failures { count: count + 1, last_ms: made_ms + 1 };
                assert_eq!(later.but_one(&subject, made_ms), expected, "another came after it");
            }
            let forgiven = Failures { count: 0, last_ms: NOW };
            assert_eq!(forgiven.but_one(&subject, NOW), forgiven);
        }
    }

    #[test]
    fn an_owner_at_an_address_of_his_own_does_not_wait_for_what_strangers_do() {
        let [account, address, pair] = all();
        let at = Some(ip("192.0.2.1"));
        assert_eq!(Subject::of(Some("alice"), at, false), [account.clone(), address.clone(), pair.clone()]);
        assert_eq!(Subject::of(Some("alice"), at, true), [pair]);
        assert_eq!(Subject::of(None, at, false), [address]);
        assert_eq!(Subject::of(Some("alice"), None, false), [account]);
        assert_eq!(Subject::of(None, None, false), []);
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        let of = |address| Subject::of(None, Some(ip(address)), false);
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"), "an address of IPv4 is one however it is written");
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn keys_of_different_subjects_differ() {
        let keys: std::collections::BTreeSet<String> = all().iter().map(Subject::key).collect();
        assert_eq!(keys.len(), 3);
    }
}

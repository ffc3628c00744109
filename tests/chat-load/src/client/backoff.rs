//! Why a connection ended, and what follows from it. Pure: the random share comes from outside.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A wait never has more than this as its upper bound.
const CEILING: Duration = Duration::from_secs(30);
/// Upper bound of the first wait.
const BASE: Duration = Duration::from_millis(500);
/// After a connection that lasted so long, attempts count from 0.
const GOOD: Duration = Duration::from_secs(60);

/// Why a connection, or the attempt to make one, ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The server closed it with this code, and may have said when to come back.
    Closed {
        /// The WebSocket close code; 1005 when there was none.
        code: u16,
        /// The reason that came with it.
        reason: String,
        /// Of the `reconnect` frame before it, in milliseconds.
        after_ms: Option<u64>,
    },
    /// It broke, or could not be made.
    Lost(String),
    /// The server answered the upgrade with this HTTP status.
    Refused(u16),
    /// Nothing came for longer than the idle time.
    Silent,
    /// The owner of this client asked for it.
    Wanted,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed { code, reason, .. } if reason.is_empty() => write!(f, "closed with {code}"),
            End::Closed { code, reason, .. } => write!(f, "closed with {code} ({reason})"),
            End::Lost(why) => write!(f, "lost: {why}"),
            End::Refused(status) => write!(f, "the upgrade was refused with HTTP status {status}"),
            End::Silent => f.write_str("nothing was heard for the idle time"),
            End::Wanted => f.write_str("closed by the client"),
        }
    }
}

/// What a client does after a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Connects again.
    Again {
        /// After this time.
        after: Duration,
        /// With a new token.
        renew: bool,
    },
    /// Stays away.
    Stop,
}

/// Counts attempts and decides when to come back.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// `lasted` is how long the connection was welcome, absent when it never was; `share` is random, from 0 to 1.
    pub(super) fn after(&mut self, end: &End, lasted: Option<Duration>, share: f64) -> Next {
        if lasted.is_some_and(|lasted| lasted >= GOOD) {
            self.attempt = 0;
        }
        match end {
            End::Wanted | End::Closed { code: 4401, .. } | End::Refused(401) => Next::Stop,
            // A new token is worth an attempt at once, but when that has expired too, something else is wrong.
            End::Closed { code: 4402, .. } => {
                let wait = self.wait(share);
                Next::Again { after: if lasted.is_some() { Duration::ZERO } else { wait }, renew: true }
            }
            End::Closed { code: 1012, after_ms: Some(after_ms), .. } => {
                Next::Again { after: Duration::from_millis(*after_ms), renew: false }
            }
            End::Closed { .. } | End::Lost(_) | End::Refused(_) | End::Silent => {
                Next::Again { after: self.wait(share), renew: false }
            }
        }
    }

    fn wait(&mut self, share: f64) -> Duration {
        let bound = full_jitter_bound(BASE, CEILING, self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        bound.mul_f64(share.clamp(0.0, 1.0))
    }
}

/// `min(ceiling, base * 2^attempt)`: the upper bound of a random wait.
pub(super) fn full_jitter_bound(base: Duration, ceiling: Duration, attempt: u32) -> Duration {
    2u32.checked_pow(attempt).and_then(|factor| base.checked_mul(factor)).map_or(ceiling, |bound| bound.min(ceiling))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16) -> End {
        End::Closed { code, reason: String::new(), after_ms: None }
    }

    fn longest_waits(backoff: &mut Backoff, count: usize) -> Vec<Next> {
        (0..count).map(|_| backoff.after(&End::Lost(String::new()), None, 1.0)).collect()
    }

    fn again(ms: u64) -> Next {
        Next::Again { after: Duration::from_millis(ms), renew: false }
    }

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let expected = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].map(again);
        assert_eq!(longest_waits(&mut backoff, 8), expected);
        backoff.attempt = u32::MAX;
        assert_eq!(longest_waits(&mut backoff, 1), [again(30_000)]);
    }

    #[test]
    fn a_good_connection_starts_the_count_anew_and_a_short_one_does_not() {
        let mut backoff = Backoff::default();
        longest_waits(&mut backoff, 3);
        assert_eq!(backoff.after(&closed(1013), Some(Duration::from_secs(59)), 1.0), again(4_000));
        assert_eq!(backoff.after(&closed(1013), Some(Duration::from_secs(60)), 0.5), again(250));
    }

    #[test]
    fn a_leaving_node_sets_the_time_and_costs_no_attempt() {
        let mut backoff = Backoff::default();
        let leaving = End::Closed { code: 1012, reason: String::new(), after_ms: Some(1_200) };
        assert_eq!(backoff.after(&leaving, Some(Duration::from_secs(1)), 1.0), again(1_200));
        assert_eq!(longest_waits(&mut backoff, 1), [again(500)]);
    }

    #[test]
    fn what_another_attempt_cannot_mend_stops() {
        for end in [closed(4401), End::Refused(401), End::Wanted] {
            assert_eq!(Backoff::default().after(&end, None, 1.0), Next::Stop, "{end}");
        }
        for end in [closed(1001), closed(4413), closed(4408), End::Refused(503), End::Silent] {
            assert_eq!(Backoff::default().after(&end, None, 0.0), again(0), "{end}");
        }
    }

    #[test]
    fn an_expired_token_is_renewed_but_not_in_a_hot_loop() {
        let mut backoff = Backoff::default();
        let renewed = |ms| Next::Again { after: Duration::from_millis(ms), renew: true };
        assert_eq!(backoff.after(&closed(4402), Some(GOOD), 1.0), renewed(0));
        assert_eq!(backoff.after(&closed(4402), None, 1.0), renewed(1_000));
        assert_eq!(backoff.after(&closed(4402), None, 1.0), renewed(2_000));
    }
}

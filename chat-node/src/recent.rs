//! What happened in the latest minute or two: figures by which nodes of different ages compare.
//!
//! Owns two halves of a window, of which the older is forgotten when the newer is full.

use std::time::Duration;

use crds::node_status::{Quantiles, Recent, Resumes};
use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Length of a half of the window.
const HALF: Duration = Duration::from_secs(60);

/// Bounds and precision of latencies: a microsecond to a minute, two digits.
const LATENCY_US_MAX: u64 = 60_000_000;
const DIGITS: u8 = 2;

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// A send arrived.
    Send,
    /// A send was acknowledged after so many microseconds.
    Committed(u64),
    /// A send failed for no fault of the client.
    Failed,
    /// A resume ended: replayed, too far, or reset.
    Resumed(usize),
}

struct Half {
    sends: u64,
    failed: u64,
    resumes: [u64; 3],
    latency_us: Histogram<u64>,
}

/// The latest minute or two.
pub(crate) struct Window {
    began: Instant,
    newer: Half,
    older: Half,
}

impl Half {
    fn new() -> Half {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("the bounds are good");
        Half { sends: 0, failed: 0, resumes: [0; 3], latency_us }
    }

    fn clear(&mut self) {
        (self.sends, self.failed, self.resumes) = (0, 0, [0; 3]);
        self.latency_us.reset();
    }
}

impl Window {
    pub(crate) fn new(now: Instant) -> Window {
        Window { began: now, newer: Half::new(), older: Half::new() }
    }

    pub(crate) fn count(&mut self, happened: Happened, now: Instant) {
        self.turn(now);
        match happened {
            Happened::Send => self.newer.sends += 1,
            Happened::Failed => self.newer.failed += 1,
            Happened::Resumed(outcome) => self.newer.resumes[outcome] += 1,
            Happened::Committed(us) => self.newer.latency_us.saturating_record(us.clamp(1, LATENCY_US_MAX)),
        }
    }

    pub(crate) fn report(&mut self, now: Instant) -> Recent {
        self.turn(now);
        let (newer, older) = (&self.newer, &self.older);
        let mut latency_us = newer.latency_us.clone();
        // Both have the same bounds.
        let _ = latency_us.add(&older.latency_us);
        let ms = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        let resumes = |outcome: usize| newer.resumes[outcome] + older.resumes[outcome];
        Recent {
            sends: newer.sends + older.sends,
            sends_failed: newer.failed + older.failed,
            ack_latency: Quantiles { samples: latency_us.len(), p50_ms: ms(0.5), p99_ms: ms(0.99) },
            resumes: Resumes { replayed: resumes(0), too_far: resumes(1), reset: resumes(2) },
        }
    }

    fn turn(&mut self, now: Instant) {
        let age = now.duration_since(self.began);
        if age < HALF {
            return;
        }
        std::mem::swap(&mut self.newer, &mut self.older);
        self.newer.clear();
        if age >= 2 * HALF {
            self.older.clear();
        }
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_two_minutes_is_forgotten() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(start);
        for (second, us) in [(0, 1_000), (59, 3_000), (61, 5_000)] {
            window.count(Happened::Send, at(second));
            window.count(Happened::Committed(us), at(second));
        }
        let report = window.report(at(100));
        assert_eq!((report.sends, report.ack_latency.samples), (3, 3));
        assert!((4.9..5.1).contains(&report.ack_latency.p99_ms), "{report:?}");
        window.count(Happened::Failed, at(122));
        let report = window.report(at(123));
        assert_eq!((report.sends, report.sends_failed), (1, 1));
        assert_eq!(window.report(at(400)), Recent::default());
    }
}

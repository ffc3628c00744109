//! The time of a schedule: tokio's, which is paused and goes on only when everybody waits, counted from a moment in the past.
//!
//! Every thread has a clock of its own, because every schedule runs on one thread.

use std::cell::Cell;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The moment at which every schedule begins: 2026-01-01T00:00:00Z.
const BEGIN_SECONDS: i64 = 1_767_225_600;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Begins a schedule on this thread. To be called within a runtime whose time is paused.
pub fn begin() {
    BEGAN.set(Some(Instant::now()));
}

/// The time on this thread's clock.
pub fn now() -> Timestamp {
    let elapsed = BEGAN.get().map(|began| began.elapsed()).unwrap_or_default();
    let begin = Timestamp::from_second(BEGIN_SECONDS).unwrap_or_default();
    begin.checked_add(SignedDuration::try_from(elapsed).unwrap_or_default()).unwrap_or(begin)
}

/// The time as the API server writes it, in whole seconds.
pub fn text() -> String {
    now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

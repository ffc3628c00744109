//! Owns the one way in which the tools wait: for a condition, with a limit.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// Short enough not to be noticed by a person, long enough not to be noticed by the processor.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The condition did not come true within the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// How long it was waited for.
    pub limit: Duration,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}", self.limit)
    }
}

impl std::error::Error for TimedOut {}

/// Looks until `look` gives a value, and gives it.
///
/// # Errors
/// When `limit` has passed; it always looks at least once.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(TimedOut { limit });
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

//! Whether Redis can be reached, for those who tell of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::metric::Metric;

/// What was last seen. Not before Redis has answered is it there.
#[derive(Clone, Default)]
pub struct Reach(Arc<AtomicBool>);

impl Reach {
    /// Whether Redis answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// It was seen so.
    pub(super) fn see(&self, up: bool) {
        self.0.store(up, Relaxed);
        Metric::RedisUp.set(f64::from(u8::from(up)));
    }
}

//! Whether something that the node depends on can be reached, and if not, why: for those who tell of it.

use std::{fmt::Display, sync::Arc};

use crds::node_status::Dependency;
use parking_lot::Mutex;

/// Longest reason that is told, in bytes. A server's words are not ours to bound.
const ERROR_BYTES_MAX: usize = 200;

/// What was last seen. Not before it has answered is it there.
#[derive(Clone, Default)]
pub struct Reach(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    up: bool,
    error: Option<String>,
}

impl Reach {
    /// Whether it answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.0.lock().up
    }

    /// It has answered.
    pub fn up(&self) {
        *self.0.lock() = Seen { up: true, error: None };
    }

    /// It did not answer, or refused.
    pub fn down(&self, error: &impl Display) {
        let mut error = error.to_string();
        error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
        *self.0.lock() = Seen { up: false, error: Some(error) };
    }

    /// What `/status` tells of it.
    pub fn dependency(&self, kind: &str) -> Dependency {
        let seen = self.0.lock();
        Dependency { kind: kind.into(), up: seen.up, error: seen.error.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_away_until_it_answers_and_tells_why_it_does_not() {
        let reach = Reach::default();
        let told = |up, error: Option<&str>| Dependency { kind: "redis".into(), up, error: error.map(str::to_owned) };
        assert_eq!((reach.is_up(), reach.dependency("redis")), (false, told(false, None)));
        reach.down(&"refused");
        assert_eq!((reach.is_up(), reach.dependency("redis")), (false, told(false, Some("refused"))));
        reach.up();
        assert_eq!((reach.is_up(), reach.dependency("redis")), (true, told(true, None)));
        reach.down(&"ä".repeat(ERROR_BYTES_MAX));
        assert_eq!(reach.dependency("redis").error.unwrap().len(), ERROR_BYTES_MAX);
    }
}

//! `RedisBound`: the Redis binding is complete.

use super::{Inputs, NOT_CONFIGURED, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    Verdict::of_binding(inputs.bindings.redis.as_ref(), NOT_CONFIGURED, "sessions live in the database")
}

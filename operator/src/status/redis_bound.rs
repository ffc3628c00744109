//! `RedisBound`: the Redis binding is complete.

use super::{Inputs, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    match &inputs.bindings.redis {
        Some(resolved) => Verdict::new(resolved.state.bound, resolved.state.reason, resolved.state.message.clone()),
        None => Verdict::new(false, NOT_CONFIGURED, "sessions live in the database"),
    }
}

/// Reason of a binding that nobody asks for.
pub(crate) const NOT_CONFIGURED: &str = "NotConfigured";

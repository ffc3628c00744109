//! `PostgresBound`: the Postgres binding is complete.

use super::{Inputs, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    match &inputs.bindings.postgres {
        Some(resolved) => Verdict::new(resolved.state.bound, resolved.state.reason, resolved.state.message.clone()),
        None => Verdict::new(false, "SelfContained", "history is kept in a file of the only node"),
    }
}

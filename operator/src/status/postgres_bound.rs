//! `PostgresBound`: the Postgres binding is complete.

use super::{Inputs, SELF_CONTAINED, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    Verdict::of_binding(inputs.bindings.postgres.as_ref(), SELF_CONTAINED, "history is kept in a file of the only node")
}

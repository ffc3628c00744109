//! `AuthConfigured`: tokens can be signed and verified.

use super::{Inputs, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    Verdict::of(&inputs.bindings.token)
}

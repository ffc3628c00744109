//! `AuthConfigured`: tokens can be signed and verified.

use super::{Inputs, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    let token = &inputs.bindings.token;
    Verdict::new(token.bound, token.reason, token.message.clone())
}

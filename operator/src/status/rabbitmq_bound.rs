//! `RabbitmqBound`: the RabbitMQ binding is complete.

use super::{Inputs, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    match &inputs.bindings.rabbitmq {
        Some(resolved) => Verdict::new(resolved.state.bound, resolved.state.reason, resolved.state.message.clone()),
        None => Verdict::new(false, "SelfContained", "there is only one node"),
    }
}

//! `RabbitmqBound`: the RabbitMQ binding is complete.

use super::{Inputs, Progress, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    match (&inputs.progress, inputs.rabbitmq) {
        (_, Some(state)) => Verdict::new(state.bound, state.reason, state.message.clone()),
        (Progress::Invalid(_), None) => Verdict::unknown("Invalid", "the spec cannot be built: see Ready"),
        (_, None) => Verdict::new(false, "SelfContained", "there is only one node"),
    }
}

//! `RabbitmqBound`: the RabbitMQ binding is complete.

use super::{Inputs, SELF_CONTAINED, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    Verdict::of_binding(inputs.bindings.rabbitmq.as_ref(), SELF_CONTAINED, "there is only one node")
}

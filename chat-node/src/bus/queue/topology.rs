//! What the durable queue is made of in RabbitMQ: a quorum queue a partition, and one for what RabbitMQ itself gives up on.
//!
//! The names and arguments are part of the contract between nodes: RabbitMQ refuses a queue that is declared again with others.

use lapin::{
    Channel,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

use super::super::amqp::{Broken, within};

/// Number of a partition, below [`PARTITIONS`].
pub type Partition = u8;

/// Partitions. More would spread the queues' leaders better, and cost each node a channel.
pub const PARTITIONS: Partition = 8;

/// Bytes that a partition holds; beyond, publishing is refused.
const PARTITION_BYTES_MAX: i64 = 256 * 1024 * 1024;

/// Deliveries after which RabbitMQ gives up on a message: never, in effect. RabbitMQ 4 has a limit of 20 unless told otherwise, and
/// `-1` for none, which 3.x takes for a limit that is exceeded at once. A large number means the same to both, so that a server can
/// be upgraded under its queues (<https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>).
const DELIVERIES_MAX: i32 = 2_000_000_000;

/// Where messages go that an operator's policy makes RabbitMQ give up on. They are consumed like the others.
const DEAD: &str = "chatcluster.v1.sends.dead";

/// The queue of a partition.
pub(super) fn name(partition: Partition) -> String {
    format!("chatcluster.v1.sends.{partition}")
}

/// All queues to consume from.
pub(super) fn names() -> impl Iterator<Item = String> {
    (0..PARTITIONS).map(name).chain([DEAD.to_owned()])
}

/// Declares everything, unless it is there.
pub(super) async fn declare(channel: &Channel) -> Result<(), Broken> {
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut common = FieldTable::default();
    common.insert("x-queue-type".into(), text("quorum"));
    common.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    common.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERIES_MAX));
    within(channel.queue_declare(DEAD.into(), durable, common.clone())).await?;
    let mut arguments = common;
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(PARTITION_BYTES_MAX));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(DEAD));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    for partition in 0..PARTITIONS {
        within(channel.queue_declare(name(partition).into(), durable, arguments.clone())).await?;
    }
    Ok(())
}

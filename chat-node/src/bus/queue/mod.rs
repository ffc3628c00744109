//! The durable queue: keeps sends while the database is away. What is confirmed here is acknowledged to a client, so unlike the rest of
//! the bus it may lose nothing.
//!
//! Sends of one outbox go into one partition, so that a partition's order is each outbox's order. A partition has one consumer at a
//! time, on whatever node. Publishing and consuming have connections of their own: a server that is short of memory or disk blocks
//! publishers, and must still hear what was consumed.

mod consumer;
mod publisher;
mod topology;

use std::sync::Arc;

use uuid::Uuid;

pub use self::{
    consumer::{Deliveries, Delivery, Receipt},
    topology::{PARTITIONS, Partition},
};
use super::Server;
pub use super::amqp::Broken;
use crate::reach::Reach;

/// Something to be kept.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where: messages of one partition keep their order.
    pub partition: Partition,
    /// What.
    pub payload: Vec<u8>,
}

/// The partition of an outbox's key.
pub fn partition(key: Uuid) -> Partition {
    // Keys are hashes: any byte of them spreads well.
    key.as_bytes()[15] % PARTITIONS
}

/// A handle to the queue.
#[derive(Clone)]
pub struct Queue {
    server: Server,
    consumer: Arc<str>,
    publisher: publisher::Handle,
}

impl Queue {
    /// Connects in the background, again and again, until all handles are dropped.
    pub fn rabbitmq(server: Server, node: &str) -> Queue {
        let publisher = publisher::start(server.clone(), format!("{node} to the queue"));
        Queue { server, consumer: format!("{node} from the queue").into(), publisher }
    }

    /// Whether it can be reached.
    pub fn reach(&self) -> &Reach {
        self.publisher.reach()
    }

    /// Whether it takes messages now.
    pub fn is_up(&self) -> bool {
        self.reach().is_up()
    }

    /// Puts messages into the queue, in order. Tells for each whether it is durable; one that is not may be there all the same.
    pub async fn publish(&self, messages: Vec<Message>) -> Vec<bool> {
        self.publisher.publish(messages).await
    }

    /// Begins to consume.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn consume(&self) -> Result<Deliveries, Broken> {
        Deliveries::begin(&self.server, &self.consumer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outboxes_spread_over_all_partitions_and_stay_in_theirs() {
        let key = |outbox: u128| Uuid::new_v5(&Uuid::from_u128(outbox), b"alice");
        let mut counts = [0; PARTITIONS as usize];
        for outbox in 0..1_000 {
            assert_eq!(partition(key(outbox)), partition(key(outbox)));
            counts[usize::from(partition(key(outbox)))] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}

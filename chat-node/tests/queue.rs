//! What the durable queue promises, claimed of a real RabbitMQ.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::time::Duration;

use chat_node::bus::{
    Server,
    queue::{Delivery, Message, PARTITIONS, Queue},
};
use services::Services;
use tokio::time::{sleep, timeout};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// More than RabbitMQ 4 allows a message unless told otherwise.
const REDELIVERIES: usize = 25;

async fn queue() -> Queue {
    let services = Services::new().unwrap();
    services.up().unwrap();
    let server = Server::new(services.rabbitmq.fresh_vhost().unwrap(), None);
    let queue = Queue::rabbitmq(server, "test");
    let up = async {
        while !queue.is_up() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, up).await.unwrap();
    queue
}

fn messages(partition: u8, from: u8, count: u8) -> Vec<Message> {
    (from..from + count).map(|number| Message { partition, payload: vec![number] }).collect()
}

async fn take(queue: &Queue, count: usize) -> (chat_node::bus::queue::Deliveries, Vec<Delivery>) {
    let mut deliveries = queue.consume().await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(timeout(PATIENCE, deliveries.next(count - taken.len())).await.unwrap().unwrap());
    }
    (deliveries, taken)
}

fn numbers(deliveries: &[Delivery]) -> Vec<u8> {
    deliveries.iter().map(|delivery| delivery.payload[0]).collect()
}

#[tokio::test]
async fn what_is_confirmed_comes_in_order_until_it_is_let_go_of_however_often_its_consumer_falls_away() {
    let queue = queue().await;
    assert_eq!(queue.publish(messages(3, 0, 5)).await, [true; 5]);
    for _ in 0..REDELIVERIES {
        let (deliveries, taken) = take(&queue, 5).await;
        assert_eq!(numbers(&taken), [0, 1, 2, 3, 4]);
        deliveries.close().await;
    }
    let (mut deliveries, taken) = take(&queue, 5).await;
    let receipts: Vec<_> = taken[..3].iter().map(|delivery| delivery.receipt).collect();
    deliveries.let_go(&receipts).await.unwrap();
    deliveries.close().await;
    assert_eq!(queue.publish(messages(3, 5, 2)).await, [true; 2]);
    let (_deliveries, taken) = take(&queue, 4).await;
    assert_eq!(numbers(&taken), [3, 4, 5, 6], "what comes later goes behind what was put back");
}

#[tokio::test]
async fn a_partition_has_one_consumer_at_a_time_and_the_next_one_takes_over() {
    let queue = queue().await;
    let (mut first, mut second) = (queue.consume().await.unwrap(), queue.consume().await.unwrap());
    for partition in 0..PARTITIONS {
        assert_eq!(queue.publish(messages(partition, partition, 1)).await, [true]);
    }
    let mut taken = Vec::new();
    while taken.len() < usize::from(PARTITIONS) {
        taken.extend(timeout(PATIENCE, first.next(100)).await.unwrap().unwrap());
    }
    first.close().await;
    let mut taken_over = Vec::new();
    while taken_over.len() < usize::from(PARTITIONS) {
        taken_over.extend(timeout(PATIENCE, second.next(100)).await.unwrap().unwrap());
    }
    let sorted = |deliveries: &[Delivery]| {
        let mut numbers = numbers(deliveries);
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(sorted(&taken), (0..PARTITIONS).collect::<Vec<_>>());
    assert_eq!(sorted(&taken_over), sorted(&taken));
}

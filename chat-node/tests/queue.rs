//! What the durable queue promises, claimed of a real RabbitMQ; and what comes out of it, of a real PostgreSQL besides.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{sync::Arc, time::Duration};

use chat_node::{
    bus::{
        Server,
        queue::{Delivery, Message, PARTITIONS, Queue, partition},
    },
    event::RoomKind,
    health::Health,
    intake::{First, Intake, IntakeLimits, Parts},
    store::{Answer, Append, Content, PostgresStore, SendKey, SharedStore, StoreLimits},
    trace::Traces,
};
use services::Services;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

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

/// How long a send waits in these tests for the one before it.
const GAP_PATIENCE: Duration = Duration::from_secs(2);

const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 9, members_per_room_max: 9, outbox_results_kept: 99 };

/// A node that brings what is in the queue into the log, and a room.
struct Ground {
    queue: Queue,
    store: SharedStore,
    services: Services,
    database: String,
    room: Uuid,
    _intake: Intake,
    background: tokio::task::JoinHandle<()>,
}

impl Ground {
    async fn new() -> Ground {
        let (queue, services) = (queue().await, Services::new().unwrap());
        let url = services.postgres.fresh_database().unwrap();
        let postgres = PostgresStore::new(&url, None, 5, LIMITS).unwrap();
        let store: SharedStore = Arc::new(postgres);
        store.migrate().await.unwrap();
        let room = store.create_room(&"alice".into(), "lobby", RoomKind::Public, 0).await.unwrap().room.id;
        let (intake, _task) = Intake::spawn(Parts {
            store: store.clone(),
            queue: Some(queue.clone()),
            health: Arc::new(Health::of_ready_store()),
            publish: Arc::new(|_| {}),
            traces: Traces::default(),
            first: First::Log,
            limits: IntakeLimits { batch_max: 100, queue_max: 100, accepted_max: 100, gap_patience: GAP_PATIENCE },
        });
        let background = tokio::spawn(intake.background());
        let database = url.rsplit('/').next().unwrap().to_owned();
        Ground { queue, store, services, database, room, _intake: intake, background }
    }

    /// Puts sends of alice's outboxes into the queue, in this order: the number of the outbox, and of the send in it.
    async fn put(&self, sends: &[(u128, i64)]) {
        let message = |(outbox, n): &(u128, i64)| {
            let outbox = Uuid::from_u128(*outbox);
            let (sender, content, event) = ("alice".into(), Content::text(n.to_string()), Uuid::now_v7());
            let append = Append { sender, outbox, n: *n, room: self.room, content, event, time: 0 };
            let partition = partition(outbox);
            Message { partition, payload: serde_json::to_vec(&append).unwrap() }
        };
        let durable = self.queue.publish(sends.iter().map(message).collect()).await;
        assert!(durable.iter().all(|durable| *durable));
    }

    /// The place of a send, once it has one.
    async fn place(&self, (outbox, n): (u128, i64)) -> i64 {
        let key = SendKey { sender: "alice".into(), outbox: Uuid::from_u128(outbox), n };
        until(async || match &self.store.outcomes(std::slice::from_ref(&key)).await.unwrap()[0] {
            Some(Answer::Committed { event, .. }) => Some(event.seq),
            _ => None,
        })
        .await
    }

    /// The dead letters, once there are any.
    async fn dead_letters(&self) -> String {
        let select = "SELECT reason, payload::json->'n' FROM dead_letters";
        until(async || {
            Some(self.services.postgres.sql(&self.database, select).unwrap()).filter(|rows| !rows.is_empty())
        })
        .await
    }
}

async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap()
}

/// As when a consumer leaves, and the next one is given a later send before what the former puts back.
#[tokio::test]
async fn a_send_that_comes_ahead_of_its_turn_waits_for_the_one_that_it_follows_on() {
    let ground = Ground::new().await;
    ground.put(&[(1, 1), (1, 3), (2, 1), (1, 4)]).await;
    let (first, other) = (ground.place((1, 1)).await, ground.place((2, 1)).await);
    ground.put(&[(1, 2)]).await;
    let (second, third, fourth) = (ground.place((1, 2)).await, ground.place((1, 3)).await, ground.place((1, 4)).await);
    assert!(first < second && second < third && third < fourth, "{first} {second} {third} {fourth}");
    assert!(other < second, "another outbox waits for nothing");
    ground.background.abort();
    let _ = ground.background.await;
    // All was let go of.
    let mut deliveries = ground.queue.consume().await.unwrap();
    let left = timeout(Duration::from_secs(1), deliveries.next(100)).await;
    assert!(left.is_err(), "{left:?}");
}

#[tokio::test]
async fn a_send_that_waits_in_vain_is_a_dead_letter_and_holds_up_no_other() {
    let ground = Ground::new().await;
    ground.put(&[(1, 2), (2, 1)]).await;
    ground.place((2, 1)).await;
    assert_eq!(ground.dead_letters().await.trim(), "outbox_gap|2");
    ground.put(&[(2, 2), (1, 1)]).await;
    ground.place((2, 2)).await;
    ground.place((1, 1)).await;
    ground.background.abort();
}

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
    intake::{First, Intake, IntakeLimits, Parts, Taken},
    protocol::Code,
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
    queue_at(services.rabbitmq.fresh_vhost().unwrap()).await
}

async fn queue_at(url: String) -> Queue {
    let server = Server::new(url, None);
    let queue = Queue::rabbitmq(server, "test");
    let up = async {
        while !queue.is_up() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, up).await.unwrap();
    queue
}

/// Deletes a partition's queue.
async fn delete(url: &str, partition: u8) {
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("chatcluster.v1.sends.{partition}");
    channel.queue_delete(queue.into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
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
    vhost: String,
    store: SharedStore,
    services: Services,
    database: String,
    room: Uuid,
    intake: Intake,
    background: tokio::task::JoinHandle<()>,
}

impl Ground {
    async fn new() -> Ground {
        let services = Services::new().unwrap();
        services.up().unwrap();
        let vhost = services.rabbitmq.fresh_vhost().unwrap();
        let queue = queue_at(vhost.clone()).await;
        let url = services.postgres.fresh_database().unwrap();
        let postgres = PostgresStore::new(&url, None, 5, LIMITS).unwrap();
        let store: SharedStore = Arc::new(postgres);
        store.migrate().await.unwrap();
        let room = store.create_room(&"alice".into(), "lobby", RoomKind::Public, 0).await.unwrap().room.id;
        let (intake, _) = intake(&store, &queue, First::Log);
        let background = tokio::spawn(intake.background());
        let database = url.rsplit('/').next().unwrap().to_owned();
        Ground { queue, vhost, store, services, database, room, intake, background }
    }

    /// A send of one of alice's outboxes.
    fn send(&self, outbox: u128, n: i64) -> Append {
        let (sender, content, event) = ("alice".into(), Content::text(n.to_string()), Uuid::now_v7());
        Append { sender, outbox: Uuid::from_u128(outbox), n, room: self.room, content, event, time: 0 }
    }

    /// Puts sends of alice's outboxes into the queue, in this order: the number of the outbox, and of the send in it.
    async fn put(&self, sends: &[(u128, i64)]) {
        let message = |(outbox, n): &(u128, i64)| {
            let append = self.send(*outbox, *n);
            Message { partition: partition(append.outbox), payload: serde_json::to_vec(&append).unwrap() }
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

/// The intake of one more node, and whether its database is worth asking.
fn intake(store: &SharedStore, queue: &Queue, first: First) -> (Intake, Arc<Health>) {
    let health = Arc::new(Health::of_ready_store());
    let (intake, _task) = Intake::spawn(Parts {
        store: store.clone(),
        queue: Some(queue.clone()),
        health: health.clone(),
        publish: Arc::new(|_| {}),
        traces: Traces::default(),
        first,
        limits: IntakeLimits { batch_max: 100, queue_max: 100, accepted_max: 100, gap_patience: GAP_PATIENCE },
    });
    (intake, health)
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

/// As when a client is back at a node that has asked the log of its outbox before another node committed what waited here.
#[tokio::test]
async fn what_another_node_has_committed_is_followed_on_though_the_log_was_asked_before() {
    let ground = Ground::new().await;
    // The ground's node consumes every partition, and the other one only finds out what became of its sends.
    for partition_of in 0..PARTITIONS {
        let outbox = (100..).find(|outbox| partition(Uuid::from_u128(*outbox)) == partition_of).unwrap();
        ground.put(&[(outbox, 1)]).await;
        ground.place((outbox, 1)).await;
    }
    let (intake, health) = intake(&ground.store, &ground.queue, First::Queue);
    let background = tokio::spawn(intake.background());
    let outbox = intake.open("alice", Uuid::from_u128(1));
    outbox.found(0);
    let taken = intake.append(ground.send(1, 1)).unwrap().await.unwrap();
    let Taken::Accepted(awaited) = taken else { panic!("{taken:?}") };
    assert!(matches!(awaited.fate().await, Some(Ok(Answer::Committed { .. }))));

    outbox.found(0);
    health.lost_store();
    let taken = intake.append(ground.send(1, 2)).unwrap().await.unwrap();
    assert!(matches!(taken, Taken::Accepted(_)), "{taken:?}");
    ground.place((1, 2)).await;
    background.abort();
    ground.background.abort();
}

#[tokio::test]
async fn a_queue_that_is_deleted_ends_consuming_and_is_there_again_for_the_next() {
    let services = Services::new().unwrap();
    services.up().unwrap();
    let url = services.rabbitmq.fresh_vhost().unwrap();
    let queue = queue_at(url.clone()).await;
    let mut deliveries = queue.consume().await.unwrap();
    delete(&url, 3).await;
    let ended = timeout(PATIENCE, deliveries.next(1)).await.expect("nobody consumes a queue, and nobody knows");
    assert!(ended.is_err());
    deliveries.close().await;
    let mut deliveries = queue.consume().await.unwrap();
    assert_eq!(queue.publish(messages(3, 0, 1)).await, [true]);
    let taken = timeout(PATIENCE, deliveries.next(1)).await.unwrap().unwrap();
    assert_eq!(numbers(&taken), [0]);
}

/// What breaks a rule uses its number up, and only the log knows which number it is: another node may have taken it with another content.
#[tokio::test]
async fn the_fate_of_a_send_that_breaks_a_rule_is_the_one_that_the_log_has() {
    let ground = Ground::new().await;
    let taken = ground.intake.append(ground.send(1, 1)).unwrap().await.unwrap();
    assert!(matches!(taken, Taken::Done(Ok(Answer::Committed { .. }))), "{taken:?}");
    // The answer was lost, and the sender was muted: the first again, to another node, and one more.
    let (intake, _) = intake(&ground.store, &ground.queue, First::Queue);
    let background = tokio::spawn(intake.background());
    let outbox = intake.open("alice", Uuid::from_u128(1));
    outbox.found(1);
    let refused = |n| Append { content: Content::Refused(Code::Muted), ..ground.send(1, n) };
    let mut fates = Vec::new();
    for n in 1..=2 {
        match intake.append(refused(n)).unwrap().await.unwrap() {
            Taken::Accepted(awaited) => fates.push(awaited),
            done @ Taken::Done(_) => panic!("{n}: {done:?}"),
        }
    }
    let mut told = Vec::new();
    for fate in fates {
        told.push(timeout(PATIENCE, fate.fate()).await.unwrap().unwrap());
    }
    assert!(matches!(told[..], [Ok(Answer::Committed { .. }), Ok(Answer::Refused(Code::Muted))]), "{told:?}");
    background.abort();
    ground.background.abort();
}

/// The log does not know it yet, and whoever sent it may have been told more by the time that this is told.
#[tokio::test]
async fn what_follows_on_an_accepted_send_and_cannot_be_queued_is_no_gap() {
    let mut ground = Ground::new().await;
    ground.background.abort();
    let _ = (&mut ground.background).await;
    let (intake, _) = intake(&ground.store, &ground.queue, First::Queue);
    let outbox = intake.open("alice", Uuid::from_u128(1));
    outbox.found(0);
    let append = |n| intake.append(ground.send(1, n)).unwrap();
    let taken = append(1).await.unwrap();
    assert!(matches!(taken, Taken::Accepted(_)), "{taken:?}");
    for partition in 0..PARTITIONS {
        delete(&ground.vhost, partition).await;
    }
    let taken = append(2).await.unwrap();
    assert!(matches!(taken, Taken::Done(Err(Code::Unavailable))), "{taken:?}");
}

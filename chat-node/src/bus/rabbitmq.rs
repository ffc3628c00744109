//! The bus over RabbitMQ: one direct exchange, and one transient queue a node, bound to the shards of its resident rooms.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    tcp::OwnedTLSConfig,
    types::{AMQPValue, FieldTable},
};
use rand::RngExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Incoming, Scope, Shard, shard,
    tracker::Tracker,
    wire::{Body, Message, Sender, Topic, frames},
};
use crate::event::{Event, Membership};

/// The exchange. Its name carries the version of the messages.
const EXCHANGE: &str = "chatcluster.v1";

/// Bytes that wait for a node that reads too slowly; beyond, the oldest are dropped, which the numbers tell.
const QUEUE_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// Messages that wait to be published; beyond, they are dropped, which the numbers tell.
const OUTGOING_MAX: usize = 4_096;

/// Messages that wait to be looked at.
const INCOMING_MAX: usize = 4_096;

/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long an exchange with the server may take; also how long the own heartbeat may take to come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bounds of the wait between attempts to connect; it doubles, with full jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

enum Command {
    Publish(Topic, Payload),
    Follow(BTreeSet<Shard>, oneshot::Sender<()>),
}

enum Payload {
    Events(Vec<Event>),
    Memberships(Vec<Membership>),
}

/// A handle to the task that owns the connection.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    up: Arc<AtomicBool>,
}

impl Handle {
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn publish_events(&self, events: &[Event]) {
        let mut shards: HashMap<Shard, Vec<Event>> = HashMap::new();
        for event in events {
            shards.entry(shard(event.room)).or_default().push(event.clone());
        }
        for (shard, events) in shards {
            self.publish(Topic::Room(shard), Payload::Events(events));
        }
    }

    pub(super) fn publish_memberships(&self, memberships: &[Membership]) {
        self.publish(Topic::Members, Payload::Memberships(memberships.to_vec()));
    }

    fn publish(&self, topic: Topic, payload: Payload) {
        if self.commands.try_send(Command::Publish(topic, payload)).is_err() {
            // The commit's own notification in the database tells other nodes.
            metrics::counter!("chat_bus_dropped_total").increment(1);
        }
    }

    pub(super) async fn follow(&self, shards: impl Iterator<Item = Shard>) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Follow(shards.collect(), done)).await.is_ok() {
            // An error means that the connection broke; everything is looked at when it is back.
            let _ = wait.await;
        }
    }
}

pub(super) fn start(url: String, ca: Option<Vec<u8>>, node: &str) -> (Handle, mpsc::Receiver<Incoming>) {
    let (commands, queue) = mpsc::channel(OUTGOING_MAX);
    let (incoming, receiver) = mpsc::channel(INCOMING_MAX);
    let up = Arc::new(AtomicBool::new(false));
    let task = Task {
        url,
        ca: ca.map(|pem| String::from_utf8_lossy(&pem).into_owned()),
        sender: Sender { node: node.to_owned(), run: rand::rng().random() },
        commands: queue,
        incoming,
        up: up.clone(),
        shards: BTreeSet::new(),
        numbers: BTreeMap::new(),
    };
    tokio::spawn(task.run());
    (Handle { commands, up }, receiver)
}

struct Task {
    url: String,
    /// Certificates that the server's is verified with, in PEM.
    ca: Option<String>,
    sender: Sender,
    commands: mpsc::Receiver<Command>,
    incoming: mpsc::Sender<Incoming>,
    up: Arc<AtomicBool>,
    /// Shards that are followed, over all connections.
    shards: BTreeSet<Shard>,
    /// The latest number of each topic, over all connections.
    numbers: BTreeMap<Topic, u64>,
}

/// Why a connection broke, in words.
struct Broken(String);

impl From<lapin::Error> for Broken {
    fn from(error: lapin::Error) -> Self {
        Broken(error.to_string())
    }
}

impl Task {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let began = Instant::now();
            let ended = self.serve().await;
            self.up.store(false, Ordering::Relaxed);
            match ended {
                Ok(()) => return,
                Err(Broken(error)) => tracing::warn!(%error, "the bus is away"),
            }
            if began.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            let wait = backoff.mul_f64(rand::rng().random());
            backoff = (backoff * 2).min(BACKOFF_MAX);
            if self.idle(wait).await {
                return;
            }
        }
    }

    /// Waits while the bus is away, without making anyone wait. Tells whether the node is done with the bus.
    async fn idle(&mut self, wait: Duration) -> bool {
        let wait = sleep(wait);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return false,
                command = self.commands.recv() => match command {
                    None => return true,
                    Some(Command::Publish(topic, _)) => {
                        self.number(topic);
                    }
                    Some(Command::Follow(shards, _)) => self.shards.extend(shards),
                },
            }
        }
    }

    /// Serves one connection to its end. `Ok` when the node is done with the bus.
    async fn serve(&mut self) -> Result<(), Broken> {
        let options = ConnectionProperties::default().with_connection_name(self.sender.node.as_str().into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca.clone() };
        let connect = Connection::connect_with_config(&self.url, options, tls, lapin::runtime::default_runtime()?);
        let connection = within(connect).await?;
        let channel = within(connection.create_channel()).await?;
        let (queue, mut deliveries) = self.declare(&channel).await?;
        let mut tracker = Tracker::default();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_self = Instant::now();
        self.up.store(true, Ordering::Relaxed);
        tracing::info!("the bus carries");
        self.tell(Incoming::Missed(Scope::Everything)).await;
        loop {
            tokio::select! {
                delivery = deliveries.next() => {
                    let delivery = delivery.ok_or_else(|| Broken("the consumer was cancelled".into()))??;
                    if self.receive(&mut tracker, &delivery.data).await {
                        heard_self = Instant::now();
                    }
                }
                command = self.commands.recv() => match command {
                    None => {
                        let _ = within(connection.close(200, "done".into())).await;
                        return Ok(());
                    }
                    Some(Command::Publish(topic, payload)) => {
                        let number = self.number(topic);
                        let body = match payload {
                            Payload::Events(events) => {
                                Body::Events { topic, number, frames: frames(&events) }
                            }
                            Payload::Memberships(changes) => Body::Memberships { number, changes },
                        };
                        self.publish(&channel, topic, body).await?;
                    }
                    Some(Command::Follow(shards, done)) => {
                        for shard in shards {
                            if self.shards.insert(shard) {
                                bind(&channel, &queue, Topic::Room(shard)).await?;
                            }
                        }
                        let _ = done.send(());
                    }
                },
                _ = heartbeat.tick() => {
                    if heard_self.elapsed() > PATIENCE {
                        return Err(Broken("nothing comes back".into()));
                    }
                    if tracker.silent(Instant::now()) {
                        self.tell(Incoming::Missed(Scope::Everything)).await;
                    }
                    self.publish(&channel, Topic::Heartbeat, Body::Heartbeat { numbers: self.numbers.clone() }).await?;
                }
            }
        }
    }

    /// Declares the exchange and this node's queue, binds what is followed, and begins to consume.
    async fn declare(&self, channel: &Channel) -> Result<(String, Consumer), Broken> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        within(channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, durable, FieldTable::default())).await?;
        let transient = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let mut bounds = FieldTable::default();
        bounds.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(QUEUE_BYTES_MAX));
        let queue = within(channel.queue_declare("".into(), transient, bounds)).await?.name().to_string();
        let topics = self.shards.iter().map(|shard| Topic::Room(*shard));
        for topic in topics.chain([Topic::Members, Topic::Heartbeat]) {
            bind(channel, &queue, topic).await?;
        }
        let consume = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
        let consumer =
            within(channel.basic_consume(queue.as_str().into(), "".into(), consume, FieldTable::default())).await?;
        Ok((queue, consumer))
    }

    async fn publish(&self, channel: &Channel, topic: Topic, body: Body) -> Result<(), Broken> {
        let message = Message { sender: self.sender.clone(), body };
        let payload = serde_json::to_vec(&message).map_err(|error| Broken(error.to_string()))?;
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let key = String::from(topic);
        within(channel.basic_publish(EXCHANGE.into(), key.into(), options, &payload, properties)).await?;
        Ok(())
    }

    /// Handles a message; tells whether it was this node's own.
    async fn receive(&self, tracker: &mut Tracker, payload: &[u8]) -> bool {
        let Ok(Message { sender, body }) = serde_json::from_slice::<Message>(payload) else {
            // A newer node says what this one does not understand.
            self.tell(Incoming::Missed(Scope::Everything)).await;
            return false;
        };
        if sender == self.sender {
            return true;
        }
        let now = Instant::now();
        match body {
            Body::Events { topic, number, frames } => {
                let missed = tracker.message(&sender, topic, number, now);
                let events = frames.iter().filter_map(|frame| Event::from_frame(frame.get()).ok()).collect();
                self.tell(Incoming::Events(events)).await;
                self.tell_missed(missed).await;
            }
            Body::Memberships { number, changes } => {
                let missed = tracker.message(&sender, Topic::Members, number, now);
                self.tell(Incoming::Memberships(changes)).await;
                self.tell_missed(missed).await;
            }
            Body::Heartbeat { mut numbers } => {
                // Numbers of shards that are not followed say nothing.
                numbers.retain(|topic, _| !matches!(topic, Topic::Room(shard) if !self.shards.contains(shard)));
                let missed = tracker.heartbeat(&sender, numbers, now);
                self.tell_missed(missed).await;
            }
        }
        false
    }

    async fn tell_missed(&self, missed: impl IntoIterator<Item = Scope>) {
        for scope in missed {
            metrics::counter!("chat_bus_missed_total").increment(1);
            self.tell(Incoming::Missed(scope)).await;
        }
    }

    async fn tell(&self, incoming: Incoming) {
        // Whoever listened is gone when the node ends.
        let _ = self.incoming.send(incoming).await;
    }

    fn number(&mut self, topic: Topic) -> u64 {
        let number = self.numbers.entry(topic).or_insert(0);
        *number += 1;
        *number
    }
}

async fn bind(channel: &Channel, queue: &str, topic: Topic) -> Result<(), Broken> {
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    within(channel.queue_bind(queue.into(), EXCHANGE.into(), String::from(topic).into(), options, arguments)).await
}

/// Bounds an exchange with the server.
async fn within<T>(exchange: impl Future<Output = Result<T, lapin::Error>>) -> Result<T, Broken> {
    timeout(PATIENCE, exchange).await.map_err(|_| Broken("the server does not answer".into()))?.map_err(Broken::from)
}

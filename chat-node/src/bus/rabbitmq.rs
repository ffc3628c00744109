//! The bus over RabbitMQ: one direct exchange, and one transient queue a node, bound to the shards of its resident rooms.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use rand::RngExt;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Incoming, Scope, Shard,
    amqp::{Backoff, Broken, PATIENCE, Server, within},
    following::{Following, Shards},
    shard,
    tracker::Tracker,
    wire::{Body, Message, Sender, Topic, frames},
};
use crate::{
    event::{Event, Membership},
    metric::Metric,
    reach::Reach,
    signals::Signal,
    trace::{Begun, Traces},
};

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

/// Something to tell others.
struct Publication(Topic, Payload);

enum Payload {
    Events(Vec<Event>),
    Memberships(Vec<Membership>),
    Signals(Vec<Signal>),
}

/// A handle to the task that owns the connection.
#[derive(Clone)]
pub struct Handle {
    publications: mpsc::Sender<Publication>,
    following: Arc<Following>,
    reach: Reach,
    peer: Arc<str>,
}

impl Handle {
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    pub(super) fn publish_signals(&self, signals: Vec<Signal>) {
        self.publish(Topic::Signals, Payload::Signals(signals));
    }

    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(super) fn is_up(&self) -> bool {
        self.reach.is_up()
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
        if self.publications.try_send(Publication(topic, payload)).is_err() {
            // The commit's own notification in the database tells other nodes.
            Metric::BusDropped.count();
        }
    }

    pub(super) async fn follow(&self, shards: impl Iterator<Item = Shard>) {
        self.following.follow(shards.collect(), self.is_up()).await;
    }

    pub(super) fn unfollow(&self, shard: Shard) {
        self.following.unfollow(shard);
    }
}

pub(super) fn start(server: Server, node: &str, traces: Traces) -> (Handle, mpsc::Receiver<Incoming>) {
    let (publications, queue) = mpsc::channel(OUTGOING_MAX);
    let (incoming, receiver) = mpsc::channel(INCOMING_MAX);
    let (following, reach) = (Arc::<Following>::default(), Reach::default());
    let sender = Sender { node: node.to_owned(), run: rand::rng().random() };
    let peer = sender.peer().into();
    let task = Task {
        server,
        sender,
        traces,
        publications: queue,
        following: following.clone(),
        incoming,
        reach: reach.clone(),
        numbers: BTreeMap::new(),
    };
    tokio::spawn(task.run());
    (Handle { publications, following, reach, peer }, receiver)
}

struct Task {
    server: Server,
    sender: Sender,
    traces: Traces,
    publications: mpsc::Receiver<Publication>,
    following: Arc<Following>,
    incoming: mpsc::Sender<Incoming>,
    reach: Reach,
    /// The latest number of each topic, over all connections.
    numbers: BTreeMap<Topic, u64>,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let ended = self.serve().await;
            let Err(error) = ended else { return };
            self.reach.down(&error);
            self.following.carry(Shards::default());
            tracing::warn!(%error, "the bus is away");
            if self.idle(backoff.after(began.elapsed())).await {
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
                publication = self.publications.recv() => match publication {
                    None => return true,
                    Some(Publication(_, Payload::Signals(_))) => {}
                    Some(Publication(topic, _)) => {
                        self.number(topic);
                    }
                },
            }
        }
    }

    /// Serves one connection to its end. `Ok` when the node is done with the bus.
    async fn serve(&mut self) -> Result<(), Broken> {
        let connection = self.server.connect(&self.sender.node).await?;
        let channel = within(connection.create_channel()).await?;
        let (queue, mut deliveries) = self.declare(&channel).await?;
        let mut wishes = self.following.wishes();
        let wanted = *wishes.borrow_and_update();
        self.fulfil(wanted, &channel, &queue).await?;
        let mut tracker = Tracker::default();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_self = Instant::now();
        self.reach.up();
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
                publication = self.publications.recv() => match publication {
                    None => {
                        let _ = within(connection.close(200, "done".into())).await;
                        return Ok(());
                    }
                    Some(Publication(topic, payload)) => {
                        let mut leaving = Vec::new();
                        let body = match payload {
                            Payload::Events(events) => {
                                leaving = self.traces.leaving(&events);
                                let traces = leaving.iter().map(Begun::told).collect();
                                Body::Events { topic, number: self.number(topic), frames: frames(&events), traces }
                            }
                            Payload::Memberships(changes) => Body::Memberships { number: self.number(topic), changes },
                            Payload::Signals(signals) => Body::Signals { signals },
                        };
                        self.publish(&channel, topic, body).await?;
                        self.traces.over(leaving);
                    }
                },
                Ok(()) = wishes.changed() => {
                    let wanted = *wishes.borrow_and_update();
                    self.fulfil(wanted, &channel, &queue).await?;
                }
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

    /// Binds what is wanted and unbinds what is not. Whoever could not wait for it is made up for.
    async fn fulfil(&self, wanted: Shards, channel: &Channel, queue: &str) -> Result<(), Broken> {
        let carried = self.following.carried();
        for shard in wanted.without(carried).iter() {
            bind(channel, queue, Topic::Room(shard)).await?;
        }
        for shard in carried.without(wanted).iter() {
            let key = String::from(Topic::Room(shard));
            within(channel.queue_unbind(queue.into(), EXCHANGE.into(), key.into(), FieldTable::default())).await?;
        }
        for shard in self.following.carry(wanted).iter() {
            self.tell(Incoming::Missed(Scope::Shard(shard))).await;
        }
        Ok(())
    }

    /// Declares the exchange and this node's queue, and begins to consume.
    async fn declare(&self, channel: &Channel) -> Result<(String, Consumer), Broken> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        within(channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, durable, FieldTable::default())).await?;
        let transient = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let mut bounds = FieldTable::default();
        bounds.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(QUEUE_BYTES_MAX));
        let queue = within(channel.queue_declare("".into(), transient, bounds)).await?.name().to_string();
        for topic in [Topic::Members, Topic::Signals, Topic::Heartbeat] {
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
            Body::Events { topic, number, frames, traces } => {
                let missed = tracker.message(&sender, topic, number, now);
                let events = frames.iter().filter_map(|frame| Event::from_frame(frame.get()).ok());
                let mut events: Vec<Event> = events.collect();
                let arriving = self.traces.arriving(&mut events, &traces);
                self.tell(Incoming::Events(events)).await;
                self.traces.over(arriving);
                self.tell_missed(missed).await;
            }
            Body::Memberships { number, changes } => {
                let missed = tracker.message(&sender, Topic::Members, number, now);
                self.tell(Incoming::Memberships(changes)).await;
                self.tell_missed(missed).await;
            }
            Body::Signals { signals } => self.tell(Incoming::Signals(sender.peer(), signals)).await,
            Body::Heartbeat { mut numbers } => {
                // Numbers of shards that are not followed say nothing.
                let carried = self.following.carried();
                numbers.retain(|topic, _| !matches!(topic, Topic::Room(shard) if !carried.contains(*shard)));
                let missed = tracker.heartbeat(&sender, numbers, now);
                self.tell_missed(missed).await;
            }
        }
        false
    }

    async fn tell_missed(&self, missed: impl IntoIterator<Item = Scope>) {
        for scope in missed {
            Metric::BusMissed.count();
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

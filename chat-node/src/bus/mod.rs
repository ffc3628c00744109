//! The bus: tells other nodes at once what this one committed. The only room that knows RabbitMQ.
//!
//! It may lose things and may be away: what it carries is in the store already, and whoever listens is told when something may have
//! been missed. So it needs no confirms, no persistence and no acknowledgements. The durable [`queue`] beside it is another matter.

mod amqp;
mod following;
pub mod queue;
mod rabbitmq;
mod tracker;
mod wire;

use crds::node_status::Dependency;
use tokio::sync::mpsc;
use uuid::Uuid;

pub use self::amqp::Server;
use crate::{
    event::{Event, Membership},
    signals::{Peer, Signal},
    trace::Traces,
};

/// Shards that rooms are divided into, on the bus and in the hub. Part of the contract between nodes.
pub const SHARDS: usize = 64;

/// A shard's number, below [`SHARDS`].
pub type Shard = u8;

/// The shard of a room.
pub fn shard(room: Uuid) -> Shard {
    // The last bytes of a UUIDv7 are random.
    room.as_bytes()[15] % SHARDS as u8
}

/// What arrives from other nodes.
#[derive(Debug)]
pub enum Incoming {
    /// Events, in the order of the node that committed them.
    Events(Vec<Event>),
    /// Changes of membership.
    Memberships(Vec<Membership>),
    /// Signals of a node.
    Signals(Peer, Vec<Signal>),
    /// Something may have been missed.
    Missed(Scope),
}

/// What may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anything.
    Everything,
    /// Events of a shard's rooms.
    Shard(Shard),
    /// Changes of membership.
    Memberships,
}

impl Scope {
    /// Whether changes of membership are among it.
    pub fn has_memberships(self) -> bool {
        matches!(self, Scope::Everything | Scope::Memberships)
    }
}

/// A handle to the bus.
#[derive(Clone)]
pub enum Bus {
    /// There is no other node.
    InProcess,
    /// Nodes that share a RabbitMQ virtual host.
    Rabbitmq(rabbitmq::Handle),
}

impl Bus {
    /// Connects in the background, again and again, until the handle and the receiver are dropped.
    pub fn rabbitmq(server: Server, node: &str, traces: Traces) -> (Bus, mpsc::Receiver<Incoming>) {
        let (handle, incoming) = rabbitmq::start(server, node, traces);
        (Bus::Rabbitmq(handle), incoming)
    }

    /// `rabbitmq` or `in-process`.
    pub fn kind(&self) -> &'static str {
        match self {
            Bus::InProcess => "in-process",
            Bus::Rabbitmq(_) => "rabbitmq",
        }
    }

    /// Whether it carries now.
    pub fn is_up(&self) -> bool {
        match self {
            Bus::InProcess => true,
            Bus::Rabbitmq(handle) => handle.is_up(),
        }
    }

    /// What `/status` tells of it.
    pub fn dependency(&self) -> Dependency {
        match self {
            Bus::InProcess => Dependency { kind: self.kind().into(), up: true, error: None },
            Bus::Rabbitmq(handle) => handle.reach().dependency(self.kind()),
        }
    }

    /// Tells others of committed events. Never waits.
    pub fn publish_events(&self, events: &[Event]) {
        if let Bus::Rabbitmq(handle) = self {
            handle.publish_events(events);
        }
    }

    /// Tells others of changed memberships. Never waits.
    pub fn publish_memberships(&self, memberships: &[Membership]) {
        if let Bus::Rabbitmq(handle) = self
            && !memberships.is_empty()
        {
            handle.publish_memberships(memberships);
        }
    }

    /// Tells others what nobody stores. Never waits; what cannot be told is lost.
    pub fn publish_signals(&self, signals: Vec<Signal>) {
        if let Bus::Rabbitmq(handle) = self
            && !signals.is_empty()
        {
            handle.publish_signals(signals);
        }
    }

    /// How other nodes name this one's run.
    pub fn peer(&self) -> &str {
        match self {
            Bus::InProcess => "",
            Bus::Rabbitmq(handle) => handle.peer(),
        }
    }

    /// Receives the events of these shards from now on. Returns once that is so, or after a moment when the bus is away or slow: then
    /// [`Incoming::Missed`] makes up for it.
    pub async fn follow(&self, shards: impl Iterator<Item = Shard>) {
        if let Bus::Rabbitmq(handle) = self {
            handle.follow(shards).await;
        }
    }

    /// Receives the events of this shard no more. Never waits.
    pub fn unfollow(&self, shard: Shard) {
        if let Bus::Rabbitmq(handle) = self {
            handle.unfollow(shard);
        }
    }
}

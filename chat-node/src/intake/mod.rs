//! The intake: takes sends in and acknowledges them once they are durable, with the database or the queue away.
//!
//! A send goes down one of two lanes. The *log lane* commits it; the sender hears `committed`. The *queue lane* puts it into the durable
//! queue; the sender hears `accepted`, and `committed` once the [`ingest`] of some node has brought it into the log. Each lane takes what
//! the one before could not, in the order that the configuration says. [`Outboxes`] knows what may be acknowledged, so that neither
//! the switch between the lanes nor two nodes that disagree about the database can reorder, double or lose anything. This room
//! decides nothing about what may be said.

mod held;
mod ingest;
mod lanes;
mod outboxes;
mod settle;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};
use uuid::Uuid;

use self::outboxes::Outboxes;
use crate::{
    bus::queue::Queue,
    event::Event,
    health::Health,
    metric::Metric,
    protocol::Code,
    reach::Reach,
    store::{Answer, Append, SharedStore, outbox_key},
    trace::Traces,
};

/// How a send ends: as the log says, or why it was not taken.
pub type Fate = Result<Answer, Code>;

/// What the sender is told first.
#[derive(Debug)]
pub enum Taken {
    /// Its fate.
    Done(Fate),
    /// It is durable. Its fate comes later, or never to this node: then it is found by its number.
    Accepted(Awaited),
}

/// The fate of an accepted send, to come.
#[derive(Debug)]
pub struct Awaited(oneshot::Receiver<Fate>);

impl From<oneshot::Receiver<Fate>> for Awaited {
    fn from(fate: oneshot::Receiver<Fate>) -> Self {
        Awaited(fate)
    }
}

impl Awaited {
    /// Waits for it. `None` when this node ends before it is known.
    pub async fn fate(self) -> Option<Fate> {
        self.0.await.ok()
    }
}

/// Which lane comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The log, and the queue while the database is away.
    Log,
    /// The queue, and the log while the queue is away.
    Queue,
}

/// Bounds of the intake.
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// Sends that go down a lane together.
    pub batch_max: usize,
    /// Sends that wait for a lane.
    pub queue_max: usize,
    /// Accepted sends whose fate this node waits for.
    pub accepted_max: usize,
    /// How long a send out of the queue waits for the one that it follows on.
    pub gap_patience: Duration,
}

/// Publishes what entered the logs, right after the commit and before anyone is told of it.
pub type Publish = Arc<dyn Fn(Vec<Event>) + Send + Sync>;

/// What an intake is made of.
pub struct Parts {
    /// Room logs.
    pub store: SharedStore,
    /// The durable queue. Without one, a send waits a moment for the database and is then refused.
    pub queue: Option<Queue>,
    /// Whether the store is worth asking.
    pub health: Arc<Health>,
    /// See [`Publish`].
    pub publish: Publish,
    /// Follows some of the sends.
    pub traces: Traces,
    /// See [`First`].
    pub first: First,
    /// Bounds.
    pub limits: IntakeLimits,
}

/// What all tasks of the intake share.
struct Shared {
    parts: Parts,
    outboxes: Mutex<Outboxes<oneshot::Sender<Fate>>>,
    /// Told when a send begins to wait, or when waiting ones may have been committed.
    stirred: Notify,
}

/// A handle to the intake. The task that takes sends ends when all handles are gone and everything was answered.
#[derive(Clone)]
pub struct Intake {
    sends: mpsc::Sender<(Append, oneshot::Sender<Taken>)>,
    shared: Arc<Shared>,
}

impl Intake {
    /// Starts the task that takes sends.
    pub fn spawn(parts: Parts) -> (Intake, JoinHandle<()>) {
        let (sends, receiver) = mpsc::channel(parts.limits.queue_max);
        let shared = Arc::new(Shared { parts, outboxes: Mutex::default(), stirred: Notify::new() });
        let task = tokio::spawn(lanes::run(shared.clone(), receiver));
        (Intake { sends, shared }, task)
    }

    /// Brings what waits in the queue into the log and tells senders of it, for as long as the node lives.
    pub fn background(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = self.shared.clone();
        async move {
            tokio::join!(ingest::run(&shared), settle::run(&shared));
        }
    }

    /// Takes a send in; what became of it comes through the receiver.
    ///
    /// # Errors
    /// `overloaded` when too many wait.
    pub fn append(&self, append: Append) -> Result<oneshot::Receiver<Taken>, Code> {
        let (reply, taken) = oneshot::channel();
        self.sends.try_send((append, reply)).map_err(|_| Code::Overloaded)?;
        Ok(taken)
    }

    /// A connection begins to use an outbox, until what is returned is dropped.
    pub fn open(&self, owner: &str, outbox: Uuid) -> OpenOutbox {
        let key = outbox_key(owner, outbox);
        self.shared.outboxes.lock().open(key);
        OpenOutbox { shared: self.shared.clone(), key }
    }

    /// The keys of the outboxes that connections use.
    pub fn open_outboxes(&self) -> Vec<Uuid> {
        self.shared.outboxes.lock().open_keys()
    }

    /// Hears that events came from another node: accepted sends may be among them.
    pub fn stir(&self) {
        self.shared.stirred.notify_one();
    }

    /// Sends that wait for the next batch.
    pub fn queued(&self) -> usize {
        self.sends.max_capacity() - self.sends.capacity()
    }

    /// Accepted sends whose fate this node waits for.
    pub fn accepted(&self) -> usize {
        self.shared.outboxes.lock().count()
    }

    /// The queue, where there is one, and whether it can be reached.
    pub fn queue(&self) -> Option<&Reach> {
        self.shared.parts.queue.as_ref().map(Queue::reach)
    }
}

/// An outbox that a connection uses.
pub struct OpenOutbox {
    shared: Arc<Shared>,
    key: Uuid,
}

impl OpenOutbox {
    /// The log says that this was the last number it took.
    pub fn found(&self, last: i64) {
        self.shared.outboxes.lock().found(self.key, last);
    }
}

impl Drop for OpenOutbox {
    fn drop(&mut self) {
        self.shared.outboxes.lock().close(self.key);
    }
}

impl Shared {
    fn forget_idle(&self) {
        let mut outboxes = self.outboxes.lock();
        outboxes.forget_idle();
        Metric::SendsWaiting.set(outboxes.count() as f64);
    }

    /// Takes down that the log took a send, by whichever node, and tells whoever waits for it of its fate, if it is its turn.
    fn settle(&self, key: Uuid, n: i64, fate: &Fate) {
        // Under the lock, so that fates reach a connection in order.
        let mut outboxes = self.outboxes.lock();
        if fate.as_ref().is_ok_and(|answer| !matches!(answer, Answer::Gap { .. })) {
            outboxes.took(key, n);
        }
        for whoever in outboxes.settle(key, n).into_iter().flatten() {
            let _ = whoever.send(fate.clone());
        }
        Metric::SendsWaiting.set(outboxes.count() as f64);
    }
}

//! Fan-out beside whoever brings events: while one batch goes out to members, the next one is committed or received.
//!
//! Rooms are divided among as many tasks as there are cores, so that each room stays in order. A task takes all that has gathered: under
//! load what belongs to one room goes to each member in one write. Nobody waits: what a task has no room for is read from the store when
//! its turn comes.

use std::sync::Weak;

use tokio::sync::mpsc;

use super::Hub;
use crate::{
    bus::{Shard, shard},
    event::Event,
};

/// Events that may wait for one task.
const WAITING_MAX: usize = 8_192;

/// The ways to the tasks, which end with the hub.
pub(super) struct FanOut {
    queues: Vec<mpsc::Sender<Event>>,
}

/// Where the tasks take events from.
pub(super) type Gathered = Vec<mpsc::Receiver<Event>>;

impl FanOut {
    /// One way for each core.
    pub(super) fn new() -> (FanOut, Gathered) {
        let tasks = std::thread::available_parallelism().map_or(1, usize::from);
        let (queues, gathered) = (0..tasks).map(|_| mpsc::channel(WAITING_MAX)).unzip();
        (FanOut { queues }, gathered)
    }

    fn queue(&self, shard: Shard) -> &mpsc::Sender<Event> {
        &self.queues[usize::from(shard) % self.queues.len()]
    }

    /// Brings an event.
    ///
    /// # Errors
    /// The event when there is no room for it.
    pub(super) fn bring(&self, event: Event) -> Result<(), Event> {
        self.queue(shard(event.room)).try_send(event).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Whether events of this shard may be on their way.
    pub(super) fn is_behind(&self, shard: Shard) -> bool {
        let queue = self.queue(shard);
        queue.capacity() < queue.max_capacity()
    }
}

/// Starts the tasks.
pub(super) fn start(hub: &Weak<Hub>, gathered: Gathered) {
    for queue in gathered {
        tokio::spawn(run(hub.clone(), queue));
    }
}

async fn run(hub: Weak<Hub>, mut queue: mpsc::Receiver<Event>) {
    let mut gathered = Vec::new();
    while queue.recv_many(&mut gathered, WAITING_MAX).await > 0 {
        let Some(hub) = hub.upgrade() else { return };
        hub.deliver_now(gathered.drain(..)).await;
    }
}

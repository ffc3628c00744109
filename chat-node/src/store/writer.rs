//! The writer: sends that arrive together are committed together.
//!
//! One task owns the order in which this node's sends reach the log, so an outbox is never reordered. While one batch commits, the
//! next one gathers: the batch grows with the load and waits for no timer. A commit whose answer was lost is repeated with the same
//! keys, and so neither acknowledged too early nor failed wrongly.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Answer, Append, Content, SharedStore, StoreError};
use crate::{event::Event, protocol::Code};

/// How long a batch is repeated while the database is away. Then its sends are answered as retryable.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between repetitions.
const RETRY: Duration = Duration::from_millis(100);

/// What one batch put into the logs, in order, already encoded.
pub type Committed = Vec<Event>;

type Reply = oneshot::Sender<Result<Answer, Code>>;

/// A handle to the writer task. The task ends when all handles are gone and everything was answered.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<(Append, Reply)>,
}

impl Writer {
    /// Starts the task. `publish` is given each batch's new events right after the commit, before its sends are answered.
    pub fn spawn(
        store: SharedStore,
        batch_max: usize,
        queue_max: usize,
        publish: Arc<dyn Fn(Committed) + Send + Sync>,
    ) -> (Writer, tokio::task::JoinHandle<()>) {
        let (queue, receiver) = mpsc::channel(queue_max);
        let task = tokio::spawn(run(store, batch_max, receiver, publish));
        (Writer { queue }, task)
    }

    /// Puts a send into the queue; the answer comes through the receiver.
    ///
    /// # Errors
    /// `overloaded` when the queue is full.
    pub fn append(&self, append: Append) -> Result<oneshot::Receiver<Result<Answer, Code>>, Code> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send((append, reply)).map_err(|_| Code::Overloaded)?;
        Ok(answer)
    }
}

async fn run(
    store: SharedStore,
    batch_max: usize,
    mut queue: mpsc::Receiver<(Append, Reply)>,
    publish: Arc<dyn Fn(Committed) + Send + Sync>,
) {
    let mut waiting = Vec::with_capacity(batch_max);
    while queue.recv_many(&mut waiting, batch_max).await > 0 {
        let (batch, replies): (Vec<Append>, Vec<Reply>) = waiting.drain(..).unzip();
        metrics::histogram!("chat_commit_batch_sends").record(batch.len() as f64);
        let answers = commit(&store, batch).await;
        let events: Committed = answers.iter().filter_map(new_event).collect();
        if !events.is_empty() {
            publish(events);
        }
        for (reply, answer) in replies.into_iter().zip(answers) {
            // A connection that is gone repeats the send when it is back.
            let _ = reply.send(answer);
        }
    }
}

fn new_event(answer: &Result<Answer, Code>) -> Option<Event> {
    match answer {
        Ok(Answer::Committed { event, new: true }) => Some(event.encode()),
        _ => None,
    }
}

/// Commits a batch, whatever it takes: repeats it while the database is away, and takes it apart when one of its sends is
/// poison, so that this one alone is refused.
async fn commit(store: &SharedStore, mut batch: Vec<Append>) -> Vec<Result<Answer, Code>> {
    let deadline = Instant::now() + PATIENCE;
    let mut answers = Vec::with_capacity(batch.len());
    // Parts still to commit are batch[answers.len()..]; `size` of them are tried at once.
    let mut size = batch.len();
    while answers.len() < batch.len() {
        let from = answers.len();
        let to = (from + size).min(batch.len());
        match store.append(&batch[from..to]).await {
            Ok(done) => {
                answers.extend(done.into_iter().map(Ok));
                size = batch.len();
            }
            Err(StoreError::Poisoned(_)) if to - from > 1 => size = (to - from) / 2,
            Err(error @ StoreError::Poisoned(_)) => {
                // Refuse it through the log, so that its number is used up; a second refusal is the store's fault.
                if batch[from].content == Content::Refused(Code::BadText) {
                    tracing::error!(%error, "a refusal could not be stored");
                    answers.push(Err(Code::Internal));
                } else {
                    batch[from].content = Content::Refused(Code::BadText);
                }
                size = 1;
            }
            Err(error) if Instant::now() < deadline => {
                tracing::warn!(%error, sends = to - from, "a commit is repeated");
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                tracing::error!(%error, sends = batch.len() - from, "sends could not be committed");
                answers.resize(batch.len(), Err(error.code()));
            }
        }
    }
    answers
}

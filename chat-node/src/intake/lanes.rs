//! The two lanes: one task takes the sends of this node in order, and lets each lane take what the one before could not.
//!
//! While one batch is on its way the next one gathers: a batch grows with the load and waits for no timer. A send whose commit was asked
//! for and not answered goes on under the same key, so it is neither acknowledged too early nor failed wrongly.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    Fate, First, Shared, Taken,
    outboxes::{Verdict, acknowledged},
    settle,
};
use crate::{
    bus::queue::{Message, partition},
    event::{Event, EventBody},
    metric::Metric,
    protocol::Code,
    store::{Answer, Append, Content, commit, outbox_key},
};

/// How long sends are kept that neither lane takes, before they are refused as retryable: long enough for a connection that broke to be
/// made anew, short for whoever waits behind them.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time between attempts.
const RETRY: Duration = Duration::from_millis(50);

/// A send on its way.
struct Send {
    append: Append,
    key: Uuid,
    reply: oneshot::Sender<Taken>,
    /// What it is told if no lane takes it.
    refusal: Fate,
    /// It has to go behind sends that wait in the queue: as long as that does not take it, there is nothing to wait for.
    is_behind: bool,
}

impl Send {
    fn answer(self, taken: Taken) {
        // A connection that is gone sends again when it is back.
        let _ = self.reply.send(taken);
    }
}

pub(super) async fn run(shared: Arc<Shared>, mut sends: mpsc::Receiver<(Append, oneshot::Sender<Taken>)>) {
    let batch_max = shared.parts.limits.batch_max;
    let mut waiting = Vec::with_capacity(batch_max);
    while sends.recv_many(&mut waiting, batch_max).await > 0 {
        let batch = waiting.drain(..).map(|(append, reply)| {
            let key = outbox_key(&append.sender, append.outbox);
            Send { append, key, reply, refusal: Err(Code::Unavailable), is_behind: false }
        });
        take(&shared, batch.collect()).await;
    }
}

async fn take(shared: &Shared, mut sends: Vec<Send>) {
    let deadline = Instant::now() + PATIENCE;
    // With both away since before, nobody waits in vain.
    let hopeful = shared.parts.health.is_store_up() || queue_is_up(shared);
    loop {
        // What an earlier attempt found may have passed: whatever is told was found by the last one.
        sends.iter_mut().for_each(|send| (send.refusal, send.is_behind) = (Err(Code::Unavailable), false));
        sends = match shared.parts.first {
            First::Log => queue_lane(shared, log_lane(shared, sends).await).await,
            First::Queue => log_lane(shared, queue_lane(shared, sends).await).await,
        };
        let is_final = |send: &Send| send.is_behind || send.refusal != Err(Code::Unavailable);
        if sends.iter().all(is_final) || !hopeful || Instant::now() >= deadline {
            return sends.into_iter().for_each(|send| {
                let refusal = send.refusal.clone();
                send.answer(Taken::Done(refusal));
            });
        }
        sleep(RETRY).await;
    }
}

fn queue_is_up(shared: &Shared) -> bool {
    shared.parts.queue.as_ref().is_some_and(|queue| queue.is_up())
}

/// Commits what it can. Gives back what the database did not take, perhaps or surely, and what has to go behind sends that wait.
async fn log_lane(shared: &Shared, sends: Vec<Send>) -> Vec<Send> {
    if sends.is_empty() || !shared.parts.health.is_store_up() {
        return sends;
    }
    let (answered, mut rest) = ask_log(shared, sends).await;
    let (mut done, mut overtaken) = (Vec::new(), Vec::new());
    for (mut send, answer) in answered {
        match answer {
            Ok(Answer::Gap { .. }) if is_behind(shared, &send) => {
                send.is_behind = true;
                rest.push(send);
            }
            Ok(Answer::Gap { expected }) if shared.outboxes.lock().has_taken(send.key, expected) => {
                overtaken.push(send)
            }
            _ => done.push((send, answer)),
        }
    }
    if !overtaken.is_empty() {
        // What was missing has come into the log since it was asked, and whoever sent it may know: a gap is only told if it is there still.
        let (answered, unanswered) = ask_log(shared, overtaken).await;
        done.extend(answered);
        rest.extend(unanswered);
    }
    tell(shared, done).await;
    // Those of an outbox in its order again.
    rest.sort_by_key(|send| send.append.n);
    rest
}

/// Commits what it can, and publishes it. Gives the answers, and what has none: it may be in the log or not.
async fn ask_log(shared: &Shared, mut sends: Vec<Send>) -> (Vec<(Send, Fate)>, Vec<Send>) {
    Metric::CommitBatch.observe(sends.len() as f64);
    let mut batch: Vec<Append> = sends.iter().map(|send| send.append.clone()).collect();
    let began = shared.parts.traces.now();
    let (answers, failure) = commit(&*shared.parts.store, &mut batch).await;
    if let Some(error) = failure {
        tracing::warn!(%error, sends = sends.len() - answers.len(), "a commit was not answered");
        shared.parts.health.lost_store();
    }
    publish(shared, began, &answers);
    let unanswered = sends.split_off(answers.len());
    (sends.into_iter().zip(answers).collect(), unanswered)
}

fn is_behind(shared: &Shared, send: &Send) -> bool {
    shared.outboxes.lock().is_behind(send.key, send.append.n)
}

/// Answers sends that the log took, each after those before it in its outbox.
async fn tell(shared: &Shared, done: Vec<(Send, Fate)>) {
    let behind: HashSet<Uuid> =
        done.iter().filter(|(send, _)| is_behind(shared, send)).map(|(send, _)| send.key).collect();
    if !behind.is_empty() {
        // The log takes numbers in order, so it knows the fate of what waits here before them.
        settle::look_up_of(shared, &behind).await;
    }
    for (send, fate) in done {
        let takes_number = matches!(fate, Ok(Answer::Committed { .. } | Answer::Refused(_)));
        let n = send.append.n;
        if takes_number && is_behind(shared, &send) {
            // The database fell away again in between: it is durable, and its turn comes.
            accept(shared, send);
            continue;
        }
        if takes_number {
            shared.settle(send.key, n, &fate);
        }
        send.answer(Taken::Done(fate));
    }
}

/// Puts what it can into the queue. Gives back what the queue did not take.
async fn queue_lane(shared: &Shared, sends: Vec<Send>) -> Vec<Send> {
    let Some(queue) = shared.parts.queue.as_ref().filter(|queue| queue.is_up()) else { return sends };
    let keys: Vec<(Uuid, i64)> = sends.iter().map(|send| (send.key, send.append.n)).collect();
    let (verdicts, room) = {
        let outboxes = shared.outboxes.lock();
        (outboxes.verdicts(&keys), shared.parts.limits.accepted_max.saturating_sub(outboxes.count()))
    };
    let (mut going, mut rest) = (Vec::new(), Vec::new());
    for (mut send, verdict) in sends.into_iter().zip(verdicts) {
        match verdict {
            Verdict::Goes if going.len() < room => going.push(send),
            Verdict::Goes => {
                send.refusal = Err(Code::Overloaded);
                rest.push(send);
            }
            Verdict::Gap { expected } => {
                send.refusal = Ok(Answer::Gap { expected });
                rest.push(send);
            }
            Verdict::Unknown => rest.push(send),
        }
    }
    if going.is_empty() {
        return rest;
    }
    let message = |send: &Send| Message { partition: partition(send.key), payload: encode(&send.append) };
    let began = shared.parts.traces.now();
    let durable = queue.publish(going.iter().map(message).collect()).await;
    let in_queue = going.iter().zip(&durable).filter(|(_, durable)| **durable);
    shared.parts.traces.queued(began, in_queue.map(|(send, _)| send.append.event));
    let keys: Vec<Uuid> = going.iter().map(|send| send.key).collect();
    for (send, acknowledged) in going.into_iter().zip(acknowledged(&keys, &durable)) {
        match acknowledged {
            true => accept(shared, send),
            false => rest.push(send),
        }
    }
    rest
}

fn encode(append: &Append) -> Vec<u8> {
    serde_json::to_vec(append).expect("a send has string keys and encodes")
}

/// Tells that a send is durable, and waits for its fate. That of one which breaks a rule is for the log to tell as well: it may have taken the
/// number already, from another node, and with another content. Only to a request, which nothing can follow, it is told at once.
fn accept(shared: &Shared, send: Send) {
    let key = send.append.key();
    let mut outboxes = shared.outboxes.lock();
    match send.append.content {
        Content::Refused(code) if !outboxes.is_open(send.key) => {
            outboxes.wait(send.key, &key, None);
            send.answer(Taken::Done(Ok(Answer::Refused(code))));
        }
        _ => {
            let (whoever, fate) = oneshot::channel();
            outboxes.wait(send.key, &key, Some(whoever));
            Metric::SendsAccepted.count();
            send.answer(Taken::Accepted(fate.into()));
        }
    }
    drop(outboxes);
    shared.stirred.notify_one();
}

/// Publishes what is new in the logs; the commit began then.
pub(super) fn publish(shared: &Shared, began: Option<SystemTime>, answers: &[Fate]) {
    fn new(answer: &Fate) -> Option<&EventBody> {
        match answer {
            Ok(Answer::Committed { event, new: true }) => Some(event),
            _ => None,
        }
    }
    shared.parts.traces.committed(began, answers.len(), answers.iter().filter_map(new));
    let events: Vec<Event> = answers.iter().filter_map(new).map(EventBody::encode).collect();
    if !events.is_empty() {
        (shared.parts.publish)(events);
    }
}

//! Brings what waits in the queue into the log, in order, whoever put it there.
//!
//! A send that comes ahead of its turn is held. A message is let go of only when its fate is in the database: as an event, as a refusal, or
//! as a dead letter. While the database is away nothing is consumed, so nothing is rejected in circles.

use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::{
    Fate, Shared,
    held::{Held, Queued},
    lanes::publish,
};
use crate::{
    bus::queue::{Broken, Delivery, Queue},
    metric::Metric,
    store::{Answer, Append, Content, DeadLetter, StoreError, answered, commit, outbox_key},
};

/// Time between attempts to consume.
const RETRY: Duration = Duration::from_millis(500);

/// Why consuming ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the queue is away: {0}")]
    Queue(#[from] Broken),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the database is away")]
    StoreAway,
}

/// Consumes whenever both sides are there.
pub(super) async fn run(shared: &Shared) {
    let Some(queue) = &shared.parts.queue else { return };
    loop {
        shared.parts.health.store_is_up().await;
        let ended = consume(shared, queue).await;
        tracing::info!(reason = %ended, "queued sends are not consumed now");
        sleep(RETRY).await;
    }
}

/// Consumes until one side falls away.
async fn consume(shared: &Shared, queue: &Queue) -> Ended {
    let mut deliveries = match queue.consume().await {
        Ok(deliveries) => deliveries,
        Err(broken) => return broken.into(),
    };
    let mut held = Held::default();
    let ended = loop {
        let batch = tokio::select! {
            batch = deliveries.next(shared.parts.limits.batch_max) => batch,
            () = over(held.deadline()) => Ok(Vec::new()),
            () = shared.parts.health.store_is_down() => break Ended::StoreAway,
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(broken) => break broken.into(),
        };
        if let Err(error) = take(shared, &mut held, batch).await {
            break error.into();
        }
        if let Err(broken) = deliveries.let_go(&held.let_go()).await {
            break broken.into();
        }
    };
    if let Ended::Store(_) = ended {
        shared.parts.health.lost_store();
    }
    deliveries.close().await;
    ended
}

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Takes a batch, and what was held and follows on it. What is not held is safe in the database then.
async fn take(shared: &Shared, held: &mut Held, batch: Vec<Delivery>) -> Result<(), StoreError> {
    let until = Instant::now() + shared.parts.limits.gap_patience;
    let (mut came, mut unreadable, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
    for Delivery { payload, receipt } in batch {
        match serde_json::from_slice::<Append>(&payload) {
            Ok(append) => {
                let key = outbox_key(&append.sender, append.outbox);
                came.push(Queued { append, key, receipt, until });
            }
            Err(_) => {
                unreadable.push(DeadLetter::unreadable(&payload));
                receipts.push(receipt);
            }
        }
    }
    bury(shared, &unreadable).await?;
    receipts.into_iter().for_each(|receipt| held.is_safe(receipt));
    let went_on = came.iter().map(|queued| queued.key).collect();
    write(shared, held, came).await?;
    let due = held.due(&went_on, Instant::now());
    write(shared, held, due).await
}

/// Writes sends, and holds those that came ahead of their turn.
async fn write(shared: &Shared, held: &mut Held, sends: Vec<Queued>) -> Result<(), StoreError> {
    if sends.is_empty() {
        return Ok(());
    }
    let mut appends: Vec<Append> = sends.iter().map(|queued| queued.append.clone()).collect();
    let began = shared.parts.traces.now();
    let (fates, failure) = commit(&*shared.parts.store, &mut appends).await;
    publish(shared, began, &fates);
    let now = Instant::now();
    let mut known = Vec::with_capacity(fates.len());
    for (queued, fate) in sends.into_iter().zip(fates) {
        match fate {
            Ok(Answer::Gap { .. }) => known.extend(held.hold(queued, now).map(|queued| (queued, fate))),
            _ => known.push((queued, fate)),
        }
    }
    let letters: Vec<_> = known.iter().filter_map(|(queued, fate)| dead(&queued.append, fate)).collect();
    bury(shared, &letters).await?;
    for (Queued { append, key, receipt, .. }, fate) in known {
        shared.settle(key, append.n, &fate);
        held.is_safe(receipt);
    }
    failure.map_or(Ok(()), Err)
}

/// Keeps what cannot be written.
async fn bury(shared: &Shared, letters: &[DeadLetter]) -> Result<(), StoreError> {
    answered(shared.parts.store.bury(letters)).await?;
    for letter in letters {
        Metric::DeadLetters.count_for(letter.reason.as_str());
        tracing::error!(reason = letter.reason.as_str(), "a queued send cannot be written: see the table dead_letters");
    }
    Ok(())
}

/// A send that was acknowledged, perhaps, and is not in the log.
fn dead(send: &Append, fate: &Fate) -> Option<DeadLetter> {
    match (&send.content, fate) {
        (Content::Refused(_), _) | (_, Ok(Answer::Committed { .. } | Answer::Forgotten)) => None,
        (_, Ok(Answer::Refused(code)) | Err(code)) => Some(DeadLetter::refused(send, *code)),
        (_, Ok(Answer::Gap { .. })) => Some(DeadLetter::gap(send)),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        event::{EventBody, Kind},
        protocol::Code,
        store::DeadReason,
    };

    #[test]
    fn only_a_text_that_is_not_in_the_log_is_a_dead_letter() {
        let send = |content| Append {
            sender: "alice".into(),
            outbox: Uuid::from_u128(1),
            n: 2,
            room: Uuid::from_u128(3),
            content,
            event: Uuid::from_u128(4),
            time: 5,
        };
        let (text, refusal) = (send(Content::text("hi")), send(Content::Refused(Code::EmptyText)));
        let event = EventBody {
            room: text.room,
            epoch: 1,
            seq: 1,
            id: text.event,
            kind: Kind::Message,
            sender: "alice".into(),
            time: 5,
            text: None,
            details: None,
        };
        let fates = [
            (Ok(Answer::Committed { event, new: true }), None, None),
            (Ok(Answer::Forgotten), None, None),
            (Ok(Answer::Refused(Code::UnknownRoom)), Some(DeadReason::Refused(Code::UnknownRoom)), None),
            (Ok(Answer::Gap { expected: 1 }), Some(DeadReason::Gap), None),
            (Err(Code::Internal), Some(DeadReason::Refused(Code::Internal)), None),
        ];
        for (fate, of_text, of_refusal) in fates {
            assert_eq!(dead(&text, &fate).map(|letter| letter.reason), of_text, "{fate:?}");
            assert_eq!(dead(&refusal, &fate).map(|letter| letter.reason), of_refusal, "{fate:?}");
        }
    }
}

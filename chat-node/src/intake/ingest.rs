//! Brings what waits in the queue into the log, in order, whoever put it there.
//!
//! A message is let go of only when its fate is in the database: as an event, as a refusal, or as a dead letter. While the database is
//! away nothing is consumed, so nothing is rejected in circles.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use super::{Fate, Shared, lanes::publish};
use crate::{
    bus::queue::{Broken, Delivery, Queue, Receipt},
    metric::Metric,
    store::{Answer, Append, Content, DeadLetter, StoreError, commit, outbox_key},
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
    let ended = loop {
        let batch = tokio::select! {
            batch = deliveries.next(shared.parts.limits.batch_max) => batch,
            () = shared.parts.health.store_is_down() => break Ended::StoreAway,
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(broken) => break broken.into(),
        };
        let receipts: Vec<Receipt> = batch.iter().map(|delivery| delivery.receipt).collect();
        if let Err(error) = write(shared, batch).await {
            break error.into();
        }
        if let Err(broken) = deliveries.let_go(&receipts).await {
            break broken.into();
        }
    };
    if let Ended::Store(_) = ended {
        shared.parts.health.lost_store();
    }
    deliveries.close().await;
    ended
}

/// Writes a batch; it is safe in the database then.
async fn write(shared: &Shared, batch: Vec<Delivery>) -> Result<(), StoreError> {
    let (mut appends, mut letters) = (Vec::new(), Vec::new());
    for Delivery { payload, .. } in batch {
        match serde_json::from_slice::<Append>(&payload) {
            Ok(append) => appends.push(append),
            Err(_) => letters.push(DeadLetter::unreadable(&payload)),
        }
    }
    let sends = appends.clone();
    let began = shared.parts.traces.now();
    let (fates, failure) = commit(&*shared.parts.store, &mut appends).await;
    publish(shared, began, &fates);
    letters.extend(sends.iter().zip(&fates).filter_map(|(send, fate)| dead(send, fate)));
    shared.parts.store.bury(&letters).await?;
    for letter in &letters {
        Metric::DeadLetters.count_for(letter.reason.as_str());
        tracing::error!(reason = letter.reason.as_str(), "a queued send cannot be written: see the table dead_letters");
    }
    for (send, fate) in sends.iter().zip(&fates) {
        let key: Uuid = outbox_key(&send.sender, send.outbox);
        if !matches!(fate, Ok(Answer::Gap { .. })) {
            shared.outboxes.lock().took(key, send.n);
        }
        shared.settle(key, send.n, fate);
    }
    failure.map_or(Ok(()), Err)
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

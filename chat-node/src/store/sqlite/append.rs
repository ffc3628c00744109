//! Group commit: the sends of a batch in one transaction, one fsync.

use std::collections::HashSet;

use uuid::Uuid;

use super::rooms::SqliteTransaction;
use crate::{
    event::{EventBody, Kind},
    store::{
        Answer, Append, StoreError, outbox_keys,
        plan::{Observed, RESULTS_TRIMMED_MAX, RoomState, plan, replies},
        rooms::RoomTransaction,
        rows::{self, OutcomeRow, outcome_columns, outcome_columns_of},
        statements::LifeTransaction,
    },
};

/// Plans and writes within a transaction.
pub(super) async fn append(
    tx: &mut SqliteTransaction,
    batch: &[Append],
    results_kept: i64,
) -> Result<Vec<Answer>, StoreError> {
    let keys = outbox_keys(batch);
    let observed = observe(tx, batch, &keys).await?;
    let plan = plan(batch, &keys, observed);
    for event in &plan.events {
        tx.log(event).await?;
    }
    for (member, room, seq) in plan.events.iter().flat_map(EventBody::mentions) {
        let mention =
            sqlx::query("INSERT INTO mentions (member, room, seq) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
        mention.bind(member).bind(room).bind(seq).execute(&mut *tx.0).await?;
    }
    let now_ms = batch.iter().map(|append| append.time).max().unwrap_or(0);
    for (outbox, last) in &plan.lasts {
        sqlx::query(
            "INSERT INTO outboxes (key, last, touched_ms) VALUES ($1, $2, $3)
             ON CONFLICT (key) DO UPDATE SET last = excluded.last, touched_ms = MAX(touched_ms, excluded.touched_ms)",
        )
        .bind(*outbox)
        .bind(*last)
        .bind(now_ms)
        .execute(&mut *tx.0)
        .await?;
    }
    for (outbox, n, outcome) in &plan.outcomes {
        let (refusal, room, epoch, seq, event, time) = outcome_columns_of(outcome);
        sqlx::query(
            "INSERT INTO outbox_results (outbox, n, refusal, room, epoch, seq, event, time_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(*outbox)
        .bind(*n)
        .bind(refusal)
        .bind(room)
        .bind(epoch)
        .bind(seq)
        .bind(event)
        .bind(time)
        .execute(&mut *tx.0)
        .await?;
    }
    for (outbox, too_old) in plan.too_old(results_kept) {
        let trim = sqlx::query("DELETE FROM outbox_results WHERE outbox = $1 AND n <= $2 AND n > $2 - $3");
        trim.bind(outbox).bind(too_old).bind(RESULTS_TRIMMED_MAX).execute(&mut *tx.0).await?;
    }
    Ok(plan.answers)
}

async fn observe(tx: &mut SqliteTransaction, batch: &[Append], keys: &[Uuid]) -> Result<Observed, StoreError> {
    let mut observed = Observed::default();
    for room in batch.iter().map(|append| append.room).collect::<HashSet<Uuid>>() {
        let query = sqlx::query_as("SELECT epoch, head FROM rooms WHERE id = $1").bind(room);
        let state: Option<(i32, i64)> = query.fetch_optional(&mut *tx.0).await?;
        observed.rooms.extend(state.map(|(epoch, head)| (room, RoomState { epoch, head })));
    }
    for (append, &outbox) in batch.iter().zip(keys) {
        let last = match observed.outboxes.get(&outbox) {
            Some(last) => *last,
            None => {
                let query = sqlx::query_scalar("SELECT last FROM outboxes WHERE key = $1").bind(outbox);
                let last = query.fetch_optional(&mut *tx.0).await?.unwrap_or(0);
                observed.outboxes.insert(outbox, last);
                last
            }
        };
        if append.n <= last {
            let row: Option<OutcomeRow> = sqlx::query_as(concat!(
                "SELECT ",
                outcome_columns!(),
                " FROM outbox_results r WHERE r.outbox = $1 AND r.n = $2"
            ))
            .bind(outbox)
            .bind(append.n)
            .fetch_optional(&mut *tx.0)
            .await?;
            observed.outcomes.extend(row.and_then(rows::outcome));
        }
    }
    for (room, reply) in replies(batch) {
        let found = tx.event(room, reply.seq).await?;
        let is_it = |event: &EventBody| event.reference() == reply && event.kind == Kind::Message;
        observed.replied.extend(found.filter(is_it).map(|event| (room, event.reference())));
    }
    Ok(observed)
}

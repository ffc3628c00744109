//! Group commit: the sends of a batch in one transaction.

use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::hints;
use crate::{
    event::{EventBody, Kind, Reference, Seq},
    store::{
        Answer, Append, StoreError, outbox_keys,
        plan::{Observed, Plan, RESULTS_TRIMMED_MAX, RoomState, plan, replies},
        rows::{self, OutcomeRow, outcome_columns, outcome_columns_of},
    },
};

/// Locks, plans, writes and commits.
pub(super) async fn append(pool: &PgPool, batch: &[Append], results_kept: i64) -> Result<Vec<Answer>, StoreError> {
    let mut tx = pool.begin().await?;
    let keys = outbox_keys(batch);
    let observed = observe(&mut tx, batch, &keys).await?;
    let plan = plan(batch, &keys, observed);
    if !plan.outcomes.is_empty() {
        write(&mut tx, &plan, batch, results_kept).await?;
    }
    tx.commit().await?;
    Ok(plan.answers)
}

/// Reads what the plan rests on, under locks: rooms first, outboxes second, each in id order.
async fn observe(
    tx: &mut Transaction<'static, Postgres>,
    batch: &[Append],
    keys: &[Uuid],
) -> Result<Observed, StoreError> {
    let rooms: Vec<(Uuid, i32, i64)> =
        sqlx::query_as("SELECT id, epoch, head FROM rooms WHERE id = ANY($1) ORDER BY id FOR UPDATE")
            .bind(distinct(batch.iter().map(|append| append.room)))
            .fetch_all(&mut **tx)
            .await?;
    let outboxes: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT key, last FROM outboxes WHERE key = ANY($1) ORDER BY key FOR UPDATE")
            .bind(distinct(keys.iter().copied()))
            .fetch_all(&mut **tx)
            .await?;
    let mut observed = Observed {
        rooms: rooms.into_iter().map(|(id, epoch, head)| (id, RoomState { epoch, head })).collect(),
        outboxes: outboxes.into_iter().collect(),
        ..Observed::default()
    };
    let repeated: Vec<(Uuid, i64)> = batch
        .iter()
        .zip(keys)
        .map(|(append, outbox)| (*outbox, append.n))
        .filter(|(outbox, n)| observed.outboxes.get(outbox).is_some_and(|last| n <= last))
        .collect();
    if !repeated.is_empty() {
        let (outboxes, numbers): (Vec<Uuid>, Vec<i64>) = repeated.into_iter().unzip();
        let found: Vec<OutcomeRow> = sqlx::query_as(concat!(
            "SELECT ",
            outcome_columns!(),
            " FROM outbox_results r JOIN UNNEST($1::uuid[], $2::bigint[]) AS asked (outbox, n) USING (outbox, n)"
        ))
        .bind(outboxes)
        .bind(numbers)
        .fetch_all(&mut **tx)
        .await?;
        observed.outcomes = found.into_iter().filter_map(rows::outcome).collect();
    }
    let (rooms, replies): (Vec<Uuid>, Vec<Reference>) = replies(batch).into_iter().unzip();
    if !replies.is_empty() {
        let found: Vec<(Uuid, Seq, Uuid)> = sqlx::query_as(
            "SELECT e.room, e.seq, e.id FROM events e
             JOIN UNNEST($1::uuid[], $2::bigint[], $3::uuid[]) AS asked (room, seq, id) USING (room, seq, id) WHERE e.kind = $4",
        )
        .bind(rooms)
        .bind(replies.iter().map(|reply| reply.seq).collect::<Vec<_>>())
        .bind(replies.iter().map(|reply| reply.event).collect::<Vec<_>>())
        .bind(Kind::Message as i16)
        .fetch_all(&mut **tx)
        .await?;
        observed.replied = found.into_iter().map(|(room, seq, event)| (room, Reference { seq, event })).collect();
    }
    Ok(observed)
}

/// Writes a plan in one statement, one round trip, and announces the new heads with it.
async fn write(
    tx: &mut Transaction<'static, Postgres>,
    plan: &Plan,
    batch: &[Append],
    results_kept: i64,
) -> Result<(), StoreError> {
    let now_ms = batch.iter().map(|append| append.time).max().unwrap_or(0);
    let events = &plan.events;
    let (rooms, heads): (Vec<Uuid>, Vec<i64>) = plan.heads.iter().copied().unzip();
    let (outboxes, lasts): (Vec<Uuid>, Vec<i64>) = plan.lasts.iter().copied().unzip();
    let (trimmed, too_old): (Vec<Uuid>, Vec<i64>) = plan.too_old(results_kept).unzip();
    let columns: Vec<_> = plan.outcomes.iter().map(|(.., outcome)| outcome_columns_of(outcome)).collect();
    sqlx::query(
        "WITH new_events AS (
             INSERT INTO events (room, epoch, seq, id, kind, sender, time_ms, body, details)
             SELECT * FROM UNNEST($1::uuid[], $2::int[], $3::bigint[], $4::uuid[], $5::smallint[], $6::text[], $7::bigint[], $8::text[], $24::text[])
         ), new_heads AS (
             UPDATE rooms SET head = new.head FROM UNNEST($9::uuid[], $10::bigint[]) AS new (id, head) WHERE rooms.id = new.id
         ), new_lasts AS (
             INSERT INTO outboxes (key, last, touched_ms) SELECT key, last, $20 FROM UNNEST($11::uuid[], $12::bigint[]) AS new (key, last)
             ON CONFLICT (key) DO UPDATE SET last = excluded.last, touched_ms = GREATEST(outboxes.touched_ms, excluded.touched_ms)
         ), new_results AS (
             INSERT INTO outbox_results (outbox, n, refusal, room, epoch, seq, event, time_ms)
             SELECT * FROM UNNEST($13::uuid[], $14::bigint[], $15::text[], $16::uuid[], $17::int[], $18::bigint[], $19::uuid[], $21::bigint[])
         ), old_results AS (
             DELETE FROM outbox_results r USING UNNEST($25::uuid[], $26::bigint[]) AS old (outbox, n)
             WHERE r.outbox = old.outbox AND r.n <= old.n AND r.n > old.n - $27
         )
         SELECT pg_notify($22, payload) FROM UNNEST($23::text[]) AS payload",
    )
    .bind(events.iter().map(|event| event.room).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.epoch).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.seq).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.kind as i16).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.sender.to_string()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.time).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.text.clone()).collect::<Vec<_>>())
    .bind(rooms)
    .bind(heads)
    .bind(outboxes)
    .bind(lasts)
    .bind(plan.outcomes.iter().map(|(outbox, ..)| *outbox).collect::<Vec<_>>())
    .bind(plan.outcomes.iter().map(|(_, n, _)| *n).collect::<Vec<_>>())
    .bind(columns.iter().map(|column| column.0).collect::<Vec<_>>())
    .bind(columns.iter().map(|column| column.1).collect::<Vec<_>>())
    .bind(columns.iter().map(|column| column.2).collect::<Vec<_>>())
    .bind(columns.iter().map(|column| column.3).collect::<Vec<_>>())
    .bind(columns.iter().map(|column| column.4).collect::<Vec<_>>())
    .bind(now_ms)
    .bind(columns.iter().map(|column| column.5).collect::<Vec<_>>())
    .bind(hints::CHANNEL)
    .bind(hints::payloads(&plan.heads, &[]))
    .bind(events.iter().map(rows::details).collect::<Vec<_>>())
    .bind(trimmed)
    .bind(too_old)
    .bind(RESULTS_TRIMMED_MAX)
    .execute(&mut **tx)
    .await?;
    write_mentions(tx, events).await
}

/// Notes who is named by a batch's messages. Most name nobody, and cost nothing.
async fn write_mentions(tx: &mut Transaction<'static, Postgres>, events: &[EventBody]) -> Result<(), StoreError> {
    let mentions: Vec<(&str, Uuid, Seq)> = events.iter().flat_map(EventBody::mentions).collect();
    if mentions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO mentions (member, room, seq) SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::bigint[])
         ON CONFLICT DO NOTHING",
    )
    .bind(mentions.iter().map(|mention| mention.0).collect::<Vec<_>>())
    .bind(mentions.iter().map(|mention| mention.1).collect::<Vec<_>>())
    .bind(mentions.iter().map(|mention| mention.2).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn distinct(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

//! What became of sends that were queued: looked up by their keys, or buried.

use sqlx::PgPool;
use uuid::Uuid;

use crate::store::{
    Answer, DeadLetter, SendKey, StoreError, outbox_key,
    plan::{Observed, recall},
    rows::{self, OutcomeRow, outcome_columns},
};

/// Looks sends up.
pub(super) async fn outcomes(pool: &PgPool, sends: &[SendKey]) -> Result<Vec<Option<Answer>>, StoreError> {
    let keys: Vec<Uuid> = sends.iter().map(|send| outbox_key(&send.sender, send.outbox)).collect();
    let numbers: Vec<i64> = sends.iter().map(|send| send.n).collect();
    // The numbers first: whatever they count has its result by then.
    let lasts: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT key, last FROM outboxes WHERE key = ANY($1)").bind(&keys).fetch_all(pool).await?;
    let found: Vec<OutcomeRow> = sqlx::query_as(concat!(
        "SELECT ",
        outcome_columns!(),
        " FROM outbox_results r JOIN UNNEST($1::uuid[], $2::bigint[]) AS asked (outbox, n) USING (outbox, n)"
    ))
    .bind(&keys)
    .bind(&numbers)
    .fetch_all(pool)
    .await?;
    let outcomes = found.into_iter().filter_map(rows::outcome).collect();
    let observed = Observed { outboxes: lasts.into_iter().collect(), outcomes, ..Observed::default() };
    Ok(recall(sends, &keys, &observed))
}

/// Keeps dead letters, each once.
pub(super) async fn bury(pool: &PgPool, letters: &[DeadLetter]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO dead_letters (id, reason, payload)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING",
    )
    .bind(letters.iter().map(|letter| letter.id).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.payload.as_str()).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

//! What became of sends that were queued: looked up by their keys, or buried.

use sqlx::SqlitePool;

use crate::store::{
    Answer, DeadLetter, SendKey, StoreError, outbox_key,
    plan::{Observed, recall},
    rows::{self, OutcomeRow, outcome_columns},
};

/// Looks sends up.
pub(super) async fn outcomes(pool: &SqlitePool, sends: &[SendKey]) -> Result<Vec<Option<Answer>>, StoreError> {
    let mut observed = Observed::default();
    let mut keys = Vec::with_capacity(sends.len());
    for send in sends {
        let key = outbox_key(&send.sender, send.outbox);
        let last = sqlx::query_scalar("SELECT last FROM outboxes WHERE key = $1").bind(key);
        let last: Option<i64> = last.fetch_optional(pool).await?;
        observed.outboxes.extend(last.map(|last| (key, last)));
        let row: Option<OutcomeRow> = sqlx::query_as(concat!(
            "SELECT ",
            outcome_columns!(),
            " FROM outbox_results r WHERE r.outbox = $1 AND r.n = $2"
        ))
        .bind(key)
        .bind(send.n)
        .fetch_optional(pool)
        .await?;
        observed.outcomes.extend(row.and_then(rows::outcome));
        keys.push(key);
    }
    Ok(recall(sends, &keys, &observed))
}

/// Keeps dead letters, each once.
pub(super) async fn bury(pool: &SqlitePool, letters: &[DeadLetter]) -> Result<(), StoreError> {
    for letter in letters {
        sqlx::query("INSERT INTO dead_letters (id, reason, payload) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(letter.id)
            .bind(letter.reason.as_str())
            .bind(&letter.payload)
            .execute(pool)
            .await?;
    }
    Ok(())
}

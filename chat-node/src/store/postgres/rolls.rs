//! Rolls in PostgreSQL: one statement each, so that each happens whole or not at all.

use async_trait::async_trait;

use super::PostgresStore;
use crate::store::{
    ROLL_KEPT_MS, RUNS_MAX, RollMessage, Rolls, Run, StoreError,
    rolls::{self, RollMessageRow, RunRow},
};

/// The present, by the clock of the database, in milliseconds since 1970 UTC.
macro_rules! now_ms {
    () => {
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)"
    };
}

#[async_trait]
impl Rolls for PostgresStore {
    async fn begin_roll(&self, run: &str, number: i64, text: &str) -> Result<(), StoreError> {
        sqlx::query(concat!(
            "WITH beat AS (
                 INSERT INTO rolls (run, number, beat_ms) VALUES ($1, $2, ",
            now_ms!(),
            ") ON CONFLICT (run) DO UPDATE
                 SET number = GREATEST(rolls.number, EXCLUDED.number), beat_ms = EXCLUDED.beat_ms
             ), followed AS (
                 DELETE FROM roll_messages WHERE run = $1 AND number < $2
             )
             INSERT INTO roll_messages (run, number, message) VALUES ($1, $2, $3)
             ON CONFLICT (run, number) DO UPDATE SET message = EXCLUDED.message"
        ))
        .bind(run)
        .bind(number)
        .bind(text)
        .execute(&self.gate.pool()?)
        .await?;
        Ok(())
    }

    async fn add_to_roll(&self, run: &str, messages: &[(i64, String)]) -> Result<Vec<Run>, StoreError> {
        // The list is of before the statement, so the own run is on it only if it was there to be added to.
        let rows: Vec<RunRow> = sqlx::query_as(concat!(
            "WITH beat AS (
                 UPDATE rolls SET number = GREATEST(number, $2), beat_ms = ",
            now_ms!(),
            " WHERE run = $1 RETURNING run
             ), added AS (
                 INSERT INTO roll_messages (run, number, message)
                 SELECT beat.run, told.number, told.message
                 FROM beat, UNNEST($3::bigint[], $4::text[]) AS told (number, message)
                 ON CONFLICT DO NOTHING
             )
             SELECT run, number, GREATEST(",
            now_ms!(),
            " - beat_ms, 0) FROM rolls ORDER BY beat_ms DESC LIMIT $5"
        ))
        .bind(run)
        .bind(messages.last().map_or(-1, |(number, _)| *number))
        .bind(messages.iter().map(|(number, _)| *number).collect::<Vec<_>>())
        .bind(messages.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>())
        .bind(RUNS_MAX)
        .fetch_all(&self.gate.pool()?)
        .await?;
        Ok(rows.into_iter().map(rolls::run).collect())
    }

    async fn read_rolls(&self, after: &[(String, i64)], limit: usize) -> Result<Vec<RollMessage>, StoreError> {
        let rows: Vec<RollMessageRow> = sqlx::query_as(
            "SELECT kept.run, kept.number, kept.message
             FROM UNNEST($1::text[], $2::bigint[]) AS known (run, number)
             JOIN roll_messages AS kept ON kept.run = known.run AND kept.number > known.number
             ORDER BY kept.run, kept.number LIMIT $3",
        )
        .bind(after.iter().map(|(run, _)| run.as_str()).collect::<Vec<_>>())
        .bind(after.iter().map(|(_, number)| *number).collect::<Vec<_>>())
        .bind(limit as i64)
        .fetch_all(&self.gate.pool()?)
        .await?;
        Ok(rows.into_iter().map(rolls::message).collect())
    }

    async fn end_roll(&self, run: &str) -> Result<(), StoreError> {
        let delete = "WITH ended AS (DELETE FROM rolls WHERE run = $1) DELETE FROM roll_messages WHERE run = $1";
        sqlx::query(delete).bind(run).execute(&self.gate.pool()?).await?;
        Ok(())
    }

    async fn forget_rolls(&self) -> Result<(), StoreError> {
        // Several nodes may do it at once, and none waits for another.
        sqlx::query(concat!(
            "WITH silent AS (
                 DELETE FROM rolls WHERE run IN (
                     SELECT run FROM rolls WHERE beat_ms < ",
            now_ms!(),
            " - $1 LIMIT $2 FOR UPDATE SKIP LOCKED
                 ) RETURNING run
             )
             DELETE FROM roll_messages WHERE run IN (SELECT run FROM silent)"
        ))
        .bind(ROLL_KEPT_MS)
        .bind(RUNS_MAX)
        .execute(&self.gate.pool()?)
        .await?;
        Ok(())
    }
}

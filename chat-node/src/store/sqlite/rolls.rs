//! Rolls in SQLite: as in PostgreSQL, row by row. There is no other node that reads them.

use async_trait::async_trait;

use super::SqliteStore;
use crate::store::{
    ROLL_KEPT_MS, RUNS_MAX, RollMessage, Rolls, Run, StoreError,
    rolls::{self, RollMessageRow, RunRow},
};

/// The present, in milliseconds since 1970 UTC.
macro_rules! now_ms {
    () => {
        "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    };
}

#[async_trait]
impl Rolls for SqliteStore {
    async fn begin_roll(&self, run: &str, number: i64, text: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(concat!(
            "INSERT INTO rolls (run, number, beat_ms) VALUES ($1, $2, ",
            now_ms!(),
            ") ON CONFLICT (run) DO UPDATE SET number = max(number, excluded.number), beat_ms = excluded.beat_ms"
        ))
        .bind(run)
        .bind(number)
        .execute(&mut *tx.0)
        .await?;
        let delete = "DELETE FROM roll_messages WHERE run = $1 AND number <= $2";
        sqlx::query(delete).bind(run).bind(number).execute(&mut *tx.0).await?;
        let insert = "INSERT INTO roll_messages (run, number, message) VALUES ($1, $2, $3)";
        sqlx::query(insert).bind(run).bind(number).bind(text).execute(&mut *tx.0).await?;
        tx.commit().await
    }

    async fn add_to_roll(&self, run: &str, messages: &[(i64, String)]) -> Result<Vec<Run>, StoreError> {
        let mut tx = self.begin().await?;
        let beat = concat!("UPDATE rolls SET number = max(number, $2), beat_ms = ", now_ms!(), " WHERE run = $1");
        let latest = messages.last().map_or(-1, |(number, _)| *number);
        if sqlx::query(beat).bind(run).bind(latest).execute(&mut *tx.0).await?.rows_affected() == 1 {
            for (number, text) in messages {
                let insert =
                    "INSERT INTO roll_messages (run, number, message) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
                sqlx::query(insert).bind(run).bind(number).bind(text).execute(&mut *tx.0).await?;
            }
        }
        let rows: Vec<RunRow> = sqlx::query_as(concat!(
            "SELECT run, number, max(",
            now_ms!(),
            " - beat_ms, 0) FROM rolls ORDER BY beat_ms DESC LIMIT $1"
        ))
        .bind(RUNS_MAX)
        .fetch_all(&mut *tx.0)
        .await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(rolls::run).collect())
    }

    async fn read_rolls(&self, after: &[(String, i64)], limit: usize) -> Result<Vec<RollMessage>, StoreError> {
        let mut found = Vec::new();
        for (run, number) in after {
            let query = "SELECT run, number, message FROM roll_messages WHERE run = $1 AND number > $2 ORDER BY number LIMIT $3";
            let query = sqlx::query_as(query).bind(run).bind(number).bind((limit - found.len()) as i64);
            let rows: Vec<RollMessageRow> = query.fetch_all(&self.gate.pool()?).await?;
            found.extend(rows.into_iter().map(rolls::message));
        }
        Ok(found)
    }

    async fn end_roll(&self, run: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for delete in ["DELETE FROM rolls WHERE run = $1", "DELETE FROM roll_messages WHERE run = $1"] {
            sqlx::query(delete).bind(run).execute(&mut *tx.0).await?;
        }
        tx.commit().await
    }

    async fn forget_rolls(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let delete = concat!("DELETE FROM rolls WHERE beat_ms < ", now_ms!(), " - $1");
        sqlx::query(delete).bind(ROLL_KEPT_MS).execute(&mut *tx.0).await?;
        let delete = "DELETE FROM roll_messages WHERE run NOT IN (SELECT run FROM rolls)";
        sqlx::query(delete).execute(&mut *tx.0).await?;
        tx.commit().await
    }
}

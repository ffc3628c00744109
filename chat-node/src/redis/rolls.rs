//! What the store promises of rolls, kept by Redis. What a run leaves behind, Redis forgets by itself.

use async_trait::async_trait;

use super::{
    RedisSessions,
    scripts::{ADD_TO_ROLL, BEGIN_ROLL, END_ROLL, READ_ROLLS},
};
use crate::store::{ROLL_KEPT_MS, RUNS_MAX, RollMessage, Rolls, Run, StoreError};

#[async_trait]
impl Rolls for RedisSessions {
    async fn begin_roll(&self, run: &str, number: i64, text: &str) -> Result<(), StoreError> {
        let _: bool = self.run(self.call(&BEGIN_ROLL).arg(run).arg(ROLL_KEPT_MS).arg(number).arg(text)).await?;
        Ok(())
    }

    async fn add_to_roll(&self, run: &str, messages: &[(i64, String)]) -> Result<Vec<Run>, StoreError> {
        let mut call = self.call(&ADD_TO_ROLL);
        call.arg(run).arg(ROLL_KEPT_MS).arg(RUNS_MAX);
        for (number, text) in messages {
            call.arg(number).arg(text);
        }
        let runs: Vec<(String, i64, i64)> = self.run(&mut call).await?;
        Ok(runs.into_iter().map(|(run, number, age_ms)| Run { run, number, age_ms }).collect())
    }

    async fn read_rolls(&self, after: &[(String, i64)], limit: usize) -> Result<Vec<RollMessage>, StoreError> {
        let mut call = self.call(&READ_ROLLS);
        call.arg(limit);
        for (run, number) in after {
            call.arg(run).arg(number);
        }
        let found: Vec<(String, i64, String)> = self.run(&mut call).await?;
        Ok(found.into_iter().map(|(run, number, text)| RollMessage { run, number, text }).collect())
    }

    async fn end_roll(&self, run: &str) -> Result<(), StoreError> {
        let _: bool = self.run(self.call(&END_ROLL).arg(run)).await?;
        Ok(())
    }

    async fn forget_rolls(&self) -> Result<(), StoreError> {
        // The keys expire, and whoever adds to a roll takes the names of those that are gone off the list.
        Ok(())
    }
}

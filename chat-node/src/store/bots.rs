//! Bots: accounts without a password, and the tokens that an administrator gives them. A token is a login that nothing refreshes.

use async_trait::async_trait;
use uuid::Uuid;

use super::{StoreError, logins::Seen};

/// Tokens of one bot.
pub const TOKENS_PER_BOT_MAX: i64 = 100;

/// A token that is to be given.
#[derive(Clone, Debug)]
pub struct NewBotToken {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub bot: String,
    /// What it is for, in a person's words.
    pub label: String,
    /// Its scopes, in the form of the claim.
    pub scopes: String,
    /// When it expires, in milliseconds since 1970 UTC.
    pub expires_ms: i64,
}

/// A token that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotToken {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub label: String,
    /// Its scopes, in the form of the claim.
    pub scopes: String,
    /// When it was given, in milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// When it was last heard of.
    pub seen_ms: i64,
    /// When it expires.
    pub expires_ms: i64,
    /// Where it was last heard from.
    pub address: Option<String>,
}

/// What became of a wish for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// It is there.
    Token,
    /// There is no such bot.
    NoBot,
    /// The bot has as many as it may.
    TooMany,
}

/// Keeps bots.
#[async_trait]
pub trait Bots {
    /// Makes a bot. `false` when the name is taken.
    async fn create_bot(&self, name: &str, now_ms: i64) -> Result<bool, StoreError>;

    /// The bots by name, from behind `after` on, with when they were made.
    async fn bots(&self, after: &str, limit: usize) -> Result<Vec<(String, i64)>, StoreError>;

    /// Ends a bot and all of its tokens, which it gives. Its name stays taken. `None` when there is no such bot.
    async fn delete_bot(&self, name: &str) -> Result<Option<Vec<Uuid>>, StoreError>;

    /// Gives a bot a token.
    async fn give_token(&self, token: &NewBotToken, now_ms: i64) -> Result<Given, StoreError>;

    /// A bot's tokens that are good, the latest first.
    async fn bot_tokens(&self, bot: &str, now_ms: i64) -> Result<Vec<BotToken>, StoreError>;

    /// Those of these ids that are of bots' tokens, and good.
    async fn good_bot_tokens(&self, tokens: &[Uuid], now_ms: i64) -> Result<Vec<Uuid>, StoreError>;

    /// Notes signs of life of bots' tokens; ids of others are passed over.
    async fn note_bot_tokens(&self, seen: &[(Uuid, Seen)]) -> Result<(), StoreError>;

    /// Ends a bot's token. `false` when there is none of that id.
    async fn end_bot_token(&self, bot: &str, token: Uuid) -> Result<bool, StoreError>;
}

/// What is read of a bot's token.
pub(super) type BotTokenRow = (Uuid, Option<String>, Option<String>, i64, i64, i64, Option<String>);

/// A row as a token.
pub(super) fn bot_token(row: BotTokenRow) -> BotToken {
    let (id, label, scopes, created_ms, seen_ms, expires_ms, address) = row;
    let (label, scopes) = (label.unwrap_or_default(), scopes.unwrap_or_default());
    BotToken { id, label, scopes, created_ms, seen_ms, expires_ms, address }
}

/// Implements [`Bots`] for a store with a pool of sqlx's. `$lock` is what locks the row that a `SELECT` reads.
macro_rules! bots {
    ($store:ty, $lock:literal) => {
        #[async_trait::async_trait]
        impl $crate::store::bots::Bots for $store {
            async fn create_bot(&self, name: &str, now_ms: i64) -> Result<bool, $crate::store::StoreError> {
                let query = "INSERT INTO users (name, created_ms, bot) VALUES ($1, $2, true) ON CONFLICT DO NOTHING";
                let made = sqlx::query(query).bind(name).bind(now_ms).execute(&self.gate.pool()?).await?;
                Ok(made.rows_affected() == 1)
            }

            async fn bots(&self, after: &str, limit: usize) -> Result<Vec<(String, i64)>, $crate::store::StoreError> {
                let query = "SELECT name, created_ms FROM users WHERE bot AND name > $1 ORDER BY name LIMIT $2";
                Ok(sqlx::query_as(query).bind(after).bind(limit as i64).fetch_all(&self.gate.pool()?).await?)
            }

            async fn delete_bot(&self, name: &str) -> Result<Option<Vec<uuid::Uuid>>, $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                // Its user stays, without a way in: what it has said is still its.
                let update = "UPDATE users SET bot = false WHERE name = $1 AND bot";
                let update = sqlx::query(update).bind(name).execute(&mut *tx.0).await?;
                if update.rows_affected() == 0 {
                    return Ok(None);
                }
                let delete = $crate::store::logins::delete_logins!("member = $1 AND selector IS NULL", $lock);
                let ended: Vec<uuid::Uuid> = sqlx::query_scalar(delete).bind(name).fetch_all(&mut *tx.0).await?;
                tx.tell_ended(&ended).await?;
                tx.commit().await?;
                Ok(Some(ended))
            }

            async fn give_token(
                &self,
                token: &$crate::store::bots::NewBotToken,
                now_ms: i64,
            ) -> Result<$crate::store::bots::Given, $crate::store::StoreError> {
                use $crate::store::bots::{Given, TOKENS_PER_BOT_MAX};
                let mut tx = self.begin().await?;
                let bot: Option<i64> =
                    sqlx::query_scalar(concat!("SELECT created_ms FROM users WHERE name = $1 AND bot ", $lock))
                        .bind(&token.bot)
                        .fetch_optional(&mut *tx.0)
                        .await?;
                if bot.is_none() {
                    return Ok(Given::NoBot);
                }
                let query = "SELECT count(*) FROM logins WHERE member = $1 AND selector IS NULL AND expires_ms > $2";
                let tokens: i64 = sqlx::query_scalar(query).bind(&token.bot).bind(now_ms).fetch_one(&mut *tx.0).await?;
                if tokens >= TOKENS_PER_BOT_MAX {
                    return Ok(Given::TooMany);
                }
                sqlx::query(
                    "INSERT INTO logins (id, member, created_ms, seen_ms, expires_ms, label, scopes)
                     VALUES ($1, $2, $3, $3, $4, $5, $6)",
                )
                .bind(token.id)
                .bind(&token.bot)
                .bind(now_ms)
                .bind(token.expires_ms)
                .bind(&token.label)
                .bind(&token.scopes)
                .execute(&mut *tx.0)
                .await?;
                tx.commit().await?;
                Ok(Given::Token)
            }

            async fn bot_tokens(
                &self,
                bot: &str,
                now_ms: i64,
            ) -> Result<Vec<$crate::store::bots::BotToken>, $crate::store::StoreError> {
                let rows: Vec<$crate::store::bots::BotTokenRow> = sqlx::query_as(
                    "SELECT id, label, scopes, created_ms, seen_ms, expires_ms, address FROM logins
                     WHERE member = $1 AND selector IS NULL AND expires_ms > $2 ORDER BY id DESC LIMIT $3",
                )
                .bind(bot)
                .bind(now_ms)
                .bind($crate::store::bots::TOKENS_PER_BOT_MAX)
                .fetch_all(&self.gate.pool()?)
                .await?;
                Ok(rows.into_iter().map($crate::store::bots::bot_token).collect())
            }

            async fn good_bot_tokens(
                &self,
                tokens: &[uuid::Uuid],
                now_ms: i64,
            ) -> Result<Vec<uuid::Uuid>, $crate::store::StoreError> {
                self.good_logins_among(tokens, true, now_ms).await
            }

            async fn note_bot_tokens(
                &self,
                seen: &[(uuid::Uuid, $crate::store::logins::Seen)],
            ) -> Result<(), $crate::store::StoreError> {
                self.note_logins_seen(seen).await
            }

            async fn end_bot_token(&self, bot: &str, token: uuid::Uuid) -> Result<bool, $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                let ended = sqlx::query("DELETE FROM logins WHERE member = $1 AND selector IS NULL AND id = $2")
                    .bind(bot)
                    .bind(token)
                    .execute(&mut *tx.0)
                    .await?
                    .rows_affected()
                    == 1;
                if ended {
                    tx.tell_ended(&[token]).await?;
                }
                tx.commit().await?;
                Ok(ended)
            }
        }
    };
}
pub(super) use bots;

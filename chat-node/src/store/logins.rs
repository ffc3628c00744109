//! Logins: who is signed in where, until when, and by which refresh token.
//!
//! A login that is over is not there any more, so that "is it good" is one look at one row. What a refresh token deserves is decided in
//! [`auth`](crate::auth); here it is carried out under the row's lock. Whatever ends logins tells the other nodes in the same transaction.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Rolls, StoreError};
use crate::{
    auth::{Bits, RefreshRules, RefreshToken},
    event::User,
};

/// Devices on which one user is signed in. Who signs in on another is signed out where he was seen the longest time ago.
pub const LOGINS_PER_USER_MAX: i64 = 100;

/// A login that begins.
#[derive(Clone, Debug)]
pub struct NewLogin {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub user: String,
    /// From where, if that is known.
    pub address: Option<String>,
    /// When it is over, unless it is refreshed, in milliseconds since 1970 UTC.
    pub expires_ms: i64,
    /// Its first refresh token.
    pub token: RefreshToken,
    /// The hash of the password that was shown for it, if one was: it begins only while that is the account's.
    pub password_hash: Option<String>,
}

/// A login, as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its id.
    pub id: Uuid,
    /// When it began, in milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// When it was last heard of.
    pub seen_ms: i64,
    /// When it is over.
    pub expires_ms: i64,
    /// What sort of client its latest connection was.
    pub client: Option<String>,
    /// Where it was last heard from.
    pub address: Option<String>,
}

/// A sign of life of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, in milliseconds since 1970 UTC.
    pub ms: i64,
    /// What sort of client it was.
    pub client: Option<&'static str>,
    /// From where.
    pub address: Option<String>,
}

/// What became of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It has a successor.
    Renewed {
        /// The login.
        login: Uuid,
        /// Whose it is.
        user: String,
        /// The successor.
        token: RefreshToken,
        /// Whether it was given before.
        again: bool,
    },
    /// It was used before, so that its login was ended.
    Reused {
        /// The login.
        login: Uuid,
    },
    /// There is no such login, or it is over.
    Unknown,
}

/// Keeps logins.
#[async_trait]
pub trait Logins: Send + Sync {
    /// Begins a login. Gives those that it displaced; `None` when the account has another password meanwhile.
    async fn begin_login(&self, login: &NewLogin, now_ms: i64) -> Result<Option<Vec<Uuid>>, StoreError>;

    /// Replaces the password of an account, if its hash is still `old`, and ends all of its logins but `keep`. Gives those that were
    /// ended; `None` when the account has another password.
    async fn change_password(
        &self,
        user: &str,
        old: &str,
        new: &str,
        keep: Option<Uuid>,
    ) -> Result<Option<Vec<Uuid>>, StoreError>;

    /// Those of these logins that are good.
    async fn good_logins(&self, logins: &[Uuid], now_ms: i64) -> Result<Vec<Uuid>, StoreError>;

    /// A user's logins, those that were seen last first. Tokens of bots are not among them.
    async fn logins_of(&self, user: &str, now_ms: i64) -> Result<Vec<Login>, StoreError>;

    /// Ends one of a user's logins, or all. Gives those that were ended.
    async fn end_logins(&self, user: &str, login: Option<Uuid>) -> Result<Vec<Uuid>, StoreError>;

    /// Whether the user is signed in at the address.
    async fn knows(&self, user: &str, address: IpAddr, now_ms: i64) -> Result<bool, StoreError>;

    /// Follows a refresh token by the next one; `salt` is new and random.
    async fn refresh(
        &self,
        token: &RefreshToken,
        salt: Bits,
        now_ms: i64,
        rules: RefreshRules,
    ) -> Result<Refreshed, StoreError>;

    /// Notes signs of life.
    async fn note_logins(&self, seen: &[(Uuid, Seen)]) -> Result<(), StoreError>;

    /// Forgets logins that have expired.
    async fn forget_logins(&self, now_ms: i64) -> Result<(), StoreError>;
}

/// Keeps when users were last seen.
#[async_trait]
pub trait Sightings: Send + Sync {
    /// Notes when users were last seen, in milliseconds since 1970 UTC.
    async fn note_seen(&self, users: &[(User, i64)]) -> Result<(), StoreError>;

    /// When users were last seen. Who was never here, or never left, is left out.
    async fn last_seen(&self, users: &[String]) -> Result<Vec<(String, i64)>, StoreError>;
}

/// What is kept of those who are signed in and of those who are present: by the store, or by Redis.
pub trait Sessions: Logins + Rolls + Sightings {}

impl<T: Logins + Rolls + Sightings + ?Sized> Sessions for T {}

/// Sessions that any part of the node may hold.
pub type SharedSessions = Arc<dyn Sessions>;

/// What is read of a login when it is refreshed: id, user, hashes (present, former), salt, and times.
pub(super) type RefreshRow = (Uuid, String, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, i64, i64);

/// A row as what is judged. `None` for a row that no node has written.
pub(super) fn kept(row: &RefreshRow) -> Option<crate::auth::Kept> {
    let bits = |bytes: &Vec<u8>| Bits::try_from(bytes.as_slice()).ok();
    let (_, _, hash, former, salt, rotated_ms, expires_ms) = row;
    let former = match (former, salt) {
        (Some(former), Some(salt)) => Some((bits(former)?, bits(salt)?)),
        _ => None,
    };
    Some(crate::auth::Kept { hash: bits(hash)?, former, rotated_ms: *rotated_ms, expires_ms: *expires_ms })
}

/// SQL that ends the logins of which `$where` is true. Wherever many rows are changed at once they are locked in the order of their ids, so that
/// nobody waits for somebody who waits for him.
macro_rules! delete_logins {
    ($where:literal, $lock:literal) => {
        concat!(
            "DELETE FROM logins WHERE id IN (SELECT id FROM logins WHERE ",
            $where,
            " ORDER BY id ",
            $lock,
            ") RETURNING id"
        )
    };
}
pub(super) use delete_logins;

/// Implements [`Logins`] for a store with a pool of sqlx's. `$lock` is what locks the row that a `SELECT` reads. The store itself has
/// `good_logins_among` and `note_logins_seen`, which read otherwise in each, and its transaction `tell_ended`.
macro_rules! logins {
    ($store:ty, $lock:literal) => {
        #[async_trait::async_trait]
        impl $crate::store::logins::Logins for $store {
            async fn begin_login(
                &self,
                login: &$crate::store::logins::NewLogin,
                now_ms: i64,
            ) -> Result<Option<Vec<uuid::Uuid>>, $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                if let Some(shown) = &login.password_hash {
                    // Under the lock that a change of the password takes first: it ends this login, or is seen here.
                    let present: Option<Option<String>> =
                        sqlx::query_scalar(concat!("SELECT password_hash FROM users WHERE name = $1 ", $lock))
                            .bind(&login.user)
                            .fetch_optional(&mut *tx.0)
                            .await?;
                    if present.flatten().as_ref() != Some(shown) {
                        return Ok(None);
                    }
                }
                sqlx::query(
                    "INSERT INTO logins (id, member, created_ms, seen_ms, expires_ms, address, selector, secret_hash)
                     VALUES ($1, $2, $3, $3, $4, $5, $6, $7)",
                )
                .bind(login.id)
                .bind(&login.user)
                .bind(now_ms)
                .bind(login.expires_ms)
                .bind(&login.address)
                .bind(login.token.selector())
                .bind(login.token.hash().to_vec())
                .execute(&mut *tx.0)
                .await?;
                let displaced: Vec<uuid::Uuid> = sqlx::query_scalar($crate::store::logins::delete_logins!(
                    "id IN (SELECT id FROM logins WHERE member = $1 AND selector IS NOT NULL
                            ORDER BY seen_ms DESC, id DESC LIMIT 1000 OFFSET $2)",
                    $lock
                ))
                .bind(&login.user)
                .bind($crate::store::logins::LOGINS_PER_USER_MAX)
                .fetch_all(&mut *tx.0)
                .await?;
                tx.tell_ended(&displaced).await?;
                tx.commit().await?;
                Ok(Some(displaced))
            }

            async fn change_password(
                &self,
                user: &str,
                old: &str,
                new: &str,
                keep: Option<uuid::Uuid>,
            ) -> Result<Option<Vec<uuid::Uuid>>, $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                let update = "UPDATE users SET password_hash = $3 WHERE name = $1 AND password_hash = $2";
                let update = sqlx::query(update).bind(user).bind(old).bind(new).execute(&mut *tx.0).await?;
                if update.rows_affected() == 0 {
                    return Ok(None);
                }
                let ended: Vec<uuid::Uuid> = sqlx::query_scalar($crate::store::logins::delete_logins!(
                    "member = $1 AND selector IS NOT NULL AND id <> $2",
                    $lock
                ))
                    .bind(user)
                    .bind(keep.unwrap_or_default())
                    .fetch_all(&mut *tx.0)
                    .await?;
                tx.tell_ended(&ended).await?;
                tx.commit().await?;
                Ok(Some(ended))
            }

            async fn good_logins(
                &self,
                logins: &[uuid::Uuid],
                now_ms: i64,
            ) -> Result<Vec<uuid::Uuid>, $crate::store::StoreError> {
                self.good_logins_among(logins, false, now_ms).await
            }

            async fn logins_of(
                &self,
                user: &str,
                now_ms: i64,
            ) -> Result<Vec<$crate::store::logins::Login>, $crate::store::StoreError> {
                let rows: Vec<(uuid::Uuid, i64, i64, i64, Option<String>, Option<String>)> = sqlx::query_as(
                    "SELECT id, created_ms, seen_ms, expires_ms, client, address FROM logins
                     WHERE member = $1 AND selector IS NOT NULL AND expires_ms > $2
                     ORDER BY seen_ms DESC, id DESC LIMIT $3",
                )
                .bind(user)
                .bind(now_ms)
                .bind($crate::store::logins::LOGINS_PER_USER_MAX)
                .fetch_all(&self.gate.pool()?)
                .await?;
                let login = |(id, created_ms, seen_ms, expires_ms, client, address)| $crate::store::logins::Login {
                    id,
                    created_ms,
                    seen_ms,
                    expires_ms,
                    client,
                    address,
                };
                Ok(rows.into_iter().map(login).collect())
            }

            async fn end_logins(
                &self,
                user: &str,
                login: Option<uuid::Uuid>,
            ) -> Result<Vec<uuid::Uuid>, $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                use $crate::store::logins::delete_logins;
                let query = match login {
                    Some(_) => delete_logins!("member = $1 AND selector IS NOT NULL AND id = $2", $lock),
                    None => delete_logins!("member = $1 AND selector IS NOT NULL", $lock),
                };
                let query = sqlx::query_scalar(query).bind(user);
                let query = if let Some(login) = login { query.bind(login) } else { query };
                let ended: Vec<uuid::Uuid> = query.fetch_all(&mut *tx.0).await?;
                tx.tell_ended(&ended).await?;
                tx.commit().await?;
                Ok(ended)
            }

            async fn knows(
                &self,
                user: &str,
                address: std::net::IpAddr,
                now_ms: i64,
            ) -> Result<bool, $crate::store::StoreError> {
                let known: Option<i64> = sqlx::query_scalar(
                    "SELECT created_ms FROM logins WHERE member = $1 AND address = $2 AND expires_ms > $3 LIMIT 1",
                )
                .bind(user)
                .bind(address.to_string())
                .bind(now_ms)
                .fetch_optional(&self.gate.pool()?)
                .await?;
                Ok(known.is_some())
            }

            async fn refresh(
                &self,
                token: &$crate::auth::RefreshToken,
                salt: $crate::auth::Bits,
                now_ms: i64,
                rules: $crate::auth::RefreshRules,
            ) -> Result<$crate::store::logins::Refreshed, $crate::store::StoreError> {
                use $crate::{auth::Verdict, store::logins::Refreshed};
                let mut tx = self.begin().await?;
                let row: Option<$crate::store::logins::RefreshRow> = sqlx::query_as(concat!(
                    "SELECT id, member, secret_hash, former_hash, salt, rotated_ms, expires_ms FROM logins
                     WHERE selector = $1 ",
                    $lock
                ))
                .bind(token.selector())
                .fetch_optional(&mut *tx.0)
                .await?;
                let found = row.and_then(|row| Some(($crate::store::logins::kept(&row)?, row)));
                let Some((kept, (login, user, ..))) = found else { return Ok(Refreshed::Unknown) };
                let refreshed = match $crate::auth::judge(&kept, token, salt, now_ms, rules) {
                    Verdict::Rotate(kept, next) => {
                        let (former, salt) = kept.former.unzip();
                        sqlx::query(
                            "UPDATE logins SET secret_hash = $2, former_hash = $3, salt = $4, rotated_ms = $5, expires_ms = $6,
                                 seen_ms = $5 WHERE id = $1",
                        )
                        .bind(login)
                        .bind(kept.hash.to_vec())
                        .bind(former.map(|former| former.to_vec()))
                        .bind(salt.map(|salt| salt.to_vec()))
                        .bind(kept.rotated_ms)
                        .bind(kept.expires_ms)
                        .execute(&mut *tx.0)
                        .await?;
                        Refreshed::Renewed { login, user, token: next, again: false }
                    }
                    Verdict::Repeat(next) => Refreshed::Renewed { login, user, token: next, again: true },
                    Verdict::Reused => {
                        sqlx::query("DELETE FROM logins WHERE id = $1").bind(login).execute(&mut *tx.0).await?;
                        tx.tell_ended(&[login]).await?;
                        Refreshed::Reused { login }
                    }
                    Verdict::Expired => Refreshed::Unknown,
                };
                tx.commit().await?;
                Ok(refreshed)
            }

            async fn note_logins(
                &self,
                seen: &[(uuid::Uuid, $crate::store::logins::Seen)],
            ) -> Result<(), $crate::store::StoreError> {
                self.note_logins_seen(seen).await
            }

            async fn forget_logins(&self, now_ms: i64) -> Result<(), $crate::store::StoreError> {
                let delete = $crate::store::logins::delete_logins!("expires_ms <= $1", $lock);
                sqlx::query(delete).bind(now_ms).execute(&self.gate.pool()?).await?;
                Ok(())
            }
        }
    };
}
pub(super) use logins;

//! Attempts to log in, and their failures.
//!
//! An attempt is counted for its account before the password is looked at, so that many at once count as many; for its address only when it
//! has failed, because many people may log in from one at the same moment. It is taken back when the password was not looked at in the end.

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;

use super::StoreError;
use crate::auth::{Failures, Subject, wait};

/// Counts attempts. `account` is absent for a name that no account can have; `is_known` says that it is signed in at the address.
#[async_trait]
pub trait Attempts {
    /// Counts an attempt as a failure of the account, or tells how long whoever makes it has to wait first.
    async fn attempt(
        &self,
        account: Option<&str>,
        address: Option<IpAddr>,
        is_known: bool,
        now_ms: i64,
    ) -> Result<Duration, StoreError>;

    /// The password was not looked at: the attempt of `made_ms` was no failure. Those before it stay.
    async fn take_back(
        &self,
        account: Option<&str>,
        address: Option<IpAddr>,
        is_known: bool,
        made_ms: i64,
    ) -> Result<(), StoreError>;

    /// The password was wrong: counts a failure of the address.
    async fn failed(&self, address: IpAddr, now_ms: i64) -> Result<(), StoreError>;

    /// The password was right: the attempt was no failure, and those of the account before are forgiven.
    async fn forgive(&self, account: &str, address: Option<IpAddr>) -> Result<(), StoreError>;

    /// Forgets failures that count no more.
    async fn forget_attempts(&self, now_ms: i64) -> Result<(), StoreError>;
}

/// A transaction, as far as attempts need it.
#[async_trait]
pub(super) trait AttemptTransaction: Send {
    /// Reads and locks what was counted.
    async fn failures(&mut self, subject: &Subject, now_ms: i64) -> Result<Failures, StoreError>;
    /// Replaces it.
    async fn count(&mut self, subject: &Subject, failures: Failures) -> Result<(), StoreError>;
    /// Forgets it.
    async fn forgive(&mut self, subject: &Subject) -> Result<(), StoreError>;
}

/// See [`Attempts::attempt`].
pub(super) async fn attempt(
    tx: &mut dyn AttemptTransaction,
    account: Option<&str>,
    address: Option<IpAddr>,
    is_known: bool,
    now_ms: i64,
) -> Result<Duration, StoreError> {
    let mut counted = Vec::new();
    for subject in Subject::of(account, address, is_known) {
        let failures = tx.failures(&subject, now_ms).await?;
        counted.push((subject, failures));
    }
    let wait = wait(&counted, now_ms);
    if wait.is_zero() {
        for (subject, failures) in counted.iter().filter(|(subject, _)| !subject.is_address()) {
            tx.count(subject, failures.and_one(now_ms)).await?;
        }
    }
    Ok(wait)
}

/// See [`Attempts::take_back`].
pub(super) async fn take_back(
    tx: &mut dyn AttemptTransaction,
    account: Option<&str>,
    address: Option<IpAddr>,
    is_known: bool,
    made_ms: i64,
) -> Result<(), StoreError> {
    for subject in Subject::of(account, address, is_known).iter().filter(|subject| !subject.is_address()) {
        let failures = tx.failures(subject, made_ms).await?;
        tx.count(subject, failures.but_one(subject, made_ms)).await?;
    }
    Ok(())
}

/// See [`Attempts::failed`].
pub(super) async fn failed(tx: &mut dyn AttemptTransaction, address: IpAddr, now_ms: i64) -> Result<(), StoreError> {
    for subject in Subject::of(None, Some(address), false) {
        let failures = tx.failures(&subject, now_ms).await?;
        tx.count(&subject, failures.and_one(now_ms)).await?;
    }
    Ok(())
}

/// See [`Attempts::forgive`].
pub(super) async fn forgive(
    tx: &mut dyn AttemptTransaction,
    account: &str,
    address: Option<IpAddr>,
) -> Result<(), StoreError> {
    for subject in Subject::of(Some(account), address, false).iter().filter(|subject| !subject.is_address()) {
        tx.forgive(subject).await?;
    }
    Ok(())
}

/// Implements [`Attempts`] for a store, and [`AttemptTransaction`] for its transaction.
macro_rules! attempts {
    ($store:ty, $transaction:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::attempts::Attempts for $store {
            async fn attempt(
                &self,
                account: Option<&str>,
                address: Option<std::net::IpAddr>,
                is_known: bool,
                now_ms: i64,
            ) -> Result<std::time::Duration, $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                let wait = $crate::store::attempts::attempt(&mut tx, account, address, is_known, now_ms).await?;
                tx.commit().await?;
                Ok(wait)
            }

            async fn take_back(
                &self,
                account: Option<&str>,
                address: Option<std::net::IpAddr>,
                is_known: bool,
                made_ms: i64,
            ) -> Result<(), $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                $crate::store::attempts::take_back(&mut tx, account, address, is_known, made_ms).await?;
                tx.commit().await
            }

            async fn failed(&self, address: std::net::IpAddr, now_ms: i64) -> Result<(), $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                $crate::store::attempts::failed(&mut tx, address, now_ms).await?;
                tx.commit().await
            }

            async fn forgive(
                &self,
                account: &str,
                address: Option<std::net::IpAddr>,
            ) -> Result<(), $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                $crate::store::attempts::forgive(&mut tx, account, address).await?;
                tx.commit().await
            }

            async fn forget_attempts(&self, now_ms: i64) -> Result<(), $crate::store::StoreError> {
                let age = i64::try_from($crate::auth::FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX);
                sqlx::query("DELETE FROM login_failures WHERE last_ms <= $1")
                    .bind(now_ms.saturating_sub(age))
                    .execute(&self.gate.pool()?)
                    .await?;
                Ok(())
            }
        }

        #[async_trait::async_trait]
        impl $crate::store::attempts::AttemptTransaction for $transaction {
            async fn failures(
                &mut self,
                subject: &$crate::auth::Subject,
                now_ms: i64,
            ) -> Result<$crate::auth::Failures, $crate::store::StoreError> {
                // Locks the row, be it there already or not.
                let (count, last_ms): (i32, i64) = sqlx::query_as(
                    "INSERT INTO login_failures (subject, count, last_ms) VALUES ($1, 0, $2)
                     ON CONFLICT (subject) DO UPDATE SET count = login_failures.count RETURNING count, last_ms",
                )
                .bind(subject.key())
                .bind(now_ms)
                .fetch_one(&mut *self.0)
                .await?;
                Ok($crate::auth::Failures { count: u32::try_from(count).unwrap_or(0), last_ms })
            }

            async fn count(
                &mut self,
                subject: &$crate::auth::Subject,
                failures: $crate::auth::Failures,
            ) -> Result<(), $crate::store::StoreError> {
                sqlx::query("UPDATE login_failures SET count = $2, last_ms = $3 WHERE subject = $1")
                    .bind(subject.key())
                    .bind(i32::try_from(failures.count).unwrap_or(i32::MAX))
                    .bind(failures.last_ms)
                    .execute(&mut *self.0)
                    .await?;
                Ok(())
            }

            async fn forgive(&mut self, subject: &$crate::auth::Subject) -> Result<(), $crate::store::StoreError> {
                let query = sqlx::query("DELETE FROM login_failures WHERE subject = $1").bind(subject.key());
                query.execute(&mut *self.0).await?;
                Ok(())
            }
        }
    };
}
pub(super) use attempts;

//! Attempts to log in: counted before the password is looked at, so that many at once count as many.

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;

use super::StoreError;

/// Counts attempts. `account` is absent for a name that no account can have.
#[async_trait]
pub trait Attempts {
    /// Counts an attempt as a failure, or tells how long whoever makes it has to wait first.
    async fn attempt(
        &self,
        account: Option<&str>,
        address: Option<IpAddr>,
        now_ms: i64,
    ) -> Result<Duration, StoreError>;

    /// The password was right: the attempt was no failure, and those before are forgiven.
    async fn forgive(&self, account: &str, address: Option<IpAddr>) -> Result<(), StoreError>;

    /// Forgets failures that count no more.
    async fn forget_attempts(&self, now_ms: i64) -> Result<(), StoreError>;
}

/// Implements [`Attempts`] for a store with a pool of sqlx's.
macro_rules! attempts {
    ($store:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::attempts::Attempts for $store {
            async fn attempt(
                &self,
                account: Option<&str>,
                address: Option<std::net::IpAddr>,
                now_ms: i64,
            ) -> Result<std::time::Duration, $crate::store::StoreError> {
                use $crate::auth::{Failures, Subject, wait};
                let mut tx = self.begin().await?;
                let known: Option<i64> = sqlx::query_scalar(
                    "SELECT created_ms FROM logins WHERE member = $1 AND address = $2 AND expires_ms > $3 LIMIT 1",
                )
                .bind(account)
                .bind(address.map(|address| address.to_string()))
                .bind(now_ms)
                .fetch_optional(&mut *tx.0)
                .await?;
                let mut counted = Vec::new();
                for subject in Subject::of(account, address, known.is_some()) {
                    // Reads and locks at once, be the row there or not.
                    let (count, last_ms): (i32, i64) = sqlx::query_as(
                        "INSERT INTO login_failures (subject, count, last_ms) VALUES ($1, 0, $2)
                         ON CONFLICT (subject) DO UPDATE SET count = login_failures.count RETURNING count, last_ms",
                    )
                    .bind(subject.key())
                    .bind(now_ms)
                    .fetch_one(&mut *tx.0)
                    .await?;
                    counted.push((subject, Failures { count: u32::try_from(count).unwrap_or(0), last_ms }));
                }
                let wait = wait(&counted, now_ms);
                if !wait.is_zero() {
                    return Ok(wait);
                }
                for (subject, failures) in counted {
                    let Failures { count, last_ms } = failures.and_one(now_ms);
                    sqlx::query("UPDATE login_failures SET count = $2, last_ms = $3 WHERE subject = $1")
                        .bind(subject.key())
                        .bind(i32::try_from(count).unwrap_or(i32::MAX))
                        .bind(last_ms)
                        .execute(&mut *tx.0)
                        .await?;
                }
                tx.commit().await?;
                Ok(std::time::Duration::ZERO)
            }

            async fn forgive(
                &self,
                account: &str,
                address: Option<std::net::IpAddr>,
            ) -> Result<(), $crate::store::StoreError> {
                use $crate::auth::Subject;
                let mut tx = self.begin().await?;
                for subject in Subject::of(Some(account), address, false) {
                    let statement = match subject {
                        // It may have guessed others.
                        Subject::Address(_) => {
                            "UPDATE login_failures SET count = count - 1 WHERE subject = $1 AND count > 0"
                        }
                        Subject::Account(_) | Subject::Pair(..) => "DELETE FROM login_failures WHERE subject = $1",
                    };
                    sqlx::query(statement).bind(subject.key()).execute(&mut *tx.0).await?;
                }
                tx.commit().await
            }

            async fn forget_attempts(&self, now_ms: i64) -> Result<(), $crate::store::StoreError> {
                let age = i64::try_from($crate::auth::FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX);
                sqlx::query("DELETE FROM login_failures WHERE last_ms <= $1")
                    .bind(now_ms.saturating_sub(age))
                    .execute(&self.pool)
                    .await?;
                Ok(())
            }
        }
    };
}
pub(super) use attempts;

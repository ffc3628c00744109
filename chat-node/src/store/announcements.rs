//! Announcements that are in force: few, and gone when they are over.
//!
//! Whatever changes them tells the other nodes in the same transaction, and each reads them all anew.

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use crate::event::User;

/// Announcements that are in force at once: whoever connects is told of each.
pub const ANNOUNCEMENTS_MAX: usize = 20;

/// Latest keys of announcements that are known: each announcement may be ended at once, and leaves its key.
pub const ANNOUNCEMENT_KEYS_MAX: i64 = 1_000;

/// Something that is told to everybody who is online.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its id, in the order of time.
    pub id: Uuid,
    /// Who says it.
    pub sender: User,
    /// What is said.
    pub text: String,
    /// When it was said, in milliseconds since 1970 UTC.
    pub time_ms: i64,
    /// When it is over by itself; absent when somebody has to end it.
    pub until_ms: Option<i64>,
}

/// The name of a request to announce, by which a repetition is known.
#[derive(Clone, Copy, Debug)]
pub struct AnnouncementKey {
    /// The key, among those of the sender.
    pub key: Uuid,
    /// Keys that were used before this are not known any more, in milliseconds since 1970 UTC.
    pub known_since_ms: i64,
}

/// What became of a request to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It is kept, and all nodes are told.
    Now,
    /// This was announced under its key before, and may be over by now.
    Before(Announcement),
    /// As many as may be are in force.
    TooMany,
}

/// Keeps announcements.
#[async_trait]
pub trait Announcements {
    /// Keeps an announcement, and tells all nodes; once, however often the same key comes from the same sender.
    async fn announce(
        &self,
        announcement: &Announcement,
        key: Option<AnnouncementKey>,
    ) -> Result<Announced, StoreError>;

    /// The announcements that are in force at this time, by their ids, from behind `after` on.
    async fn announcements(
        &self,
        after: Option<Uuid>,
        limit: usize,
        now_ms: i64,
    ) -> Result<Vec<Announcement>, StoreError>;

    /// Ends an announcement, and tells all nodes. `false` when none of that id is in force at this time.
    async fn end_announcement(&self, id: Uuid, now_ms: i64) -> Result<bool, StoreError>;
}

/// What is read of an announcement.
pub(super) type AnnouncementRow = (Uuid, String, String, i64, Option<i64>);

/// A row as an announcement.
pub(super) fn announcement((id, sender, text, time_ms, until_ms): AnnouncementRow) -> Announcement {
    Announcement { id, sender: sender.into(), text, time_ms, until_ms }
}

/// Implements [`Announcements`] for a store with a pool of sqlx's. `$lock` is a statement that lets one transaction at a time go on. The
/// store's transaction has `tell_announced`.
macro_rules! announcements {
    ($store:ty, $lock:literal) => {
        #[async_trait::async_trait]
        impl $crate::store::announcements::Announcements for $store {
            async fn announce(
                &self,
                announcement: &$crate::store::announcements::Announcement,
                key: Option<$crate::store::announcements::AnnouncementKey>,
            ) -> Result<$crate::store::announcements::Announced, $crate::store::StoreError> {
                use $crate::store::announcements::{
                    ANNOUNCEMENT_KEYS_MAX, ANNOUNCEMENTS_MAX, Announced, Announcement, AnnouncementKey, AnnouncementRow,
                };
                let Announcement { id, sender, text, time_ms, until_ms } = announcement;
                let mut tx = self.begin().await?;
                // Two that count at the same time would both find room.
                sqlx::query($lock).execute(&mut *tx.0).await?;
                let key = key.map(|AnnouncementKey { key, known_since_ms }| ($crate::store::outbox_key(sender, key), known_since_ms));
                if let Some((key, known_since_ms)) = key {
                    let forget = "DELETE FROM announcement_keys WHERE time_ms < $1";
                    sqlx::query(forget).bind(known_since_ms).execute(&mut *tx.0).await?;
                    let before: Option<AnnouncementRow> = sqlx::query_as(
                        "SELECT id, sender, body, time_ms, until_ms FROM announcement_keys WHERE key = $1",
                    )
                    .bind(key)
                    .fetch_optional(&mut *tx.0)
                    .await?;
                    if let Some(before) = before {
                        tx.commit().await?;
                        return Ok(Announced::Before($crate::store::announcements::announcement(before)));
                    }
                }
                sqlx::query("DELETE FROM announcements WHERE until_ms <= $1").bind(time_ms).execute(&mut *tx.0).await?;
                let in_force: i64 =
                    sqlx::query_scalar("SELECT count(*) FROM announcements").fetch_one(&mut *tx.0).await?;
                if usize::try_from(in_force).is_ok_and(|number| number >= ANNOUNCEMENTS_MAX) {
                    return Ok(Announced::TooMany);
                }
                sqlx::query("INSERT INTO announcements (id, sender, body, time_ms, until_ms) VALUES ($1, $2, $3, $4, $5)")
                    .bind(id)
                    .bind(&**sender)
                    .bind(text)
                    .bind(time_ms)
                    .bind(until_ms)
                    .execute(&mut *tx.0)
                    .await?;
                if let Some((key, _)) = key {
                    sqlx::query(
                        "INSERT INTO announcement_keys (key, id, sender, body, time_ms, until_ms)
                         SELECT $1, id, sender, body, time_ms, until_ms FROM announcements WHERE id = $2",
                    )
                    .bind(key)
                    .bind(id)
                    .execute(&mut *tx.0)
                    .await?;
                    sqlx::query(
                        "DELETE FROM announcement_keys WHERE key IN (
                             SELECT key FROM announcement_keys ORDER BY time_ms DESC, id DESC LIMIT 1000 OFFSET $1
                         )",
                    )
                    .bind(ANNOUNCEMENT_KEYS_MAX)
                    .execute(&mut *tx.0)
                    .await?;
                }
                tx.tell_announced().await?;
                tx.commit().await?;
                Ok(Announced::Now)
            }

            async fn announcements(
                &self,
                after: Option<uuid::Uuid>,
                limit: usize,
                now_ms: i64,
            ) -> Result<Vec<$crate::store::announcements::Announcement>, $crate::store::StoreError> {
                let rows: Vec<$crate::store::announcements::AnnouncementRow> = sqlx::query_as(
                    "SELECT id, sender, body, time_ms, until_ms FROM announcements
                     WHERE id > $1 AND (until_ms IS NULL OR until_ms > $2) ORDER BY id LIMIT $3",
                )
                .bind(after.unwrap_or_default())
                .bind(now_ms)
                .bind(limit as i64)
                .fetch_all(&self.gate.pool()?)
                .await?;
                Ok(rows.into_iter().map($crate::store::announcements::announcement).collect())
            }

            async fn end_announcement(&self, id: uuid::Uuid, now_ms: i64) -> Result<bool, $crate::store::StoreError> {
                let mut tx = self.begin().await?;
                let delete = "DELETE FROM announcements WHERE id = $1 AND (until_ms IS NULL OR until_ms > $2)";
                let ended = sqlx::query(delete).bind(id).bind(now_ms).execute(&mut *tx.0).await?.rows_affected() == 1;
                if ended {
                    tx.tell_announced().await?;
                }
                tx.commit().await?;
                Ok(ended)
            }
        }
    };
}
pub(super) use announcements;

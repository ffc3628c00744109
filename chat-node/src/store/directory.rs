//! What is read in pages: a user's rooms, a room's members, the public rooms.
//!
//! A page begins behind the last row of the one before, so that what changes meanwhile neither repeats nor hides a row. No page
//! takes a lock.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Member, StoreError};
use crate::event::{Kind, Seat, Seq};

/// A public room, as whoever looks for one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// How many members it has.
    pub members: i32,
}

/// Latest events of a room among which the one that ended a membership is looked for.
pub(super) const ENDING_EVENTS_MAX: i64 = 10_000;

/// Reads in pages. `limit` is at least 1.
#[async_trait]
pub trait Directory {
    /// Notes that the user was here, so that others can find the user.
    async fn note_user(&self, user: &str, now_ms: i64) -> Result<(), StoreError>;

    /// The room, if the user is a member of it.
    async fn room_of(&self, user: &str, room: Uuid) -> Result<Option<Seat>, StoreError>;

    /// The user's rooms by their ids, from behind `after` on.
    async fn rooms_of(&self, user: &str, after: Option<Uuid>, limit: usize) -> Result<Vec<Seat>, StoreError>;

    /// A room's members by their names, from behind `after` on.
    async fn members(&self, room: Uuid, after: &str, limit: usize) -> Result<Vec<Member>, StoreError>;

    /// How the user's membership of a room ended, by the latest event after a position that tells of it: left, kicked or banned; and that
    /// event's position. `None` when no such event is among the latest that are kept.
    async fn ending(&self, user: &str, room: Uuid, after: Seq) -> Result<Option<(Kind, Seq)>, StoreError>;

    /// The public rooms whose names begin with `prefix`, by the bytes of their names, from behind `after` on.
    async fn directory(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, StoreError>;
}

/// Implements [`Directory`] for a store with a pool of sqlx's. These are SQL: `$name`, a room's name in the order of its bytes, and
/// `$whom`, the user whom an event's `details` name.
macro_rules! directory {
    ($store:ty, $name:literal, $whom:literal) => {
        #[async_trait::async_trait]
        impl $crate::store::directory::Directory for $store {
            async fn note_user(&self, user: &str, now_ms: i64) -> Result<(), $crate::store::StoreError> {
                sqlx::query("INSERT INTO users (name, created_ms) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
                    .bind(user)
                    .bind(now_ms)
                    .execute(&self.gate.pool()?)
                    .await?;
                Ok(())
            }

            async fn room_of(
                &self,
                user: &str,
                room: uuid::Uuid,
            ) -> Result<Option<$crate::event::Seat>, $crate::store::StoreError> {
                let row: Option<$crate::store::rows::SeatRow> =
                    sqlx::query_as(concat!($crate::store::rows::select_seats!(), "m.member = $1 AND m.room = $2"))
                        .bind(user)
                        .bind(room)
                        .fetch_optional(&self.gate.pool()?)
                        .await?;
                Ok(row.map($crate::store::rows::seat))
            }

            async fn rooms_of(
                &self,
                user: &str,
                after: Option<uuid::Uuid>,
                limit: usize,
            ) -> Result<Vec<$crate::event::Seat>, $crate::store::StoreError> {
                let rows: Vec<$crate::store::rows::SeatRow> = sqlx::query_as(concat!(
                    $crate::store::rows::select_seats!(),
                    "m.member = $1 AND m.room > $2 ORDER BY m.room LIMIT $3"
                ))
                .bind(user)
                .bind(after.unwrap_or_default())
                .bind(limit as i64)
                .fetch_all(&self.gate.pool()?)
                .await?;
                Ok(rows.into_iter().map($crate::store::rows::seat).collect())
            }

            async fn members(
                &self,
                room: uuid::Uuid,
                after: &str,
                limit: usize,
            ) -> Result<Vec<$crate::store::Member>, $crate::store::StoreError> {
                let query = sqlx::query_as($crate::store::rows::MEMBERS).bind(room).bind(after).bind(limit as i64);
                let found: Vec<$crate::store::rows::MemberRow> = query.fetch_all(&self.gate.pool()?).await?;
                Ok(found.into_iter().map($crate::store::rows::member).collect())
            }

            async fn ending(
                &self,
                user: &str,
                room: uuid::Uuid,
                after: $crate::event::Seq,
            ) -> Result<Option<($crate::event::Kind, $crate::event::Seq)>, $crate::store::StoreError> {
                use $crate::event::Kind;
                let ending: Option<(i16, i64)> = sqlx::query_as(concat!(
                    "SELECT kind, seq FROM events WHERE room = $1 AND seq > $2
                         AND seq > (SELECT head FROM rooms WHERE id = $1) - $4
                         AND (kind = $5 AND sender = $3 OR kind IN ($6, $7) AND ",
                    $whom,
                    " = $3) ORDER BY seq DESC LIMIT 1"
                ))
                .bind(room)
                .bind(after)
                .bind(user)
                .bind($crate::store::directory::ENDING_EVENTS_MAX)
                .bind(Kind::Left as i16)
                .bind(Kind::Kicked as i16)
                .bind(Kind::Banned as i16)
                .fetch_optional(&self.gate.pool()?)
                .await?;
                Ok(ending.map(|(kind, seq)| (Kind::from_number(kind), seq)))
            }

            async fn directory(
                &self,
                prefix: &str,
                after: &str,
                limit: usize,
            ) -> Result<Vec<$crate::store::directory::Listed>, $crate::store::StoreError> {
                // The prefix as a range, so that it is found in an index and not by reading all names.
                let rows: Vec<(uuid::Uuid, String, i32)> = sqlx::query_as(concat!(
                    "SELECT id, name, members FROM rooms WHERE kind = $1 AND name IS NOT NULL AND ",
                    concat!($name, " > $2 AND ", $name, " >= $3 AND ", $name, " <= $4 ORDER BY ", $name, " LIMIT $5")
                ))
                .bind($crate::event::RoomKind::Public as i16)
                .bind(after)
                .bind(prefix)
                .bind(format!("{prefix}{}", char::MAX))
                .bind(limit as i64)
                .fetch_all(&self.gate.pool()?)
                .await?;
                Ok(rows
                    .into_iter()
                    .map(|(id, name, members)| $crate::store::directory::Listed { id, name, members })
                    .collect())
            }
        }
    };
}
pub(super) use directory;

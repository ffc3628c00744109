//! Pages of rooms and members.

use async_trait::async_trait;
use uuid::Uuid;

use super::PostgresStore;
use crate::{
    event::{RoomKind, Seat},
    store::{
        Member, StoreError,
        directory::{Directory, Listed},
        rows::{self, MemberRow, SeatRow, room_columns, seat_columns},
    },
};

#[async_trait]
impl Directory for PostgresStore {
    async fn note_user(&self, user: &str, now_ms: i64) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO users (name, created_ms) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(user)
            .bind(now_ms)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn room_of(&self, user: &str, room: Uuid) -> Result<Option<Seat>, StoreError> {
        let row: Option<SeatRow> = sqlx::query_as(concat!(
            "SELECT ",
            room_columns!(),
            ", ",
            seat_columns!(),
            " FROM rooms r JOIN members m ON m.room = r.id WHERE m.member = $1 AND m.room = $2"
        ))
        .bind(user)
        .bind(room)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(rows::seat))
    }

    async fn rooms_of(&self, user: &str, after: Option<Uuid>, limit: usize) -> Result<Vec<Seat>, StoreError> {
        let rows: Vec<SeatRow> = sqlx::query_as(concat!(
            "SELECT ",
            room_columns!(),
            ", ",
            seat_columns!(),
            " FROM rooms r JOIN members m ON m.room = r.id WHERE m.member = $1 AND m.room > $2 ORDER BY m.room LIMIT $3"
        ))
        .bind(user)
        .bind(after.unwrap_or_default())
        .bind(limit as i64)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(rows::seat).collect())
    }

    async fn members(&self, room: Uuid, after: &str, limit: usize) -> Result<Vec<Member>, StoreError> {
        let query = sqlx::query_as(rows::MEMBERS).bind(room).bind(after).bind(limit as i64);
        let found: Vec<MemberRow> = query.fetch_all(&self.pool).await?;
        Ok(found.into_iter().map(rows::member).collect())
    }

    async fn directory(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let rows: Vec<(Uuid, String, i32)> = sqlx::query_as(
            "SELECT id, name, members FROM rooms
             WHERE kind = $1 AND name > $2 AND starts_with(name, $3) ORDER BY name LIMIT $4",
        )
        .bind(RoomKind::Public as i16)
        .bind(after)
        .bind(prefix)
        .bind(limit as i64)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(id, name, members)| Listed { id, name, members }).collect())
    }
}

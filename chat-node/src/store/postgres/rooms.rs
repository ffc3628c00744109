//! The statements that rooms and members need.

use async_trait::async_trait;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::hints;
use crate::{
    event::{EventBody, Role, Room, RoomKind, User},
    store::{
        Head, StoreError,
        expiry::expiry_transaction,
        rooms::{COUNT_ROOMS, RoomCounts, RoomTransaction},
        rows::{self, RoomRow, room_columns},
        statements::life_transaction,
    },
};

/// A transaction on one connection of the pool. Dropped without a commit, it is rolled back.
pub(super) struct PostgresTransaction(pub(super) Transaction<'static, Postgres>);

impl PostgresTransaction {
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

#[async_trait]
impl RoomTransaction for PostgresTransaction {
    async fn room(&mut self, id: Uuid) -> Result<Option<(Room, i32)>, StoreError> {
        let row: Option<RoomRow> =
            sqlx::query_as(concat!("SELECT ", room_columns!(), " FROM rooms r WHERE r.id = $1 FOR UPDATE"))
                .bind(id)
                .fetch_optional(&mut *self.0)
                .await?;
        Ok(row.map(rows::room))
    }

    async fn room_named(&mut self, name: &str) -> Result<Option<Uuid>, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM rooms WHERE name = $1").bind(name).fetch_optional(&mut *self.0).await?)
    }

    async fn room_direct(&mut self, key: &str) -> Result<Option<Uuid>, StoreError> {
        let query = sqlx::query_scalar("SELECT id FROM rooms WHERE direct_key = $1");
        Ok(query.bind(key).fetch_optional(&mut *self.0).await?)
    }

    async fn insert_room(&mut self, room: &Room, key: Option<&str>, now_ms: i64) -> Result<bool, StoreError> {
        let (first, second) = room.pair.clone().unzip();
        let (name, title) =
            if room.kind == RoomKind::Private { (None, room.name.as_deref()) } else { (room.name.as_deref(), None) };
        let done = sqlx::query(
            "INSERT INTO rooms (id, kind, name, first, second, direct_key, epoch, head, created_ms, title)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
        )
        .bind(room.id)
        .bind(room.kind as i16)
        .bind(name)
        .bind(first.as_deref())
        .bind(second.as_deref())
        .bind(key)
        .bind(room.epoch)
        .bind(room.head)
        .bind(now_ms)
        .bind(title)
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn user_exists(&mut self, user: &str) -> Result<bool, StoreError> {
        let found: Option<i32> =
            sqlx::query_scalar("SELECT 1 FROM users WHERE name = $1").bind(user).fetch_optional(&mut *self.0).await?;
        Ok(found.is_some())
    }

    async fn rooms_of(&mut self, user: &str) -> Result<RoomCounts, StoreError> {
        Ok(sqlx::query_as(COUNT_ROOMS).bind(user).fetch_one(&mut *self.0).await?)
    }

    async fn add_member(&mut self, room: &Room, user: &str, role: Role, now_ms: i64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "WITH added AS (
                 INSERT INTO members (member, room, role, joined_ms, read_seq) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT DO NOTHING RETURNING room
             ) UPDATE rooms SET members = members + 1 FROM added WHERE rooms.id = added.room",
        )
        .bind(user)
        .bind(room.id)
        .bind(role as i16)
        .bind(now_ms)
        .bind(room.head)
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn remove_member(&mut self, room: Uuid, user: &str) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "WITH removed AS (
                 DELETE FROM members WHERE member = $1 AND room = $2 RETURNING room
             ) UPDATE rooms SET members = members - 1 FROM removed WHERE rooms.id = removed.room",
        )
        .bind(user)
        .bind(room)
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn log(&mut self, event: &EventBody) -> Result<(), StoreError> {
        sqlx::query(
            "WITH logged AS (
                 INSERT INTO events (room, epoch, seq, id, kind, sender, time_ms, body, details)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ) UPDATE rooms SET head = $3 WHERE id = $1",
        )
        .bind(event.room)
        .bind(event.epoch)
        .bind(event.seq)
        .bind(event.id)
        .bind(event.kind as i16)
        .bind(&*event.sender)
        .bind(event.time)
        .bind(&event.text)
        .bind(rows::details(event))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn announce(&mut self, heads: &[Head], users: &[&User]) -> Result<(), StoreError> {
        sqlx::query("SELECT pg_notify($1, payload) FROM UNNEST($2::text[]) AS payload")
            .bind(hints::CHANNEL)
            .bind(hints::payloads(&heads.iter().map(|head| (head.room, head.seq)).collect::<Vec<_>>(), users))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }
}

life_transaction!(PostgresTransaction);
expiry_transaction!(
    PostgresTransaction,
    " FOR UPDATE SKIP LOCKED",
    "SELECT json_array_elements_text(CAST($3 AS json))"
);

//! The statements that rooms, members and arrivals need.

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use crate::{
    event::{EventBody, Role, Room, RoomKind, User},
    store::{
        Head, StoreError,
        expiry::expiry_transaction,
        plan::RESULTS_TRIMMED_MAX,
        rooms::{COUNT_ROOMS, RoomCounts, RoomTransaction},
        rows::{self, RoomRow, room_columns},
        statements::life_transaction,
    },
};

/// A writing transaction: the only one at its time. Dropped without a commit, it is rolled back.
pub(super) struct SqliteTransaction(pub(super) Transaction<'static, Sqlite>);

impl SqliteTransaction {
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }

    /// Notes that the user was here.
    pub(super) async fn note_user(&mut self, user: &str, now_ms: i64) -> Result<(), StoreError> {
        let query = "INSERT INTO users (name, created_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        sqlx::query(query).bind(user).bind(now_ms).execute(&mut *self.0).await?;
        Ok(())
    }

    /// Opens an outbox, drops some of the results that are too old to be asked for and that appending has left, and tells its last number.
    pub(super) async fn open_outbox(&mut self, key: Uuid, kept: i64, now_ms: i64) -> Result<i64, StoreError> {
        let last: i64 = sqlx::query_scalar(
            "INSERT INTO outboxes (key, last, touched_ms) VALUES ($1, 0, $2)
             ON CONFLICT (key) DO UPDATE SET touched_ms = MAX(touched_ms, $2) RETURNING last",
        )
        .bind(key)
        .bind(now_ms)
        .fetch_one(&mut *self.0)
        .await?;
        let delete = sqlx::query(
            "DELETE FROM outbox_results WHERE outbox = $1
             AND n <= min($2, (SELECT min(n) FROM outbox_results WHERE outbox = $1) + $3)",
        );
        delete.bind(key).bind(last - kept).bind(RESULTS_TRIMMED_MAX).execute(&mut *self.0).await?;
        Ok(last)
    }

    /// Keeps the room's count in step with a change of `members`, when there was one.
    async fn count_members(&mut self, changed: u64, by: i32, room: Uuid) -> Result<bool, StoreError> {
        if changed == 0 {
            return Ok(false);
        }
        let count = sqlx::query("UPDATE rooms SET members = members + $1 WHERE id = $2");
        count.bind(by).bind(room).execute(&mut *self.0).await?;
        Ok(true)
    }
}

#[async_trait]
impl RoomTransaction for SqliteTransaction {
    async fn room(&mut self, id: Uuid) -> Result<Option<(Room, i32)>, StoreError> {
        let query = sqlx::query_as(concat!("SELECT ", room_columns!(), " FROM rooms r WHERE r.id = $1")).bind(id);
        let row: Option<RoomRow> = query.fetch_optional(&mut *self.0).await?;
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
        let query = sqlx::query_scalar("SELECT 1 FROM users WHERE name = $1").bind(user);
        let found: Option<i32> = query.fetch_optional(&mut *self.0).await?;
        Ok(found.is_some())
    }

    async fn rooms_of(&mut self, user: &str) -> Result<RoomCounts, StoreError> {
        Ok(sqlx::query_as(COUNT_ROOMS).bind(user).fetch_one(&mut *self.0).await?)
    }

    async fn add_member(&mut self, room: &Room, user: &str, role: Role, now_ms: i64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO members (member, room, role, joined_ms, read_seq) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(user)
        .bind(room.id)
        .bind(role as i16)
        .bind(now_ms)
        .bind(room.head)
        .execute(&mut *self.0)
        .await?;
        self.count_members(done.rows_affected(), 1, room.id).await
    }

    async fn remove_member(&mut self, room: Uuid, user: &str) -> Result<bool, StoreError> {
        let delete = sqlx::query("DELETE FROM members WHERE member = $1 AND room = $2").bind(user).bind(room);
        let done = delete.execute(&mut *self.0).await?;
        self.count_members(done.rows_affected(), -1, room).await
    }

    async fn log(&mut self, event: &EventBody) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO events (room, epoch, seq, id, kind, sender, time_ms, body, details)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
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
        let head = sqlx::query("UPDATE rooms SET head = $2 WHERE id = $1").bind(event.room).bind(event.seq);
        head.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn announce(&mut self, _heads: &[Head], _users: &[&User]) -> Result<(), StoreError> {
        // There is no other node.
        Ok(())
    }
}

life_transaction!(SqliteTransaction);
expiry_transaction!(SqliteTransaction, "", "SELECT value FROM json_each($3)");

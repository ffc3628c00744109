//! The store in a SQLite file, for one node.
//!
//! The same rules as in PostgreSQL, with simpler means: writes take turns (`BEGIN IMMEDIATE`), so there is nothing to lock, and
//! there is no other node to tell. The file is in WAL mode with full synchronization: a commit survives a power cut.

mod announcements;
mod append;
mod logins;
mod outboxes;
mod outcomes;
mod rolls;
mod rooms;

use std::path::Path;

use async_trait::async_trait;
use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use self::rooms::SqliteTransaction;
use super::{
    Answer, Append, Arrival, Changed, DeadLetter, Expired, Head, Hint, Page, STATEMENT_SECONDS_MAX, SendKey, Store,
    StoreError, StoreLimits, Tally, Unread,
    directory::directory,
    expiry,
    gate::{Gate, Pools},
    moderation, outbox_key, rooms as logic,
    rows::{self, EventRow, MembershipRow, SeatRow, TallyRow, UnreadRow, event_columns, select_seats},
};
use crate::{
    event::{RoomKind, Seat, Seq, User},
    protocol::{Code, Command, HistoryRange, Position, RoomReference},
};

/// Readers do not wait for the writer in WAL mode; this many is plenty for one node.
const CONNECTIONS_MAX: u32 = 4;

/// And these are for sends alone, of which one batch is on its way at a time, and to ask whether the file is there.
const SENDS_CONNECTIONS_MAX: u32 = 2;

/// Room logs in a file.
pub struct SqliteStore {
    gate: Gate<Sqlite>,
    limits: StoreLimits,
}

impl SqliteStore {
    /// Those of these positions whose event is another one in the log.
    async fn contradicted(&self, positions: &[Position]) -> Result<Vec<Uuid>, StoreError> {
        let mut rooms = Vec::new();
        for (at, event) in positions.iter().filter_map(|at| Some((at, at.event?))) {
            let query = sqlx::query_scalar("SELECT room FROM events WHERE room = $1 AND seq = $2 AND id <> $3");
            let room: Option<Uuid> =
                query.bind(at.room).bind(at.seq).bind(event).fetch_optional(&self.gate.pool()?).await?;
            rooms.extend(room);
        }
        Ok(rooms)
    }

    /// Prepares to open the file, which is created when absent.
    pub fn new(path: &Path, limits: StoreLimits) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(STATEMENT_SECONDS_MAX);
        let of =
            move |connections| SqlitePoolOptions::new().max_connections(connections).connect_lazy_with(options.clone());
        let gate = Gate::new(move || Pools { others: of(CONNECTIONS_MAX), sends: of(SENDS_CONNECTIONS_MAX) });
        SqliteStore { gate, limits }
    }

    async fn begin(&self) -> Result<SqliteTransaction, StoreError> {
        begin(&self.gate.pool()?).await
    }
}

async fn begin(pool: &SqlitePool) -> Result<SqliteTransaction, StoreError> {
    // A transaction that begins as a reader cannot always become a writer.
    Ok(SqliteTransaction(pool.begin_with("BEGIN IMMEDIATE").await?))
}

directory!(SqliteStore, "name", "details ->> 'user'");

#[async_trait]
impl Store for SqliteStore {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        // A node of the previous version starts on what a newer one has migrated: migrations only add.
        sqlx::migrate!("migrations/sqlite").set_ignore_missing(true).run(&self.gate.without_tables()).await?;
        self.gate.open();
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.gate.to_ping()).await?;
        Ok(())
    }

    async fn is_synchronous(&self) -> Result<Option<bool>, StoreError> {
        // There is one file, and nothing to replicate to.
        Ok(None)
    }

    async fn create_account(&self, user: &str, password_hash: &str, now_ms: i64) -> Result<bool, StoreError> {
        let query = "INSERT INTO users (name, password_hash, created_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let done = sqlx::query(query).bind(user).bind(password_hash).bind(now_ms).execute(&self.gate.pool()?).await?;
        Ok(done.rows_affected() == 1)
    }

    async fn password_hash(&self, user: &str) -> Result<Option<String>, StoreError> {
        let query = sqlx::query_scalar("SELECT password_hash FROM users WHERE name = $1").bind(user);
        let hash: Option<Option<String>> = query.fetch_optional(&self.gate.pool()?).await?;
        Ok(hash.flatten())
    }

    async fn arrive(
        &self,
        user: &str,
        outbox: Option<Uuid>,
        resume: &[Position],
        now_ms: i64,
    ) -> Result<Arrival, StoreError> {
        let mut tx = self.begin().await?;
        tx.note_user(user, now_ms).await?;
        let outbox_last = match outbox {
            Some(outbox) => tx.open_outbox(outbox_key(user, outbox), self.limits.outbox_results_kept, now_ms).await?,
            None => 0,
        };
        tx.commit().await?;
        let rooms: Vec<SeatRow> = sqlx::query_as(concat!(select_seats!(), "m.member = $1 ORDER BY r.id"))
            .bind(user)
            .fetch_all(&self.gate.pool()?)
            .await?;
        let contradicted = self.contradicted(resume).await?;
        Ok(Arrival { rooms: rooms.into_iter().map(rows::seat).collect(), outbox_last, contradicted })
    }

    async fn create_room(&self, user: &User, name: &str, kind: RoomKind, now_ms: i64) -> Result<Changed, StoreError> {
        let mut tx = self.begin().await?;
        let changed = logic::create(&mut tx, user, name, kind, now_ms, self.limits).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn join(&self, user: &User, room: &RoomReference, now_ms: i64) -> Result<Changed, StoreError> {
        let mut tx = self.begin().await?;
        let changed = logic::join(&mut tx, user, room, now_ms, self.limits).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn leave(&self, user: &User, room: Uuid, now_ms: i64) -> Result<Changed, StoreError> {
        let mut tx = self.begin().await?;
        let changed = logic::leave(&mut tx, user, room, now_ms).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn direct(&self, user: &User, other: &User, now_ms: i64) -> Result<Changed, StoreError> {
        let mut tx = self.begin().await?;
        let changed = logic::direct(&mut tx, user, other, now_ms, self.limits).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn carry_out(&self, user: &User, command: &Command, now_ms: i64) -> Result<Changed, StoreError> {
        let mut tx = self.begin().await?;
        let changed = moderation::carry_out(&mut tx, user, command, now_ms, self.limits).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn tallies(&self, room: Uuid, user: &str, from: Seq, to: Seq) -> Result<Vec<Tally>, StoreError> {
        let query = sqlx::query_as(rows::TALLIES).bind(room).bind(user).bind(from).bind(to);
        let found: Vec<TallyRow> = query.fetch_all(&self.gate.pool()?).await?;
        Ok(found.into_iter().map(rows::tally).collect())
    }

    async fn read(&self, user: &str, room: Uuid, seq: Seq) -> Result<(Seq, bool), StoreError> {
        let query = sqlx::query_scalar(rows::READ).bind(user).bind(room).bind(seq);
        let moved: Option<i64> = query.fetch_optional(&self.gate.pool()?).await?;
        if let Some(read) = moved {
            return Ok((read, true));
        }
        let query = sqlx::query_scalar(rows::CURSOR).bind(user).bind(room);
        let read: Option<i64> = query.fetch_optional(&self.gate.pool()?).await?;
        read.map(|read| (read, false)).ok_or(StoreError::Refused(Code::NotAMember))
    }

    async fn unread(&self, user: &str) -> Result<Vec<Unread>, StoreError> {
        let found: Vec<UnreadRow> = sqlx::query_as(rows::UNREAD).bind(user).fetch_all(&self.gate.pool()?).await?;
        Ok(found.into_iter().map(rows::unread).collect())
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Answer>, StoreError> {
        let mut tx = begin(&self.gate.sends()?).await?;
        let answers = append::append(&mut tx, batch, self.limits.outbox_results_kept).await?;
        tx.commit().await?;
        Ok(answers)
    }

    async fn outcomes(&self, sends: &[SendKey]) -> Result<Vec<Option<Answer>>, StoreError> {
        outcomes::outcomes(&self.gate.pool()?, sends).await
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() { Ok(()) } else { outcomes::bury(&self.gate.pool()?, letters).await }
    }

    async fn page(&self, room: Uuid, range: HistoryRange, limit: usize) -> Result<Page, StoreError> {
        let epoch = sqlx::query_scalar("SELECT epoch FROM rooms WHERE id = $1")
            .bind(room)
            .fetch_one(&self.gate.pool()?)
            .await?;
        let forwards = range.after.is_some();
        let query = if forwards {
            concat!("SELECT ", event_columns!(), " FROM events WHERE room = $1 AND seq > $2 ORDER BY seq LIMIT $3")
        } else {
            concat!("SELECT ", event_columns!(), " FROM events WHERE room = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3")
        };
        let rows: Vec<EventRow> = sqlx::query_as(query)
            .bind(room)
            .bind(range.after.or(range.before).unwrap_or(i64::MAX))
            .bind(limit as i64 + 1)
            .fetch_all(&self.gate.pool()?)
            .await?;
        Ok(super::page_of(rows, epoch, limit, forwards))
    }

    async fn expire(&self, before_ms: i64, now_ms: i64, limit: usize) -> Result<Expired, StoreError> {
        let mut tx = self.begin().await?;
        let expired = expiry::expire(&mut tx, before_ms, now_ms, limit).await?;
        tx.commit().await?;
        Ok(expired)
    }

    async fn heads(&self, rooms: &[Uuid]) -> Result<Vec<Head>, StoreError> {
        let mut heads = Vec::with_capacity(rooms.len());
        for &room in rooms {
            let query = sqlx::query_as("SELECT epoch, head FROM rooms WHERE id = $1").bind(room);
            let head: Option<(i32, i64)> = query.fetch_optional(&self.gate.pool()?).await?;
            heads.extend(head.map(|(epoch, seq)| Head { room, epoch, seq }));
        }
        Ok(heads)
    }

    async fn memberships(&self, users: &[User]) -> Result<Vec<(User, Seat)>, StoreError> {
        let mut found = Vec::new();
        for user in users {
            let rows: Vec<MembershipRow> = sqlx::query_as(concat!(select_seats!(), "m.member = $1"))
                .bind(&**user)
                .fetch_all(&self.gate.pool()?)
                .await?;
            found.extend(rows.into_iter().map(rows::membership));
        }
        Ok(found)
    }

    async fn hints(&self) -> Option<mpsc::Receiver<Hint>> {
        None
    }

    fn renew(&self) {
        self.gate.renew();
    }

    async fn close(&self) {
        self.gate.close().await;
    }
}

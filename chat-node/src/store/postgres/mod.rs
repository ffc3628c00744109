//! The store on PostgreSQL, shared by all nodes.
//!
//! Owns the pool and the statements. Locks are always taken rooms first and outboxes second, each in id order, so that nodes
//! wait for each other but never deadlock.

mod announcements;
mod append;
mod arrivals;
mod hints;
mod lineage;
mod logins;
mod outboxes;
mod outcomes;
mod rolls;
mod rooms;

use std::{str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    migrate::{Migrate, MigrateError},
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use uuid::Uuid;

use self::{
    arrivals::{Arrivals, Arriving},
    lineage::Known,
    rooms::PostgresTransaction,
};
use super::{
    Answer, Append, Arrival, Changed, DeadLetter, Expired, Head, Hint, Page, STATEMENT_SECONDS_MAX, SendKey, Store,
    StoreError, StoreLimits, Tally, Unread,
    directory::directory,
    expiry,
    gate::{Gate, Pools},
    moderation, rooms as logic,
    rows::{self, EventRow, MembershipRow, TallyRow, UnreadRow, event_columns, select_seats},
};
use crate::{
    event::{RoomKind, Seat, Seq, User},
    protocol::{Code, Command, HistoryRange, Position, RoomReference},
};

/// How long a request waits for a free connection of the pool.
const ACQUIRE_SECONDS_MAX: Duration = Duration::from_secs(5);

/// Connections that only sends take, and whoever asks whether the database is there: each lane has one batch on its way at a time.
const SENDS_CONNECTIONS_MAX: u32 = 3;

/// Connections that have to be left for everything else, one of which listens; with fewer, all are shared.
const OTHERS_CONNECTIONS_MIN: u32 = 3;

/// Time between attempts of a migration that is locked out, by a backup for instance: nodes of the version before go on meanwhile.
const LOCKED_OUT_SECONDS: Duration = Duration::from_secs(10);

/// How the server finds out within half a minute that a node is gone without a word, in seconds and milliseconds. Its own defaults take hours.
const KEEPALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

/// Room logs in a PostgreSQL database.
pub struct PostgresStore {
    gate: Arc<Gate<Postgres>>,
    lineage: Arc<Known>,
    limits: StoreLimits,
    arrivals: Arrivals,
}

impl PostgresStore {
    /// Prepares a pool without connecting yet. With certificates (`ca`, in PEM) the server's is verified, and its name too unless the URL has an
    /// `sslmode` of its own.
    ///
    /// # Errors
    /// When the URL makes no sense.
    pub fn new(url: &str, ca: Option<Vec<u8>>, connections_max: u32, limits: StoreLimits) -> Result<Self, sqlx::Error> {
        let statement_timeout = STATEMENT_SECONDS_MAX.as_millis().to_string();
        let mut options = PgConnectOptions::from_str(url)?
            .application_name("chat-node")
            .options([("statement_timeout", statement_timeout.as_str()), ("lock_timeout", statement_timeout.as_str())])
            // A node that is cut off within a transaction must not keep its rooms locked from all others.
            .options([("idle_in_transaction_session_timeout", statement_timeout.as_str())])
            .options(KEEPALIVE);
        if let Some(ca) = ca {
            options = options.ssl_root_cert_from_pem(ca);
            if !url.contains("sslmode=") && !url.contains("ssl-mode=") {
                options = options.ssl_mode(PgSslMode::VerifyFull);
            }
        }
        let lineage = Arc::new(Known::default());
        let looked_at = (lineage.clone(), options.clone());
        let pools = PgPoolOptions::new().acquire_timeout(ACQUIRE_SECONDS_MAX).after_connect(move |connection, _| {
            let (known, options) = looked_at.clone();
            Box::pin(async move { known.check(connection, &options).await })
        });
        let gate = Gate::new(move || {
            let of = |connections| pools.clone().max_connections(connections).connect_lazy_with(options.clone());
            match connections_max.saturating_sub(SENDS_CONNECTIONS_MAX) {
                ..OTHERS_CONNECTIONS_MIN => {
                    let shared = of(connections_max);
                    Pools { others: shared.clone(), sends: shared }
                }
                others => Pools { others: of(others), sends: of(SENDS_CONNECTIONS_MAX) },
            }
        });
        Ok(PostgresStore { gate: Arc::new(gate), lineage, limits, arrivals: Arrivals::default() })
    }

    async fn begin(&self) -> Result<PostgresTransaction, StoreError> {
        Ok(PostgresTransaction(self.gate.pool()?.begin().await?))
    }
}

/// Brings the schema up to date. Several nodes can start at once, and a node of the previous version on what a newer one has migrated:
/// migrations only add.
async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    // Of the session: it ends with the connection, however this does.
    connection.lock().await?;
    // Whoever waits for a table makes all others wait that come after. And a large table may take its time.
    sqlx::raw_sql("SET lock_timeout = '1s'; SET statement_timeout = 0").execute(&mut *connection).await?;
    let mut migrations = sqlx::migrate!("migrations/postgres");
    migrations.set_ignore_missing(true).set_locking(false);
    // As `run`, which the compiler does not see to be `Send` with a borrowed connection.
    migrations.run_direct(None, connection, false).await
}

/// Whether somebody holds a table that a migration has to change.
fn is_locked_out(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else { return false };
    // https://www.postgresql.org/docs/current/errcodes-appendix.html: lock_not_available
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("55P03")
}

directory!(PostgresStore, "name COLLATE \"C\"", "CAST(details AS json) ->> 'user'");

#[async_trait]
impl Store for PostgresStore {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        // On a connection of its own: a pool's is refused without a reason, and would keep sqlx's lock when a migration fails.
        let pool = self.gate.without_tables();
        let mut connection = timeout(ACQUIRE_SECONDS_MAX, pool.connect_options().connect())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)??;
        let migrated = migrate(&mut connection).await;
        connection.close().await?;
        if matches!(&migrated, Err(error) if is_locked_out(error)) {
            sleep(LOCKED_OUT_SECONDS).await;
        }
        migrated?;
        self.lineage.settle(&mut *self.gate.without_tables().acquire().await?).await?;
        self.gate.open();
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // A standby answers too, and refuses every write.
        let query = sqlx::query_scalar("SELECT current_setting('transaction_read_only') = 'off'");
        if query.fetch_one(&self.gate.to_ping()).await? { Ok(()) } else { Err(StoreError::Silent) }
    }

    async fn is_synchronous(&self) -> Result<Option<bool>, StoreError> {
        // The setting names the standbys that a commit waits for (https://www.postgresql.org/docs/current/runtime-config-replication.html).
        let query = sqlx::query_scalar(
            "SELECT current_setting('synchronous_standby_names') <> ''
                AND current_setting('synchronous_commit') IN ('on', 'remote_write', 'remote_apply')
                AND current_setting('fsync') = 'on'",
        );
        Ok(Some(query.fetch_one(&self.gate.to_ping()).await?))
    }

    async fn create_account(&self, user: &str, password_hash: &str, now_ms: i64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO users AS u (name, password_hash, created_ms) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
        )
        .bind(user)
        .bind(password_hash)
        .bind(now_ms)
        .execute(&self.gate.pool()?)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn password_hash(&self, user: &str) -> Result<Option<String>, StoreError> {
        let row: Option<(Option<String>,)> = sqlx::query_as("SELECT password_hash FROM users WHERE name = $1")
            .bind(user)
            .fetch_optional(&self.gate.pool()?)
            .await?;
        Ok(row.and_then(|(hash,)| hash))
    }

    async fn arrive(
        &self,
        user: &str,
        outbox: Option<Uuid>,
        resume: &[Position],
        now_ms: i64,
    ) -> Result<Arrival, StoreError> {
        let arriving = Arriving { user: user.into(), outbox, resume: resume.to_vec(), now_ms };
        self.arrivals.arrive(&self.gate.pool()?, self.limits.outbox_results_kept, arriving).await
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
        append::append(&self.gate.sends()?, batch, self.limits.outbox_results_kept).await
    }

    async fn outcomes(&self, sends: &[SendKey]) -> Result<Vec<Option<Answer>>, StoreError> {
        outcomes::outcomes(&self.gate.pool()?, sends).await
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() { Ok(()) } else { outcomes::bury(&self.gate.pool()?, letters).await }
    }

    async fn page(&self, room: Uuid, range: HistoryRange, limit: usize) -> Result<Page, StoreError> {
        let limit = limit as i64;
        let (epoch,): (i32,) =
            sqlx::query_as("SELECT epoch FROM rooms WHERE id = $1").bind(room).fetch_one(&self.gate.pool()?).await?;
        let forwards = range.after.is_some();
        let query = if forwards {
            concat!("SELECT ", event_columns!(), " FROM events WHERE room = $1 AND seq > $2 ORDER BY seq LIMIT $3")
        } else {
            concat!("SELECT ", event_columns!(), " FROM events WHERE room = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3")
        };
        // One more than asked for tells whether there is more.
        let rows: Vec<EventRow> = sqlx::query_as(query)
            .bind(room)
            .bind(range.after.or(range.before).unwrap_or(i64::MAX))
            .bind(limit + 1)
            .fetch_all(&self.gate.pool()?)
            .await?;
        Ok(super::page_of(rows, epoch, limit as usize, forwards))
    }

    async fn expire(&self, before_ms: i64, now_ms: i64, limit: usize) -> Result<Expired, StoreError> {
        let mut tx = self.begin().await?;
        let expired = expiry::expire(&mut tx, before_ms, now_ms, limit).await?;
        tx.commit().await?;
        Ok(expired)
    }

    async fn heads(&self, rooms: &[Uuid]) -> Result<Vec<Head>, StoreError> {
        let query = sqlx::query_as("SELECT id, epoch, head FROM rooms WHERE id = ANY($1)").bind(rooms);
        let rows: Vec<(Uuid, i32, i64)> = query.fetch_all(&self.gate.pool()?).await?;
        Ok(rows.into_iter().map(|(room, epoch, seq)| Head { room, epoch, seq }).collect())
    }

    async fn memberships(&self, users: &[User]) -> Result<Vec<(User, Seat)>, StoreError> {
        memberships(&self.gate.pool()?, users).await
    }

    async fn hints(&self) -> Option<mpsc::Receiver<Hint>> {
        Some(hints::listen(self.gate.clone()))
    }

    fn renew(&self) {
        self.gate.renew();
    }

    async fn close(&self) {
        self.gate.close().await;
    }
}

/// All rooms of these users, in the rooms' order.
async fn memberships(pool: &PgPool, users: &[User]) -> Result<Vec<(User, Seat)>, StoreError> {
    let names: Vec<&str> = users.iter().map(|user| &**user).collect();
    let rows: Vec<MembershipRow> = sqlx::query_as(concat!(select_seats!(), "m.member = ANY($1) ORDER BY r.id"))
        .bind(names)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(rows::membership).collect())
}

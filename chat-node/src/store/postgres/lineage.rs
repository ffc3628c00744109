//! Whether this is the database that it was: a restore or a failover may have set its history back, and then every room begins a new
//! epoch.
//!
//! Looked at on every new connection, before anything is written over it: whatever replaces a database ends the connections to the one before.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use super::hints;
use crate::{
    metric::Metric,
    store::{STATEMENT_SECONDS_MAX, within},
};

/// How long the new epochs of all rooms may take: millions of rooms take minutes. Meanwhile this node has no new connections.
const SETTLED_WITHIN: Duration = Duration::from_secs(600);

/// What tells one history of a database from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lineage {
    /// Made by `initdb`.
    system: String,
    /// PostgreSQL's own number for a history.
    timeline: i64,
}

/// The lineage that this node knows.
#[derive(Default)]
pub(super) struct Known {
    /// None until the schema is there.
    lineage: Mutex<Option<Lineage>>,
    /// Held by whoever settles.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Known {
    /// Looks at a new connection, to where `options` lead. A standby is refused: it has no history of its own to write.
    ///
    /// # Errors
    /// Another database's connection is refused until the new epochs have begun. They begin apart from it, because with many rooms that takes
    /// longer than anybody waits for a connection, and giving up would begin it anew.
    pub(super) async fn check(
        self: &Arc<Self>,
        connection: &mut PgConnection,
        options: &PgConnectOptions,
    ) -> Result<(), sqlx::Error> {
        let known = self.lineage.lock().clone();
        if known.is_none() || known == Some(read(connection).await?) {
            return Ok(());
        }
        if let Ok(turn) = self.turn.clone().try_lock_owned() {
            let (known, options) = (self.clone(), options.clone());
            tokio::spawn(async move {
                let _turn = turn;
                let settled = async {
                    let mut connection = within(STATEMENT_SECONDS_MAX, options.connect()).await?;
                    within(SETTLED_WITHIN, known.settle(&mut connection)).await
                };
                if let Err(error) = settled.await {
                    tracing::warn!(%error, "the new epochs could not begin: the next connection tries again");
                }
            });
        }
        Err(sqlx::Error::Protocol("the database is another one than before, and all rooms begin a new epoch".into()))
    }

    /// Compares with what the database last was, and begins new epochs where it is another. Safe from several nodes at once: one does it,
    /// and the others wait and find it done.
    pub(super) async fn settle(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut tx = connection.begin().await?;
        // Many rooms take longer than a statement usually may.
        sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
        let now = read(&mut tx).await?;
        sqlx::query("INSERT INTO lineage (system, timeline) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(&now.system)
            .bind(now.timeline)
            .execute(&mut *tx)
            .await?;
        let (system, timeline): (String, i64) =
            sqlx::query_as("SELECT system, timeline FROM lineage FOR UPDATE").fetch_one(&mut *tx).await?;
        let before = Lineage { system, timeline };
        if before != now {
            tracing::warn!(?before, ?now, "the database is another one: all rooms begin a new epoch");
            Metric::Epochs.count();
            sqlx::query("UPDATE lineage SET system = $1, timeline = $2")
                .bind(&now.system)
                .bind(now.timeline)
                .execute(&mut *tx)
                .await?;
            // Never a number that a lost history had: a database can be set back to before an earlier epoch.
            sqlx::query("UPDATE rooms SET epoch = GREATEST(epoch + 1, $1::int)")
                .bind(now.timeline)
                .execute(&mut *tx)
                .await?;
            sqlx::query("SELECT pg_notify($1, $2)")
                .bind(hints::CHANNEL)
                .bind(hints::EVERYTHING)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        *self.lineage.lock() = Some(now);
        Ok(())
    }
}

async fn read(connection: &mut PgConnection) -> Result<Lineage, sqlx::Error> {
    let (system, timeline) = sqlx::query_as(
        "SELECT system_identifier::text, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
         FROM pg_control_system()",
    )
    .fetch_one(connection)
    .await?;
    Ok(Lineage { system, timeline })
}

//! Hints through `LISTEN`/`NOTIFY`: every commit tells which rooms have which heads now.
//!
//! They make a commit known even when the bus is away or the committing node dies before it publishes. They are sent within the
//! commit's transaction, so there is none without a commit and no commit without one.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Postgres, postgres::PgListener};
use tokio::{sync::mpsc, time::interval};
use uuid::Uuid;

use crate::{
    event::{Seq, User},
    store::{Hint, StoreError, gate::Gate, within},
};

/// The channel's name in the database.
pub(super) const CHANNEL: &str = "chatcluster";

/// A notification that says: look at everything.
pub(super) const EVERYTHING: &str = "everything";

/// Rooms or users in one notification: some 50 bytes each, and PostgreSQL takes less than 8000 bytes
/// (<https://www.postgresql.org/docs/current/sql-notify.html>). A user's name of 128 bytes can need six times as many when escaped.
const HEADS_MAX: usize = 100;
const USERS_MAX: usize = 4;

/// Logins in one notification, of 39 bytes each.
const ENDED_MAX: usize = 150;

/// Hints that wait to be looked at. When full, the rest counts as missed.
const QUEUE_MAX: usize = 1024;

/// Time between attempts to listen again.
const RETRY: Duration = Duration::from_millis(500);

/// Time between proofs that the connection still is one: a server that has lost its power ends none.
const PROVED_EVERY: Duration = Duration::from_secs(5);

/// How long the server may take to answer that, and to begin.
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(5);

#[derive(Default, Serialize, Deserialize)]
struct Payload {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heads: Vec<(Uuid, Seq)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    users: Vec<User>,
    /// Logins that are over. A node of a version without them reads a payload that tells nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ended: Vec<Uuid>,
    /// The announcements in force are other ones. Likewise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    announced: bool,
}

/// The notifications that tell of these heads and users.
pub(super) fn payloads(heads: &[(Uuid, Seq)], users: &[&User]) -> Vec<String> {
    let heads = heads.chunks(HEADS_MAX).map(|heads| Payload { heads: heads.to_vec(), ..Payload::default() });
    let users = users
        .chunks(USERS_MAX)
        .map(|users| Payload { users: users.iter().map(|user| (*user).clone()).collect(), ..Payload::default() });
    encode(heads.chain(users))
}

/// The notifications that tell of logins that are over.
pub(super) fn endings(logins: &[Uuid]) -> Vec<String> {
    encode(logins.chunks(ENDED_MAX).map(|ended| Payload { ended: ended.to_vec(), ..Payload::default() }))
}

/// The notification that says that the announcements are other ones.
pub(super) fn announced() -> String {
    encode(std::iter::once(Payload { announced: true, ..Payload::default() })).remove(0)
}

fn encode(payloads: impl Iterator<Item = Payload>) -> Vec<String> {
    payloads.map(|payload| serde_json::to_string(&payload).expect("a payload encodes")).collect()
}

/// Listens in the background until the receiver is dropped.
pub(super) fn listen(gate: Arc<Gate<Postgres>>) -> mpsc::Receiver<Hint> {
    let (hints, receiver) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(async move {
        while !hints.is_closed() && !gate.is_closed() {
            if let Err(error) = follow(&gate.without_tables(), &hints).await {
                tracing::debug!(%error, "listening for hints ended");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    receiver
}

/// Follows one connection to its end. Whatever was told before it began counts as missed.
async fn follow(pool: &PgPool, hints: &mpsc::Sender<Hint>) -> Result<(), StoreError> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.ignore_pool_close_event(false);
    // Connecting anew is this function's, or it would happen without a word when the proof comes in between.
    listener.eager_reconnect(false);
    within(ANSWER_SECONDS_MAX, listener.listen(CHANNEL)).await?;
    if hints.send(Hint::Missed).await.is_err() {
        return Ok(());
    }
    let mut prove = interval(PROVED_EVERY);
    loop {
        let notification = tokio::select! {
            notification = listener.try_recv() => notification?,
            () = hints.closed() => return Ok(()),
            _ = prove.tick() => {
                // What is told meanwhile waits for the next look.
                within(ANSWER_SECONDS_MAX, sqlx::query("SELECT pg_listening_channels()").execute(&mut listener)).await?;
                continue;
            }
        };
        let hint = match notification.map(|notification| serde_json::from_str(notification.payload())) {
            Some(Ok(Payload { ended, .. })) if !ended.is_empty() => Hint::Ended(ended),
            Some(Ok(Payload { announced: true, .. })) => Hint::Announced,
            Some(Ok(Payload { heads, users, .. })) => Hint::Changed { heads, users },
            // Everything is to be looked at, or a newer node tells what this one does not understand.
            Some(Err(_)) => Hint::Missed,
            None => return Err(StoreError::Silent),
        };
        if hints.send(hint).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_never_exceeds_what_postgres_takes() {
        let heads: Vec<_> = (0..1000).map(|room| (Uuid::from_u128(room), i64::MAX)).collect();
        let user: User = "\u{1}".repeat(128).into();
        let ended: Vec<_> = (0..1000).map(Uuid::from_u128).collect();
        assert!(endings(&ended).iter().all(|payload| payload.len() < 8000));
        let payloads = payloads(&heads, &[&user; 10]);
        assert_eq!(payloads.len(), 10 + 3);
        assert!(payloads.iter().all(|payload| payload.len() < 8000), "{:?}", payloads.iter().map(String::len).max());
    }
}

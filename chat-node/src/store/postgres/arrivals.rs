//! Arrivals that come together are served together: after a restart, thousands of people are back within seconds, and each alone would
//! cost several statements and a commit.
//!
//! While one batch is served, the next one gathers; a single arrival waits for nobody.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::sync::{OwnedMutexGuard, oneshot};
use uuid::Uuid;

use super::memberships;
use crate::{
    event::{Seq, User},
    protocol::Position,
    store::{Arrival, StoreError, answered, outbox_key, plan::RESULTS_TRIMMED_MAX},
};

/// Arrivals that are served together at most.
const BATCH_MAX: usize = 256;

/// Somebody who arrives.
#[derive(Clone)]
pub(super) struct Arriving {
    pub(super) user: User,
    pub(super) outbox: Option<Uuid>,
    pub(super) resume: Vec<Position>,
    pub(super) now_ms: i64,
}

type Reply = oneshot::Sender<Result<Arrival, StoreError>>;

/// Those who wait, and the right to serve them.
#[derive(Default)]
pub(super) struct Arrivals {
    waiting: Mutex<Vec<(Arriving, Reply)>>,
    serving: Arc<tokio::sync::Mutex<()>>,
}

impl Arrivals {
    /// Waits until the arrival was served. Whoever is first when nobody serves begins to.
    pub(super) async fn arrive(
        &self,
        pool: &PgPool,
        results_kept: i64,
        arriving: Arriving,
    ) -> Result<Arrival, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        self.waiting.lock().push((arriving, reply));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(lost("nobody answered"))),
                right = self.serving.clone().lock_owned() => {
                    let batch: Vec<_> = {
                        let mut waiting = self.waiting.lock();
                        let size = waiting.len().min(BATCH_MAX);
                        waiting.drain(..size).collect()
                    };
                    if batch.is_empty() {
                        continue;
                    }
                    // In a task of its own, because others wait for it even if this connection goes away.
                    tokio::spawn(serve(right, pool.clone(), results_kept, batch));
                }
            }
        }
    }
}

async fn serve(_right: OwnedMutexGuard<()>, pool: PgPool, results_kept: i64, batch: Vec<(Arriving, Reply)>) {
    let (batch, replies): (Vec<Arriving>, Vec<Reply>) = batch.into_iter().unzip();
    match answered(arrive_all(&pool, results_kept, &batch)).await {
        Ok(arrivals) => replies.into_iter().zip(arrivals).for_each(|(reply, arrival)| drop(reply.send(Ok(arrival)))),
        // One name that cannot be stored must not keep the others out.
        Err(StoreError::Poisoned(_)) if batch.len() > 1 => {
            for (reply, arriving) in replies.into_iter().zip(&batch) {
                let alone = answered(arrive_all(&pool, results_kept, std::slice::from_ref(arriving))).await;
                let alone =
                    alone.and_then(|arrivals| arrivals.into_iter().next().ok_or_else(|| lost("nobody arrived")));
                let _ = reply.send(alone);
            }
        }
        Err(error @ StoreError::Poisoned(_)) => {
            if let Some(reply) = replies.into_iter().next() {
                let _ = reply.send(Err(error));
            }
        }
        Err(error) => replies.into_iter().for_each(|reply| drop(reply.send(Err(lost(&error.to_string()))))),
    }
}

fn lost(why: &str) -> StoreError {
    StoreError::Unavailable(sqlx::Error::Protocol(why.to_owned()))
}

/// Notes who was here, opens the outboxes, and tells what each finds, in the batch's order.
async fn arrive_all(pool: &PgPool, results_kept: i64, batch: &[Arriving]) -> Result<Vec<Arrival>, StoreError> {
    let keys: Vec<Option<Uuid>> =
        batch.iter().map(|arriving| Some(outbox_key(&arriving.user, arriving.outbox?))).collect();
    let lasts = note(pool, batch, &keys).await?;
    if let Err(error) = forget_results(pool, &lasts, results_kept).await {
        tracing::debug!(%error, "old results are left for the next arrival");
    }
    let users: Vec<User> = batch.iter().map(|arriving| arriving.user.clone()).collect();
    let mut rooms: HashMap<User, Vec<_>> = HashMap::new();
    for (user, room) in memberships(pool, &users).await? {
        rooms.entry(user).or_default().push(room);
    }
    let contradicted = contradicted(pool, batch).await?;
    let arrival = |(arriving, key): (&Arriving, Option<Uuid>)| Arrival {
        rooms: rooms.get(&arriving.user).cloned().unwrap_or_default(),
        outbox_last: key.and_then(|key| lasts.get(&key).copied()).unwrap_or(0),
        contradicted: told(arriving).filter(|told| contradicted.contains(told)).map(|(room, ..)| room).collect(),
    };
    Ok(batch.iter().zip(keys).map(arrival).collect())
}

/// Notes users and outboxes in one statement and one commit, in the order in which every node takes its locks; gives the last
/// number of each outbox.
async fn note(pool: &PgPool, batch: &[Arriving], keys: &[Option<Uuid>]) -> Result<HashMap<Uuid, i64>, StoreError> {
    let users: BTreeMap<&str, i64> = batch.iter().map(|arriving| (&*arriving.user, arriving.now_ms)).collect();
    let outboxes: BTreeMap<Uuid, i64> =
        batch.iter().zip(keys).filter_map(|(arriving, key)| Some(((*key)?, arriving.now_ms))).collect();
    let (users, users_ms): (Vec<&str>, Vec<i64>) = users.into_iter().unzip();
    let (outboxes, outboxes_ms): (Vec<Uuid>, Vec<i64>) = outboxes.into_iter().unzip();
    let lasts: Vec<(Uuid, i64)> = sqlx::query_as(
        "WITH new_users AS (
             INSERT INTO users (name, created_ms) SELECT * FROM UNNEST($1::text[], $2::bigint[]) ON CONFLICT (name) DO NOTHING
         ) INSERT INTO outboxes AS o (key, last, touched_ms)
           SELECT key, 0, now_ms FROM UNNEST($3::uuid[], $4::bigint[]) AS new (key, now_ms)
           ON CONFLICT (key) DO UPDATE SET touched_ms = GREATEST(o.touched_ms, excluded.touched_ms) RETURNING o.key, o.last",
    )
    .bind(users)
    .bind(users_ms)
    .bind(outboxes)
    .bind(outboxes_ms)
    .fetch_all(pool)
    .await?;
    Ok(lasts.into_iter().collect())
}

/// What a client says of the event at its position: room, position, event.
type Told = (Uuid, Seq, Uuid);

fn told(arriving: &Arriving) -> impl Iterator<Item = Told> {
    arriving.resume.iter().filter_map(|at| Some((at.room, at.seq, at.event?)))
}

/// Those of the positions whose event is another one in the log. Many clients are at the same position, which is looked at once.
async fn contradicted(pool: &PgPool, batch: &[Arriving]) -> Result<HashSet<Told>, StoreError> {
    let told: BTreeSet<Told> = batch.iter().flat_map(told).collect();
    if told.is_empty() {
        return Ok(HashSet::new());
    }
    let query = sqlx::query_as(
        "SELECT told.room, told.seq, told.id FROM UNNEST($1::uuid[], $2::bigint[], $3::uuid[]) AS told (room, seq, id)
         JOIN events e ON e.room = told.room AND e.seq = told.seq WHERE e.id <> told.id",
    );
    let rows: Vec<Told> = query
        .bind(told.iter().map(|(room, ..)| *room).collect::<Vec<_>>())
        .bind(told.iter().map(|(_, seq, _)| *seq).collect::<Vec<_>>())
        .bind(told.iter().map(|(.., event)| *event).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().collect())
}

/// Drops results that are too old to be asked for and that [appending](super::append) has left, so many that nobody waits for it.
async fn forget_results(pool: &PgPool, lasts: &HashMap<Uuid, i64>, results_kept: i64) -> Result<(), StoreError> {
    let old = lasts.iter().map(|(key, last)| (*key, last - results_kept)).filter(|(_, n)| *n > 0);
    let (keys, numbers): (Vec<Uuid>, Vec<i64>) = old.unzip();
    if !keys.is_empty() {
        sqlx::query(
            "DELETE FROM outbox_results WHERE (outbox, n) IN (
                 SELECT r.outbox, r.n FROM outbox_results r JOIN UNNEST($1::uuid[], $2::bigint[]) AS old (outbox, n)
                 ON r.outbox = old.outbox AND r.n <= old.n LIMIT $3
             )",
        )
        .bind(keys)
        .bind(numbers)
        .bind(RESULTS_TRIMMED_MAX)
        .execute(pool)
        .await?;
    }
    Ok(())
}

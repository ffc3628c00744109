//! Retention: which beginning of a room's log goes, and what goes with it.
//!
//! A log has no holes, so only a beginning of it can go; its latest event stays, because the next one follows it. What is dropped costs
//! as much as it has events, and what is kept costs nothing: a room is looked at when its oldest event is old, and at no other time.

use std::collections::BTreeSet;

use async_trait::async_trait;
use uuid::Uuid;

use super::{StoreError, statements::LifeTransaction};
use crate::event::{EventBody, Seq, User};

/// What was dropped at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Events.
    pub events: usize,
    /// Whether there may be more to drop.
    pub more: bool,
}

/// A room whose oldest event is old.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldRoom {
    pub id: Uuid,
    /// The position of the first event that is kept.
    pub first: Seq,
    /// The position of the latest one.
    pub head: Seq,
}

/// A transaction, as far as retention needs it.
#[async_trait]
pub(super) trait ExpiryTransaction: LifeTransaction {
    /// Locks a room whose oldest event is of before that time, and that nobody else has locked.
    async fn old_room(&mut self, before_ms: i64) -> Result<Option<OldRoom>, StoreError>;
    /// The first events of a room that are kept, in order.
    async fn beginning(&mut self, room: &OldRoom, limit: usize) -> Result<Vec<EventBody>, StoreError>;
    /// Drops the events before `first` with the reactions to them and these users' mentions in them, and notes that none of the others is
    /// older than `oldest_ms`. In few statements, since the room takes no message meanwhile.
    async fn cut(
        &mut self,
        room: Uuid,
        first: Seq,
        oldest_ms: i64,
        mentioned: &BTreeSet<User>,
    ) -> Result<(), StoreError>;
}

/// Drops at most `limit` events of one room that are of before `before_ms`.
pub(super) async fn expire(
    tx: &mut dyn ExpiryTransaction,
    before_ms: i64,
    now_ms: i64,
    limit: usize,
) -> Result<Expired, StoreError> {
    let Some(room) = tx.old_room(before_ms).await? else { return Ok(Expired::default()) };
    let events = tx.beginning(&room, limit).await?;
    let times: Vec<(Seq, i64)> = events.iter().map(|event| (event.seq, event.time)).collect();
    let Cut { dropped, first, oldest_ms } = cut(&room, &times, before_ms, now_ms);
    let mentions =
        |event: &EventBody| event.details.iter().flat_map(|details| details.mentions.clone()).collect::<Vec<_>>();
    let mentioned: BTreeSet<User> = events[..dropped].iter().flat_map(mentions).collect();
    tx.cut(room.id, first, oldest_ms, &mentioned).await?;
    Ok(Expired { events: dropped, more: true })
}

/// Where a log is cut.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    /// How many of the events that were read go.
    dropped: usize,
    /// The position of the first event that stays.
    first: Seq,
    /// No event that stays is older than this, but perhaps the latest one.
    oldest_ms: i64,
}

/// Decides by the positions and times of a room's first events.
fn cut(room: &OldRoom, events: &[(Seq, i64)], before_ms: i64, now_ms: i64) -> Cut {
    let dropped = events.iter().take_while(|(seq, time)| *time < before_ms && *seq < room.head).count();
    match (events.get(dropped), events.last()) {
        // All that follows the latest event is younger than now.
        (Some((first, time)), _) => {
            Cut { dropped, first: *first, oldest_ms: if *time < before_ms { now_ms } else { *time } }
        }
        // There was no room for more: the next ones may be as old.
        (None, Some((last, time))) => Cut { dropped, first: last + 1, oldest_ms: *time },
        (None, None) => Cut { dropped, first: room.first, oldest_ms: now_ms },
    }
}

/// Implements [`ExpiryTransaction`] for a transaction type that wraps sqlx's. These are SQL: `$lock`, how rows are locked,
/// others' passed over, and `$elements`, a query for the texts of the array that `$3` has as JSON.
macro_rules! expiry_transaction {
    ($transaction:ty, $lock:literal, $elements:literal) => {
        #[async_trait::async_trait]
        impl $crate::store::expiry::ExpiryTransaction for $transaction {
            async fn old_room(
                &mut self,
                before_ms: i64,
            ) -> Result<Option<$crate::store::expiry::OldRoom>, $crate::store::StoreError> {
                let row: Option<(uuid::Uuid, i64, i64)> = sqlx::query_as(concat!(
                    "SELECT id, first_seq, head FROM rooms WHERE COALESCE(oldest_ms, created_ms) < $1
                     ORDER BY COALESCE(oldest_ms, created_ms) LIMIT 1",
                    $lock
                ))
                .bind(before_ms)
                .fetch_optional(&mut *self.0)
                .await?;
                Ok(row.map(|(id, first, head)| $crate::store::expiry::OldRoom { id, first, head }))
            }

            async fn beginning(
                &mut self,
                room: &$crate::store::expiry::OldRoom,
                limit: usize,
            ) -> Result<Vec<$crate::event::EventBody>, $crate::store::StoreError> {
                let rows: Vec<$crate::store::rows::EventRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    $crate::store::rows::event_columns!(),
                    " FROM events WHERE room = $1 AND seq >= $2 ORDER BY seq LIMIT $3"
                ))
                .bind(room.id)
                .bind(room.first)
                .bind(limit as i64)
                .fetch_all(&mut *self.0)
                .await?;
                Ok(rows.into_iter().map($crate::store::rows::event).collect())
            }

            async fn cut(
                &mut self,
                room: uuid::Uuid,
                first: $crate::event::Seq,
                oldest_ms: i64,
                mentioned: &std::collections::BTreeSet<$crate::event::User>,
            ) -> Result<(), $crate::store::StoreError> {
                if !mentioned.is_empty() {
                    let delete =
                        concat!("DELETE FROM mentions WHERE room = $1 AND seq < $2 AND member IN (", $elements, ")");
                    let mentioned = serde_json::json!(mentioned).to_string();
                    sqlx::query(delete).bind(room).bind(first).bind(mentioned).execute(&mut *self.0).await?;
                }
                for delete in [
                    "DELETE FROM reactions WHERE room = $1 AND seq < $2",
                    "DELETE FROM events WHERE room = $1 AND seq < $2",
                ] {
                    sqlx::query(delete).bind(room).bind(first).execute(&mut *self.0).await?;
                }
                let update = sqlx::query("UPDATE rooms SET first_seq = $2, oldest_ms = $3 WHERE id = $1");
                update.bind(room).bind(first).bind(oldest_ms).execute(&mut *self.0).await?;
                Ok(())
            }
        }
    };
}
pub(super) use expiry_transaction;

#[cfg(test)]
mod tests {
    use super::*;

    /// Events at 1, 2, 3, ... of these times; the room's latest is at `head`.
    #[track_caller]
    fn check(head: Seq, times: &[i64], expected: (usize, Seq, i64)) {
        let room = OldRoom { id: Uuid::nil(), first: 1, head };
        let events: Vec<(Seq, i64)> = (1..).zip(times.iter().copied()).collect();
        let (dropped, first, oldest_ms) = expected;
        assert_eq!(cut(&room, &events, 100, 1_000), Cut { dropped, first, oldest_ms }, "{head} {times:?}");
    }

    #[test]
    fn a_beginning_goes_and_the_latest_event_stays() {
        check(3, &[10, 20, 200], (2, 3, 200));
        check(3, &[200, 20, 30], (0, 1, 200));
        // A clock that was behind hides nothing that is younger.
        check(4, &[10, 200, 30, 300], (1, 2, 200));
        // All is old: the latest stays, and what follows it is looked at when it can be old.
        check(3, &[10, 20, 30], (2, 3, 1_000));
        check(1, &[10], (0, 1, 1_000));
        // More were not read: the room comes up again.
        check(9, &[10, 20, 30], (3, 4, 30));
        check(0, &[], (0, 1, 1_000));
    }
}

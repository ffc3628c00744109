//! How rows become the node's own types. The columns are the same in every store.

use uuid::Uuid;

use super::plan::Outcome;
use crate::{
    event::{Event, EventBody, Kind, Room, RoomKind},
    protocol::Code,
};

/// Columns of a room, in the order of [`RoomRow`].
macro_rules! room_columns {
    () => {
        "r.id, r.kind, r.name, r.first, r.second, r.epoch, r.head, r.members"
    };
}
pub(super) use room_columns;

/// Columns of an event, in the order of [`EventRow`].
macro_rules! event_columns {
    () => {
        "room, epoch, seq, id, kind, sender, time_ms, body"
    };
}
pub(super) use event_columns;

/// Columns of a stored result, in the order of [`OutcomeRow`].
macro_rules! outcome_columns {
    () => {
        "r.outbox, r.n, r.refusal, r.room, r.epoch, r.seq, r.event, r.time_ms"
    };
}
pub(super) use outcome_columns;

pub(super) type RoomRow = (Uuid, i16, Option<String>, Option<String>, Option<String>, i32, i64, i32);
pub(super) type EventRow = (Uuid, i32, i64, Uuid, i16, String, i64, Option<String>);
pub(super) type OutcomeRow =
    (Uuid, i64, Option<String>, Option<Uuid>, Option<i32>, Option<i64>, Option<Uuid>, Option<i64>);

/// A room and how many members it has.
pub(super) fn room((id, kind, name, first, second, epoch, head, members): RoomRow) -> (Room, i32) {
    let kind = if kind == RoomKind::Direct as i16 { RoomKind::Direct } else { RoomKind::Public };
    let pair = first.zip(second).map(|(first, second)| (first.into(), second.into()));
    (Room { id, kind, name, pair, epoch, head }, members)
}

/// An event in its final form.
pub(super) fn event((room, epoch, seq, id, kind, sender, time, text): EventRow) -> Event {
    EventBody { room, epoch, seq, id, kind: Kind::from_number(kind), sender: sender.into(), time, text }.encode()
}

/// A stored result under its key. `None` when the row makes no sense, so that the send counts as forgotten, never as new.
pub(super) fn outcome((outbox, n, refusal, room, epoch, seq, id, time): OutcomeRow) -> Option<((Uuid, i64), Outcome)> {
    let outcome = match refusal {
        Some(code) => Outcome::Refused(Code::from_name(&code)?),
        None => Outcome::Event { room: room?, epoch: epoch?, seq: seq?, id: id?, time: time? },
    };
    Some(((outbox, n), outcome))
}

/// A stored result as columns: refusal, room, epoch, seq, event, time.
pub(super) type OutcomeColumns =
    (Option<&'static str>, Option<Uuid>, Option<i32>, Option<i64>, Option<Uuid>, Option<i64>);

pub(super) fn outcome_columns_of(outcome: &Outcome) -> OutcomeColumns {
    match *outcome {
        Outcome::Refused(code) => (Some(code.as_str()), None, None, None, None, None),
        Outcome::Event { room, epoch, seq, id, time } => {
            (None, Some(room), Some(epoch), Some(seq), Some(id), Some(time))
        }
    }
}

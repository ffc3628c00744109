//! How rows become the node's own types. The columns are the same in every store.

use uuid::Uuid;

use super::{Member, Tally, Unread, plan::Outcome};
use crate::{
    event::{Details, EventBody, Kind, Role, Room, RoomKind, Seat, Standing, User},
    protocol::Code,
};

/// Columns of a room, for [`RoomRow`].
macro_rules! room_columns {
    () => {
        "r.id, r.kind, COALESCE(r.name, r.title) AS name, r.first, r.second, r.topic, r.epoch, r.head, r.members"
    };
}
pub(super) use room_columns;

/// Selects members' places with their rooms, for [`SeatRow`] or [`MembershipRow`]; what follows says which.
macro_rules! select_seats {
    () => {
        concat!(
            "SELECT m.member, m.role, m.muted_until_ms, m.read_seq, r.first_seq, ",
            $crate::store::rows::room_columns!(),
            " FROM rooms r JOIN members m ON m.room = r.id WHERE "
        )
    };
}
pub(super) use select_seats;

/// Columns of an event, in the order of [`EventRow`].
macro_rules! event_columns {
    () => {
        "room, epoch, seq, id, kind, sender, time_ms, body, details"
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

#[derive(sqlx::FromRow)]
pub(super) struct RoomRow {
    id: Uuid,
    kind: i16,
    name: Option<String>,
    first: Option<String>,
    second: Option<String>,
    topic: Option<String>,
    epoch: i32,
    head: i64,
    members: i32,
}

#[derive(sqlx::FromRow)]
pub(super) struct SeatRow {
    #[sqlx(flatten)]
    room: RoomRow,
    role: i16,
    muted_until_ms: i64,
    read_seq: i64,
    first_seq: i64,
}

/// A seat, and whose it is.
#[derive(sqlx::FromRow)]
pub(super) struct MembershipRow {
    member: String,
    #[sqlx(flatten)]
    seat: SeatRow,
}

pub(super) type MemberRow = (String, i16, i64);
pub(super) type UnreadRow = (Uuid, i64, i64, i64);
pub(super) type TallyRow = (i64, String, i64, i64);
pub(super) type EventRow = (Uuid, i32, i64, Uuid, i16, String, i64, Option<String>, Option<String>);
pub(super) type OutcomeRow =
    (Uuid, i64, Option<String>, Option<Uuid>, Option<i32>, Option<i64>, Option<Uuid>, Option<i64>);

/// Members of the room $1 by name: at most $3 of those after $2.
pub(super) const MEMBERS: &str =
    "SELECT member, role, muted_until_ms FROM members WHERE room = $1 AND member > $2 ORDER BY member LIMIT $3";

/// Reactions of the messages of the room $1 from $3 to $4, as $2 sees them.
pub(super) const TALLIES: &str =
    "SELECT seq, reaction, count(*), CAST(max(CASE WHEN member = $2 THEN 1 ELSE 0 END) AS bigint)
    FROM reactions WHERE room = $1 AND seq BETWEEN $3 AND $4 GROUP BY seq, reaction ORDER BY seq, reaction";

/// What $1 has not read, of what there is still. The bounds keep the cost of a room small however much that is.
pub(super) const UNREAD: &str = "SELECT m.room, m.read_seq,
    (SELECT count(*) FROM (SELECT 1 AS one FROM events e WHERE e.room = m.room AND e.seq > m.gone AND e.seq <= m.gone + 1000
        AND e.kind = 1 AND e.body IS NOT NULL AND e.sender <> m.member LIMIT 100) AS unread),
    (SELECT count(*) FROM (SELECT 1 AS one FROM mentions n WHERE n.member = m.member AND n.room = m.room AND n.seq > m.gone
        LIMIT 100) AS named)
    FROM (SELECT members.member, members.room, members.read_seq,
            CASE WHEN read_seq < first_seq - 1 THEN first_seq - 1 ELSE read_seq END AS gone
        FROM members JOIN rooms ON rooms.id = members.room WHERE member = $1 AND read_seq < head) AS m ORDER BY m.room";

/// Moves the cursor of $1 in the room $2 on to $3.
pub(super) const READ: &str = "UPDATE members SET read_seq = $3 WHERE member = $1 AND room = $2 AND read_seq < $3
    AND $3 <= (SELECT head FROM rooms WHERE id = $2) RETURNING read_seq";

/// The cursor of $1 in the room $2.
pub(super) const CURSOR: &str = "SELECT read_seq FROM members WHERE member = $1 AND room = $2";

/// A room and how many members it has.
pub(super) fn room(row: RoomRow) -> (Room, i32) {
    let RoomRow { id, kind, name, first, second, topic, epoch, head, members } = row;
    let pair = first.zip(second).map(|(first, second)| (first.into(), second.into()));
    (Room { id, kind: RoomKind::from_number(kind), name, pair, topic, epoch, head }, members)
}

/// A room with a member's place in it.
pub(super) fn seat(row: SeatRow) -> Seat {
    let standing = Standing { role: Role::from_number(row.role), muted_until: row.muted_until_ms };
    Seat { room: room(row.room).0, standing, read: row.read_seq, first: row.first_seq }
}

/// A seat, and whose it is.
pub(super) fn membership(row: MembershipRow) -> (User, Seat) {
    (row.member.into(), seat(row.seat))
}

/// A member of a room.
pub(super) fn member((user, role, muted_until): MemberRow) -> Member {
    Member { user: user.into(), role: Role::from_number(role), muted_until }
}

/// What is not read of a room.
pub(super) fn unread((room, read, messages, mentions): UnreadRow) -> Unread {
    Unread { room, read, messages, mentions }
}

/// How often a message has a reaction.
pub(super) fn tally((seq, reaction, count, mine): TallyRow) -> Tally {
    Tally { seq, reaction, count, mine: mine != 0 }
}

/// An event as it was stored.
pub(super) fn event((room, epoch, seq, id, kind, sender, time, text, details): EventRow) -> EventBody {
    let details = details.and_then(|json| Details::from_json(&json));
    EventBody { room, epoch, seq, id, kind: Kind::from_number(kind), sender: sender.into(), time, text, details }
}

/// An event's details as they are stored.
pub(super) fn details(event: &EventBody) -> Option<String> {
    event.details.as_ref().map(|details| details.to_json())
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

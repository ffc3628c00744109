//! Rooms and the events of their logs, as all rooms of the node know them.
//!
//! An event is encoded into its frame once, when it is made or read, and the bytes are shared from then on: by every member, by
//! the bus and by history. Nothing here waits or decides.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of a user: the `sub` of a token.
pub type User = Arc<str>;

/// Position in a room's log; the first event has 1.
pub type Seq = i64;

/// What an event tells. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[repr(i16)]
pub enum Kind {
    /// A message.
    Message = 1,
    /// The room was made.
    Created = 2,
    /// The sender became a member.
    Joined = 3,
    /// The sender is a member no more.
    Left = 4,
    /// Something that a newer version of the node tells. Never stored by this one.
    Other = 0,
}

impl Kind {
    /// The kind of a stored number.
    pub fn from_number(number: i16) -> Kind {
        let known = [Kind::Message, Kind::Created, Kind::Joined, Kind::Left];
        known.into_iter().find(|kind| *kind as i16 == number).unwrap_or(Kind::Other)
    }
}

/// An event before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBody {
    /// The room.
    pub room: Uuid,
    /// The room's epoch: positions of different epochs do not compare.
    pub epoch: i32,
    /// The position in the room.
    pub seq: Seq,
    /// The event's own id.
    pub id: Uuid,
    /// What it tells.
    pub kind: Kind,
    /// Who caused it.
    pub sender: User,
    /// When, in milliseconds since 1970 UTC.
    pub time: i64,
    /// The text of a message.
    pub text: Option<String>,
}

/// An event in its final form: the frame that clients receive, and what the hub needs to place it.
#[derive(Clone, Debug)]
pub struct Event {
    /// The room.
    pub room: Uuid,
    /// The room's epoch.
    pub epoch: i32,
    /// The position in the room.
    pub seq: Seq,
    /// The event's own id.
    pub id: Uuid,
    /// The frame, as in `docs/protocol.md` §5.
    pub frame: Utf8Bytes,
}

/// The shape of the frame.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Event"))]
pub(crate) struct EventFrame<'a> {
    #[serde(rename = "type")]
    type_: &'static str,
    room: Uuid,
    epoch: i32,
    seq: Seq,
    event: Uuid,
    kind: Kind,
    sender: &'a str,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// What is needed to place a frame that another node made.
#[derive(Deserialize)]
struct Placement {
    room: Uuid,
    epoch: i32,
    seq: Seq,
    event: Uuid,
}

impl EventBody {
    /// Encodes the event.
    pub fn encode(&self) -> Event {
        let frame = EventFrame {
            type_: "event",
            room: self.room,
            epoch: self.epoch,
            seq: self.seq,
            event: self.id,
            kind: self.kind,
            sender: &self.sender,
            time: self.time,
            text: self.text.as_deref(),
        };
        Event { room: self.room, epoch: self.epoch, seq: self.seq, id: self.id, frame: to_json(&frame) }
    }
}

impl Event {
    /// Takes a frame as another node made it.
    ///
    /// # Errors
    /// When it is no event frame.
    pub fn from_frame(frame: &str) -> Result<Event, serde_json::Error> {
        let Placement { room, epoch, seq, event } = serde_json::from_str(frame)?;
        Ok(Event { room, epoch, seq, id: event, frame: frame.into() })
    }
}

/// Encodes a value of the node's own types.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Utf8Bytes {
    // Types with string keys and no failing serializer cannot fail to encode.
    serde_json::to_string(value).expect("the node's own types encode").into()
}

/// Sort of a room. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[repr(i16)]
pub enum RoomKind {
    /// Anyone may join; the name is unique.
    Public = 1,
    /// Two people; there is one such room for each two.
    Direct = 2,
}

/// A room, as its members see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its id.
    pub id: Uuid,
    /// Its sort.
    pub kind: RoomKind,
    /// The name of a public room.
    pub name: Option<String>,
    /// The two people of a direct room.
    pub pair: Option<(User, User)>,
    /// The epoch of its log.
    pub epoch: i32,
    /// The position of its latest event.
    pub head: Seq,
}

impl Room {
    /// The other person of a direct room.
    pub fn with(&self, user: &str) -> Option<&User> {
        let (first, second) = self.pair.as_ref()?;
        Some(if &**first == user { second } else { first })
    }
}

/// Someone became a member, or is one no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Who.
    pub user: User,
    /// The room; its head is the position just before the change.
    pub room: Room,
    /// Whether the user is a member now.
    pub member: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_made_as_documented_and_read_back() {
        let body = EventBody {
            room: Uuid::from_u128(1),
            epoch: 1,
            seq: 45,
            id: Uuid::from_u128(2),
            kind: Kind::Message,
            sender: "alice".into(),
            time: 1_767_225_600_000,
            text: Some("say \"hi\"".into()),
        };
        let event = body.encode();
        let json: serde_json::Value = serde_json::from_str(&event.frame).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"type": "event", "room": Uuid::from_u128(1), "epoch": 1, "seq": 45, "event": Uuid::from_u128(2),
                "kind": "message", "sender": "alice", "time": 1_767_225_600_000_i64, "text": "say \"hi\""})
        );
        let read = Event::from_frame(&event.frame).unwrap();
        assert_eq!((read.room, read.epoch, read.seq, read.id), (event.room, event.epoch, event.seq, event.id));
    }

    #[test]
    fn kinds_keep_their_stored_numbers() {
        for (kind, number) in [(Kind::Message, 1), (Kind::Created, 2), (Kind::Joined, 3), (Kind::Left, 4)] {
            assert_eq!(kind as i16, number);
            assert_eq!(Kind::from_number(number), kind);
        }
        assert_eq!(Kind::from_number(99), Kind::Other);
    }
}

//! Rooms and the events of their logs, as all rooms of the node know them.
//!
//! An event is encoded into its frame once, when it is made or read, and the bytes are shared from then on: by every member, by
//! the bus and by history. Nothing here waits or decides.

mod details;
mod room;

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    details::{Details, Mark, Reference},
    room::{FOREVER, Membership, Role, Room, RoomKind, Seat, Standing},
};
use crate::trace::Trail;

/// Name of a user: the `sub` of a token.
pub type User = Arc<str>;

/// How the names of the users begin that nodes test themselves as.
pub const OWN_USERS: &str = "self-test/";

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
    /// The text of a message is another one now.
    Edited = 5,
    /// The text of a message is gone.
    Deleted = 6,
    /// The sender reacted to a message.
    Reacted = 7,
    /// The sender took a reaction back.
    Unreacted = 8,
    /// The room is about something else now.
    Topic = 9,
    /// The sender made somebody a member.
    Invited = 10,
    /// The sender ended somebody's membership.
    Kicked = 11,
    /// Likewise, and that user cannot come back.
    Banned = 12,
    /// That user can come back.
    Unbanned = 13,
    /// Somebody may not write.
    Muted = 14,
    /// That member may write again.
    Unmuted = 15,
    /// Somebody's role is another one now.
    Role = 16,
    /// Something that a newer version of the node tells. Never stored by this one.
    #[serde(other)]
    Other = 0,
}

impl Kind {
    /// All kinds that this version stores, by their numbers from 1.
    pub const ALL: [Kind; 16] = [
        Kind::Message,
        Kind::Created,
        Kind::Joined,
        Kind::Left,
        Kind::Edited,
        Kind::Deleted,
        Kind::Reacted,
        Kind::Unreacted,
        Kind::Topic,
        Kind::Invited,
        Kind::Kicked,
        Kind::Banned,
        Kind::Unbanned,
        Kind::Muted,
        Kind::Unmuted,
        Kind::Role,
    ];

    /// The kind of a stored number.
    pub fn from_number(number: i16) -> Kind {
        Kind::ALL.into_iter().find(|kind| *kind as i16 == number).unwrap_or(Kind::Other)
    }

    /// Whether it changes what an earlier event of the room says.
    fn rewrites(self) -> bool {
        matches!(self, Kind::Edited | Kind::Deleted)
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
    /// The text of a message or an edit, or the topic.
    pub text: Option<String>,
    /// What else it tells.
    pub details: Option<Box<Details>>,
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
    /// Whether it changes what an earlier event of the room says, so that frames made before say too much.
    pub rewrites: bool,
    /// The frame, as in `docs/protocol.md` §5.
    pub frame: Utf8Bytes,
    /// Set while the event is on its way through the node and followed. Nobody else is told.
    pub trail: Option<Box<Trail>>,
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
    #[serde(flatten)]
    details: Option<&'a Details>,
}

/// What is needed to place a frame that another node made.
#[derive(Deserialize)]
struct Placement {
    room: Uuid,
    epoch: i32,
    seq: Seq,
    event: Uuid,
    kind: Kind,
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
            details: self.details.as_deref(),
        };
        let rewrites = self.kind.rewrites();
        Event {
            room: self.room,
            epoch: self.epoch,
            seq: self.seq,
            id: self.id,
            rewrites,
            frame: to_json(&frame),
            trail: None,
        }
    }

    /// Who is named by the message, each with the message's place.
    pub fn mentions(&self) -> impl Iterator<Item = (&str, Uuid, Seq)> {
        let mentions = self.details.iter().flat_map(|details| &details.mentions);
        mentions.map(|user| (&**user, self.room, self.seq))
    }

    /// How other events refer to this one.
    pub fn reference(&self) -> Reference {
        Reference { seq: self.seq, event: self.id }
    }
}

impl Event {
    /// Takes a frame as another node made it.
    ///
    /// # Errors
    /// When it is no event frame.
    pub fn from_frame(frame: &str) -> Result<Event, serde_json::Error> {
        let Placement { room, epoch, seq, event, kind } = serde_json::from_str(frame)?;
        Ok(Event { room, epoch, seq, id: event, rewrites: kind.rewrites(), frame: frame.into(), trail: None })
    }
}

/// Encodes a value of the node's own types.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Utf8Bytes {
    // Types with string keys and no failing serializer cannot fail to encode.
    serde_json::to_string(value).expect("the node's own types encode").into()
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
            details: None,
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
        for (kind, number) in Kind::ALL.into_iter().zip(1..) {
            assert_eq!(kind as i16, number);
            assert_eq!(Kind::from_number(number), kind);
        }
        assert_eq!(Kind::from_number(99), Kind::Other);
    }

    #[test]
    fn details_stand_beside_the_rest_and_survive_storage() {
        let target = Reference { seq: 44, event: Uuid::from_u128(3) };
        let details = Details { target: Some(target), reaction: Some("+1".into()), ..Details::default() };
        let json = serde_json::json!({"target": {"seq": 44, "event": Uuid::from_u128(3)}, "reaction": "+1"});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&details.to_json()).unwrap(), json);
        assert_eq!(Details::from_json(&details.to_json()).as_deref(), Some(&details));
        assert_eq!(Details::from_json(r#"{"of_a_newer_version": true}"#), None);
        assert_eq!(Details::default().boxed(), None);
    }

    #[test]
    fn a_kind_of_a_newer_version_can_be_placed() {
        let frame = |kind: &str| {
            let (room, event) = (Uuid::from_u128(1), Uuid::from_u128(2));
            serde_json::json!({"type": "event", "room": room, "epoch": 1, "seq": 4, "event": event, "kind": kind})
                .to_string()
        };
        assert!(!Event::from_frame(&frame("hologram")).unwrap().rewrites);
        assert!(Event::from_frame(&frame("deleted")).unwrap().rewrites);
    }
}

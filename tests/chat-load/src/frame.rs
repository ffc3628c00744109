//! The frames of `docs/protocol.md` as types, one for each direction.
//!
//! Owns the wire's names and nothing of its meaning. It follows the page's rule of growth: unknown fields are ignored and a
//! frame of an unknown type is [`Frame::Unknown`], never an error.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "chatcluster.v1";

/// What a client says. `id` comes back in the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// The first frame of a connection.
    Hello(Hello),
    /// Makes a public room and joins it.
    CreateRoom {
        /// Number of the request.
        id: u64,
        /// Name of the room, unique.
        name: String,
    },
    /// Joins a room.
    Join {
        /// Number of the request.
        id: u64,
        /// Which room.
        #[serde(flatten)]
        room: RoomRef,
    },
    /// Leaves a room.
    Leave {
        /// Number of the request.
        id: u64,
        /// Which room.
        room: Uuid,
    },
    /// Opens the direct room with a user.
    Direct {
        /// Number of the request.
        id: u64,
        /// The other user.
        user: String,
    },
    /// Sends a message.
    Send {
        /// Number of the request.
        id: u64,
        /// Number in the outbox.
        n: u64,
        /// Where it goes.
        room: Uuid,
        /// What it says.
        text: String,
    },
    /// Reads a page of a room's log.
    History {
        /// Number of the request.
        id: u64,
        /// Which room.
        room: Uuid,
        /// Which page.
        #[serde(flatten)]
        page: Page,
    },
    /// Hands in another token.
    Token {
        /// Number of the request.
        id: u64,
        /// The token.
        token: String,
    },
    /// Asks for a sign of life.
    Ping {
        /// Number of the request.
        id: u64,
    },
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hello {
    /// The token; absent when the upgrade carried it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Chooses the limits per address and the idle time.
    pub client: ClientType,
    /// Id of this client's outbox; needed to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbox: Option<Uuid>,
    /// The last event that was seen of each known room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<Position>,
}

/// What kind of client this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientType {
    /// A browser.
    #[default]
    Web,
    /// A telephone.
    Mobile,
}

/// Names a room that is to be joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomRef {
    /// By its id.
    Room(Uuid),
    /// By the unique name of a public room.
    Name(String),
}

/// A page of a room's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Page {
    /// The latest events with a lower `seq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The first events with a higher `seq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Events at most.
    pub limit: u32,
}

/// How far a client has read a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which room.
    pub room: Uuid,
    /// Which of its histories.
    pub epoch: u64,
    /// The last `seq` that was seen.
    pub seq: u64,
    /// The event that had it; absent when none was seen yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Uuid>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Frame {
    /// The answer to `hello`.
    Welcome(Welcome),
    /// A room that the user is a member of now; with the `id` of the request that asked for it, if one did.
    Room {
        /// Number of the request.
        id: Option<u64>,
        /// The room.
        room: Room,
    },
    /// The user is no member any more.
    Left {
        /// Number of the request.
        id: Option<u64>,
        /// Which room.
        room: Uuid,
        /// `kicked` or `banned`, when it was somebody else's doing.
        cause: Option<String>,
    },
    /// A page of a room's log.
    History {
        /// Number of the request.
        id: Option<u64>,
        /// The page.
        #[serde(flatten)]
        history: History,
    },
    /// A sign of life.
    Pong {
        /// Number of the request.
        id: Option<u64>,
    },
    /// Another token holds.
    Token {
        /// Number of the request.
        id: Option<u64>,
        /// When it expires, in milliseconds since 1970 UTC.
        expires: u64,
    },
    /// A send is durable, its place comes later.
    Accepted {
        /// Number in the outbox.
        n: u64,
    },
    /// A send is in the database and has its place.
    Committed(Committed),
    /// Something happened in a room.
    Event(Event),
    /// Something that everybody is told.
    Announcement(Announcement),
    /// It was ended.
    AnnouncementEnded {
        /// Which one.
        id: Uuid,
    },
    /// The node leaves.
    Reconnect {
        /// When to connect again, in milliseconds.
        after_ms: u64,
    },
    /// A request was refused.
    Error(Refusal),
    /// Of a later version of the protocol.
    #[serde(other)]
    Unknown,
}

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Welcome {
    /// Whom the token names.
    pub user: String,
    /// Name of the node.
    pub node: String,
    /// The last number of the outbox that was taken.
    pub outbox_last: Option<u64>,
    /// What the node bears.
    pub limits: Limits,
    /// Every room that the user is a member of.
    pub rooms: Vec<Room>,
}

/// What the node bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Limits {
    /// Bytes of one text.
    pub text_bytes: usize,
    /// Requests that may wait for an answer.
    pub outstanding: usize,
    /// Events in one page of history.
    pub history_events: u32,
    /// Days that an outbox is kept after it was last used.
    pub outbox_days: u32,
}

/// A room, as its member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Room {
    /// Its id.
    pub id: Uuid,
    /// Its name; a direct room has none.
    pub name: Option<String>,
    /// The other member of a direct room.
    pub with: Option<String>,
    /// Who may join.
    pub kind: RoomKind,
    /// Which of its histories.
    pub epoch: u64,
    /// The last `seq` of it. Later events follow.
    pub head: u64,
    /// What follows for it; only in `welcome`.
    pub resume: Option<Resume>,
}

/// Who may join a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// Anyone.
    Public,
    /// Two people.
    Direct,
    /// Of a later version of the protocol.
    #[serde(other)]
    Unknown,
}

/// What follows for a room after a `welcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// Events after `head`.
    Live,
    /// Events after the given position.
    Replayed,
    /// Events after `head`; those between are in the history.
    TooFar,
    /// Events after `head`; the position was not of this history.
    Reset,
}

/// A page of a room's log.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct History {
    /// Which room.
    pub room: Uuid,
    /// Which of its histories.
    pub epoch: u64,
    /// The events by rising `seq`.
    pub events: Vec<Event>,
    /// Whether there are more in that direction.
    pub more: bool,
}

/// The place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Committed {
    /// Number in the outbox.
    pub n: u64,
    /// Which room.
    pub room: Uuid,
    /// Which of its histories.
    pub epoch: u64,
    /// Place in it.
    pub seq: u64,
    /// The event.
    pub event: Uuid,
}

/// An entry of a room's log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Which room.
    pub room: Uuid,
    /// Which of its histories.
    pub epoch: u64,
    /// Place in it.
    pub seq: u64,
    /// Its id.
    pub event: Uuid,
    /// `message`, `created`, `joined`, `left`, or a later one.
    pub kind: String,
    /// Who did it.
    pub sender: String,
    /// When, in milliseconds since 1970 UTC.
    pub time: u64,
    /// What a message says.
    #[serde(default)]
    pub text: Option<String>,
}

/// Something that everybody is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Announcement {
    /// Its id.
    pub id: Uuid,
    /// What is said.
    pub text: String,
    /// Who says it.
    pub sender: String,
    /// When, in milliseconds since 1970 UTC.
    pub time: u64,
    /// When it is over by itself.
    pub until: Option<u64>,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// Number of the request.
    pub id: Option<u64>,
    /// Number in the outbox.
    pub n: Option<u64>,
    /// Stable name of the reason.
    pub code: String,
    /// The reason for a person.
    #[serde(default)]
    pub message: String,
    /// Whether the same may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// For `outbox_gap`: the number to go on from.
    pub expected: Option<u64>,
    /// For `too_fast`: how long to wait.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_written_as_the_page_shows_them() {
        let room = Uuid::nil();
        let check = |request: Request, expected| assert_eq!(serde_json::to_value(request).unwrap(), expected);
        check(
            Request::Join { id: 2, room: RoomRef::Name("lobby".into()) },
            json!({"type": "join", "id": 2, "name": "lobby"}),
        );
        check(Request::Join { id: 2, room: RoomRef::Room(room) }, json!({"type": "join", "id": 2, "room": room}));
        let page = Page { before: Some(42), after: None, limit: 50 };
        check(
            Request::History { id: 6, room, page },
            json!({"type": "history", "id": 6, "room": room, "before": 42, "limit": 50}),
        );
        let hello = Hello { token: Some("t".into()), client: ClientType::Web, outbox: None, resume: Vec::new() };
        check(Request::Hello(hello), json!({"type": "hello", "token": "t", "client": "web"}));
    }

    #[test]
    fn frames_of_the_future_are_understood_as_far_as_possible() {
        let frame = |text| serde_json::from_str::<Frame>(text).unwrap();
        assert_eq!(frame(r#"{"type": "hologram", "x": 1}"#), Frame::Unknown);
        assert_eq!(frame(r#"{"type": "pong", "id": 7, "mood": "fine"}"#), Frame::Pong { id: Some(7) });
        let refusal = r#"{"type": "error", "code": "outbox_gap", "message": "", "retryable": true, "expected": 4}"#;
        let Frame::Error(refusal) = frame(refusal) else { panic!("not an error") };
        assert_eq!((refusal.id, refusal.expected, refusal.retryable), (None, Some(4), true));
    }
}

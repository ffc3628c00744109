//! What clients send.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Command;
use crate::{
    event::{Reference, RoomKind, Seq},
    signals::State,
};

/// A frame from a client.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "docs/protocol.md §2 and §3 say what each field means")]
pub enum ClientFrame {
    Hello(Hello),
    CreateRoom {
        id: Option<u64>,
        name: String,
        #[serde(default)]
        kind: RoomKind,
    },
    Join {
        id: Option<u64>,
        #[serde(flatten)]
        room: RoomReference,
    },
    Leave {
        id: Option<u64>,
        room: Uuid,
    },
    Direct {
        id: Option<u64>,
        user: String,
    },
    Send {
        id: Option<u64>,
        n: i64,
        room: Uuid,
        text: String,
        reply: Option<Reference>,
        #[serde(default)]
        mentions: Vec<String>,
    },
    /// Any of the commands, each a `type` of its own.
    #[serde(skip)]
    Command {
        id: Option<u64>,
        command: Command,
    },
    History {
        id: Option<u64>,
        room: Uuid,
        #[serde(flatten)]
        range: HistoryRange,
        limit: Option<usize>,
    },
    Members {
        id: Option<u64>,
        room: Uuid,
        #[serde(default)]
        after: String,
        limit: Option<usize>,
    },
    Read {
        id: Option<u64>,
        room: Uuid,
        seq: Seq,
    },
    Unread {
        id: Option<u64>,
    },
    /// Any of the signals, each a `type` of its own.
    #[serde(skip)]
    Signal(SignalFrame),
    Seen {
        id: Option<u64>,
        users: Vec<String>,
    },
    Token {
        id: Option<u64>,
        token: String,
    },
    Ping {
        id: Option<u64>,
    },
}

/// Users that may be asked for at once.
pub const SEEN_USERS_MAX: usize = 100;

/// People whom one message may name.
pub const MENTIONS_MAX: usize = 50;

/// What is told to others and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "docs/protocol.md §3 says what each field means")]
pub enum SignalFrame {
    Typing { id: Option<u64>, room: Uuid },
    Status { id: Option<u64>, state: State },
    Watch { id: Option<u64>, room: Uuid },
    Unwatch { id: Option<u64>, room: Uuid },
}

impl SignalFrame {
    /// The `type` of each signal.
    const NAMES: [&str; 4] = ["typing", "status", "watch", "unwatch"];

    /// The request's id.
    pub fn id(&self) -> Option<u64> {
        match *self {
            SignalFrame::Typing { id, .. }
            | SignalFrame::Status { id, .. }
            | SignalFrame::Watch { id, .. }
            | SignalFrame::Unwatch { id, .. } => id,
        }
    }
}

/// The first frame.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// Echoed in an error.
    pub id: Option<u64>,
    /// The token, unless the upgrade carried it.
    pub token: Option<String>,
    /// What sort of client it is.
    pub client: ClientType,
    /// The client's outbox, needed to send.
    pub outbox: Option<Uuid>,
    /// The last event that was seen of each known room.
    pub resume: Vec<Position>,
}

/// Sort of client: chooses limits per address and the idle time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientType {
    /// A browser or a desktop program.
    #[default]
    Web,
    /// A phone.
    Mobile,
}

impl ClientType {
    /// The type as it stands in `hello` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ClientType::Web => "web",
            ClientType::Mobile => "mobile",
        }
    }
}

/// The last event of a room that a client has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Position {
    /// The room.
    pub room: Uuid,
    /// The room's epoch at that event.
    pub epoch: i32,
    /// The event's position; 0 when none was seen.
    pub seq: Seq,
    /// The event's id.
    pub event: Option<Uuid>,
}

/// How a client names a room to join.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomReference {
    /// By id.
    #[serde(rename = "room")]
    Id(Uuid),
    /// By the name of a public room.
    Name(String),
}

/// Which page of history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HistoryRange {
    /// The latest events before this position.
    pub before: Option<Seq>,
    /// The first events after this position.
    pub after: Option<Seq>,
}

/// A frame that cannot be understood, with what of it could be.
#[derive(Debug, PartialEq)]
pub struct BadFrame {
    /// The request's id, to be echoed.
    pub id: Option<u64>,
    /// The send's number, to be echoed.
    pub n: Option<i64>,
    /// What is wrong, without repeating what was sent.
    pub reason: String,
}

/// Decodes a text frame.
///
/// # Errors
/// Says what is wrong; the connection can go on.
pub fn decode(text: &str) -> Result<ClientFrame, BadFrame> {
    match serde_json::from_str(text) {
        Ok(ClientFrame::Send { id, n, .. }) if n < 1 => {
            Err(BadFrame { id, n: Some(n), reason: "n is numbered from 1".into() })
        }
        Ok(ClientFrame::History { id, range: HistoryRange { before: Some(_), after: Some(_) }, .. }) => {
            Err(BadFrame { id, n: None, reason: "give before or after, not both".into() })
        }
        Ok(ClientFrame::CreateRoom { id, kind: RoomKind::Direct, .. }) => {
            Err(BadFrame { id, n: None, reason: "kind is public or private: for two people there is direct".into() })
        }
        Ok(ClientFrame::Seen { id, users }) if users.len() > SEEN_USERS_MAX => {
            Err(BadFrame { id, n: None, reason: "ask for at most 100 users at once".into() })
        }
        Ok(frame) => Ok(frame),
        Err(error) => decode_command(text, &error),
    }
}

/// Decodes what is none of the other frames: a command, a signal, or nonsense.
fn decode_command(text: &str, error: &serde_json::Error) -> Result<ClientFrame, BadFrame> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Envelope {
        #[serde(rename = "type")]
        type_: serde_json::Value,
        id: Option<u64>,
        n: Option<i64>,
    }
    let Envelope { type_, id, n } = serde_json::from_str(text).unwrap_or_default();
    let is_one_of = |names: &[&str]| type_.as_str().is_some_and(|name| names.contains(&name));
    let decoded = if is_one_of(&Command::NAMES) {
        serde_json::from_str(text).map(|command| ClientFrame::Command { id, command })
    } else if is_one_of(&SignalFrame::NAMES) {
        serde_json::from_str(text).map(ClientFrame::Signal)
    } else {
        return Err(BadFrame { id, n, reason: reason(error) });
    };
    decoded.map_err(|error| BadFrame { id, n, reason: reason(&error) })
}

/// The decoder's sentence, unless it quotes the frame at length: an error must not become an echo.
fn reason(error: &serde_json::Error) -> String {
    let sentence = error.to_string();
    if sentence.len() <= 200 { sentence } else { "a field has a wrong value".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Uuid = Uuid::from_u128(7);

    #[track_caller]
    fn check(text: &str, expected: ClientFrame) {
        assert_eq!(decode(text), Ok(expected));
    }

    #[track_caller]
    fn refused(text: &str, id: Option<u64>, n: Option<i64>, reason: &str) {
        let bad = decode(text).unwrap_err();
        assert_eq!((bad.id, bad.n), (id, n));
        assert!(bad.reason.contains(reason), "{bad:?} does not say {reason:?}");
    }

    #[test]
    fn frames_are_understood() {
        let room = ROOM;
        check(r#"{"type":"hello"}"#, ClientFrame::Hello(Hello::default()));
        check(
            &format!(r#"{{"type":"send","id":5,"n":8,"room":"{room}","text":"hi","future":true}}"#),
            ClientFrame::Send { id: Some(5), n: 8, room, text: "hi".into(), reply: None, mentions: Vec::new() },
        );
        check(
            &format!(r#"{{"type":"join","room":"{room}"}}"#),
            ClientFrame::Join { id: None, room: RoomReference::Id(room) },
        );
        check(
            r#"{"type":"join","name":"lobby"}"#,
            ClientFrame::Join { id: None, room: RoomReference::Name("lobby".into()) },
        );
        check(
            &format!(r#"{{"type":"history","room":"{room}","after":10}}"#),
            ClientFrame::History { id: None, room, range: HistoryRange { before: None, after: Some(10) }, limit: None },
        );
        check(
            &format!(r#"{{"type":"set_topic","id":4,"room":"{room}","topic":"t"}}"#),
            ClientFrame::Command { id: Some(4), command: Command::SetTopic { room, topic: "t".into() } },
        );
    }

    #[test]
    fn nonsense_is_refused_with_what_can_be_echoed() {
        refused("{", None, None, "EOF");
        refused("[]", None, None, "missing field");
        refused(r#"{"type":"dance","id":3}"#, Some(3), None, "unknown variant");
        refused(r#"{"type":"create_room","id":3,"name":"x","kind":"direct"}"#, Some(3), None, "public or private");
        refused(r#"{"type":5,"id":3}"#, Some(3), None, "");
        refused(r#"{"type":"kick","id":3,"user":"bob"}"#, Some(3), None, "missing field `room`");
        refused(r#"{"type":"send","id":3,"n":4}"#, Some(3), Some(4), "missing field");
        refused(&format!(r#"{{"type":"send","n":0,"room":"{ROOM}","text":""}}"#), None, Some(0), "numbered from 1");
        refused(&format!(r#"{{"type":"history","room":"{ROOM}","before":1,"after":1}}"#), None, None, "not both");
        refused(r#"{"type":"send","n":1,"room":"nope","text":"x"}"#, None, Some(1), "");
    }
}

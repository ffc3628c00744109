//! What the server sends, apart from events, which are encoded where they are made.

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{AnnouncementFrame, ClientType, Code};
use crate::{
    event::{Event, Kind, Role, Room, RoomKind, Seq, Standing, to_json},
    signals::{State, Summary},
    store::{Member, Page, Tally, Unread},
};

/// A frame to a client.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "docs/protocol.md says what each field means")]
pub enum ServerFrame {
    Welcome {
        user: String,
        expires: u64,
        node: String,
        outbox_last: Seq,
        limits: LimitsFrame,
        rooms: Vec<RoomFrame>,
    },
    Room {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        room: RoomFrame,
    },
    Left {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        room: Uuid,
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<Kind>,
    },
    Done {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<Uuid>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<Seq>,
    },
    Members {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        room: Uuid,
        members: Vec<MemberFrame>,
        more: bool,
    },
    Accepted {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        n: i64,
    },
    Committed {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        n: i64,
        room: Uuid,
        epoch: i32,
        seq: Seq,
        event: Uuid,
        time: i64,
    },
    History {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        room: Uuid,
        epoch: i32,
        events: Vec<Box<RawValue>>,
        more: bool,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        reactions: Vec<TallyFrame>,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    Token {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        expires: u64,
    },
    Read {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        room: Uuid,
        seq: Seq,
    },
    Unread {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        rooms: Vec<UnreadFrame>,
    },
    Typing {
        room: Uuid,
        users: Vec<String>,
    },
    Presence {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        room: Uuid,
        whole: bool,
        present: usize,
        users: Vec<PresenceFrame>,
    },
    Seen {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        users: Vec<PresenceFrame>,
    },
    Announcement(AnnouncementFrame),
    AnnouncementEnded {
        id: Uuid,
    },
    Reconnect {
        after_ms: u64,
    },
    Error(Failure),
}

/// An error frame.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The send's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<i64>,
    /// The stable code.
    pub code: Code,
    /// A sentence for a person.
    pub message: String,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// The next number, when the code is `outbox_gap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<i64>,
    /// How long to wait, when the code is `too_fast`, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Limits that a client should know.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Limits"))]
pub struct LimitsFrame {
    /// Bytes of a text.
    pub text_bytes: usize,
    /// Requests that may wait for an answer.
    pub outstanding: usize,
    /// Events in a page of history.
    pub history_events: usize,
    /// People whom one message may name.
    pub mentions: usize,
    /// Days for which an outbox is kept after its last use: what was tried longer ago is not to be repeated.
    pub outbox_days: u32,
}

/// How often a message of a page has a reaction.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TallyFrame {
    /// The message.
    seq: Seq,
    /// The reaction.
    reaction: String,
    /// By how many people.
    count: i64,
    /// Whether the caller is among them.
    mine: bool,
}

impl From<Tally> for TallyFrame {
    fn from(Tally { seq, reaction, count, mine }: Tally) -> Self {
        TallyFrame { seq, reaction, count, mine }
    }
}

/// What the user has not read of a room.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnreadFrame {
    /// The room.
    room: Uuid,
    /// How far the user has read it.
    read: Seq,
    /// Messages of others after that, at most 100.
    messages: i64,
    /// How many name the user, at most 100.
    mentions: i64,
}

impl From<Unread> for UnreadFrame {
    fn from(Unread { room, read, messages, mentions }: Unread) -> Self {
        UnreadFrame { room, read, messages, mentions }
    }
}

/// How a user is present.
#[derive(Debug, Serialize)]
pub struct PresenceFrame {
    user: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<ClientType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<i64>,
}

impl PresenceFrame {
    /// The user as it is now; offline without a summary.
    pub fn new(user: &str, summary: Option<Summary>) -> Self {
        let state = match summary.map(|summary| summary.state) {
            Some(State::Online) => "online",
            Some(State::Away) => "away",
            None => "offline",
        };
        let devices = summary.map(|summary| [(summary.web, ClientType::Web), (summary.mobile, ClientType::Mobile)]);
        let devices = devices.into_iter().flatten().filter(|(has, _)| *has).map(|(_, device)| device).collect();
        PresenceFrame { user: user.to_owned(), state, devices, last_seen: None }
    }

    /// With the time at which a user who is offline was last seen.
    pub fn last_seen(mut self, ms: Option<i64>) -> Self {
        self.last_seen = ms.filter(|_| self.state == "offline");
        self
    }
}

/// A member of a room.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Member"))]
pub struct MemberFrame {
    /// Who.
    user: String,
    /// As what.
    role: Role,
    /// Until when the member may not write, in milliseconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    muted_until: Option<i64>,
}

impl MemberFrame {
    /// The member as it is now.
    pub fn new(member: &Member, now_ms: i64) -> Self {
        let standing = Standing { role: member.role, muted_until: member.muted_until };
        MemberFrame {
            user: member.user.to_string(),
            role: member.role,
            muted_until: standing.is_muted(now_ms).then_some(member.muted_until),
        }
    }
}

/// A room, as one of its members sees it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Room"))]
pub struct RoomFrame {
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    kind: RoomKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    muted_until: Option<i64>,
    epoch: i32,
    head: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<ResumeOutcome>,
}

/// What follows for a room after `welcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ResumeOutcome {
    /// No position was given: events after the head follow.
    Live,
    /// Everything after the given position follows.
    Replayed,
    /// Too much was missed: events after the head follow.
    TooFar,
    /// The position belongs to another history: events after the head follow.
    Reset,
}

impl RoomFrame {
    /// The room as `user` sees it, who stands there so.
    pub fn new(room: &Room, user: &str, standing: Standing, resume: Option<ResumeOutcome>) -> Self {
        RoomFrame {
            id: room.id,
            name: room.name.clone(),
            kind: room.kind,
            with: room.with(user).map(|user| user.to_string()),
            topic: room.topic.clone(),
            role: standing.role,
            muted_until: (standing.muted_until > 0).then_some(standing.muted_until),
            epoch: room.epoch,
            head: room.head,
            read: None,
            resume,
        }
    }

    /// With the position up to which the user has read.
    pub fn read(mut self, seq: Seq) -> Self {
        self.read = Some(seq);
        self
    }
}

impl ServerFrame {
    /// A refusal.
    pub fn error(id: Option<u64>, n: Option<i64>, code: Code) -> Self {
        Self::error_because(id, n, code, code.message().into())
    }

    /// A refusal with a sentence of its own.
    pub fn error_because(id: Option<u64>, n: Option<i64>, code: Code, message: String) -> Self {
        ServerFrame::Error(Failure {
            id,
            n,
            code,
            message,
            retryable: code.retryable(),
            expected: None,
            retry_after_ms: None,
        })
    }

    /// The code of a refusal.
    pub fn refusal(&self) -> Option<Code> {
        match self {
            ServerFrame::Error(failure) => Some(failure.code),
            _ => None,
        }
    }

    /// A refusal of a send that came too early.
    pub fn too_fast(id: Option<u64>, n: i64, retry_after_ms: u64) -> Self {
        match Self::error(id, Some(n), Code::TooFast) {
            ServerFrame::Error(failure) => {
                ServerFrame::Error(Failure { retry_after_ms: Some(retry_after_ms), ..failure })
            }
            other => other,
        }
    }

    /// A page of history. The events' frames go in as they are.
    pub fn history(id: Option<u64>, room: Uuid, page: &Page, tallies: Vec<Tally>) -> Self {
        let raw = |event: &Event| RawValue::from_string(event.frame.to_string()).expect("an event's frame is JSON");
        let events = page.events.iter().map(raw).collect();
        let reactions = tallies.into_iter().map(TallyFrame::from).collect();
        ServerFrame::History { id, room, epoch: page.epoch, events, more: page.more, reactions }
    }

    /// Encodes the frame.
    pub fn encode(&self) -> Utf8Bytes {
        to_json(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(frame: ServerFrame, expected: serde_json::Value) {
        assert_eq!(serde_json::from_str::<serde_json::Value>(&frame.encode()).unwrap(), expected);
    }

    #[test]
    fn frames_look_as_documented() {
        check(ServerFrame::Pong { id: Some(7) }, json!({"type": "pong", "id": 7}));
        check(
            ServerFrame::error(Some(5), Some(8), Code::NotAMember),
            json!({"type": "error", "id": 5, "n": 8, "code": "not_a_member", "retryable": false,
                "message": "you are not a member of this room: join it first"}),
        );
        let direct = Room {
            id: Uuid::nil(),
            kind: RoomKind::Direct,
            name: None,
            pair: Some(("alice".into(), "bob".into())),
            topic: None,
            epoch: 1,
            head: 3,
        };
        check(
            ServerFrame::Room { id: None, room: RoomFrame::new(&direct, "alice", Standing::default(), None) },
            json!({"type": "room", "room": {"id": Uuid::nil(), "kind": "direct", "with": "bob", "role": "member", "epoch": 1, "head": 3}}),
        );
    }
}

//! What goes into a session and what comes out of it.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{
    auth::{Claims, TokenError},
    event::{Kind, RoomKind, Seat, Seq, User},
    hub::Notice,
    intake::Awaited,
    protocol::{
        BadFrame, ClientFrame, ClientType, CloseReason, Code, Command, HistoryRange, Position, PresenceFrame,
        ResumeOutcome, RoomReference, ServerFrame,
    },
    signals::State,
    store::{Answer, Append, Arrival, Changed, Member, Message, Page, Tally, Unread},
};

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A text frame arrived.
    Frame(Result<ClientFrame, BadFrame>),
    /// A frame arrived that is no text.
    NotText,
    /// A token was checked: that of `hello`, or one that is to replace it.
    Verified(Result<Claims, TokenError>),
    /// The user's rooms were read.
    Arrived(Result<Arrival, Code>),
    /// A request ended.
    Done(Outcome),
    /// The hub tells something.
    Notice(Notice),
    /// Time passed.
    Tick,
}

/// How a request ended.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields of requests and answers, as in docs/protocol.md")]
pub enum Outcome {
    /// Whether the user is in the room of a send.
    Seated { send: Send, seat: Result<Option<Seat>, Code> },
    /// A send.
    Sent { id: Option<u64>, n: i64, answer: Result<Answer, Code> },
    /// A send that came too early for its user's rate. It has not used its number.
    TooFast { id: Option<u64>, n: i64, retry_after_ms: u64 },
    /// A send that is durable; its fate comes later, as [`Outcome::Settled`].
    Accepted { id: Option<u64>, n: i64, fate: Awaited },
    /// The fate of an accepted send.
    Settled { id: Option<u64>, n: i64, answer: Result<Answer, Code> },
    /// `create_room`, `join` or `direct`.
    Entered { id: Option<u64>, result: Result<Changed, Code> },
    /// A command.
    CarriedOut { id: Option<u64>, room: Uuid, result: Result<Changed, Code> },
    /// `members`.
    Listed { id: Option<u64>, room: Uuid, result: Result<(Vec<Member>, bool), Code> },
    /// `watch` failed, or can be answered.
    Watched { id: Option<u64>, room: Uuid, result: Result<(), Code> },
    /// `read`.
    Marked { id: Option<u64>, room: Uuid, result: Result<Seq, Code> },
    /// `unread`.
    Counted { id: Option<u64>, result: Result<Vec<Unread>, Code> },
    /// `seen`.
    Seen { id: Option<u64>, result: Result<Vec<PresenceFrame>, Code> },
    /// How memberships have ended, and at which positions, of those that have by their rooms' logs; `seats` is what was listed.
    Explained { seats: Vec<Seat>, endings: HashMap<Uuid, (Kind, Seq)> },
    /// `leave`.
    Left { id: Option<u64>, room: Uuid, result: Result<Changed, Code> },
    /// `history`.
    Read { id: Option<u64>, room: Uuid, result: Result<(Page, Vec<Tally>), Code> },
}

/// Something to be done.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields of requests and answers, as in docs/protocol.md")]
pub enum Effect {
    /// Write a frame.
    Reply(ServerFrame),
    /// Check a token; comes back as [`Input::Verified`].
    Verify(String),
    /// Read what the user finds on arrival; comes back as [`Input::Arrived`].
    Arrive { user: User, login: Option<Uuid>, client: ClientType, outbox: Option<Uuid>, resume: Vec<Position> },
    /// The connection belongs to this login from now on.
    Belong(Option<Uuid>),
    /// Tell what is announced to everybody, now and from now on.
    Announce,
    /// Deliver these rooms' events from these positions of these epochs on.
    Follow(Vec<(Uuid, i32, Seq)>),
    /// Deliver this room's events no more.
    Unfollow(Uuid),
    /// Put a send into the log; comes back as [`Outcome::Sent`].
    Append { id: Option<u64>, append: Append },
    /// Wait for the fate of an accepted send; comes back as [`Outcome::Settled`].
    Await { id: Option<u64>, n: i64, fate: Awaited },
    /// Ask the store; comes back as an [`Outcome`].
    Ask(Request),
    /// Tell a room that the user types.
    Typing(Uuid),
    /// The user is at this device, or away.
    Status(State),
    /// Get to know the members of a room, to tell of their presence; comes back as [`Outcome::Watched`].
    Watch { id: Option<u64>, room: Uuid },
    /// Answer `watch`, and tell from then on of what changes.
    Show { id: Option<u64>, room: Uuid },
    /// Tell of it no more.
    Unwatch(Uuid),
    /// Close the connection after what was written.
    Close(CloseReason),
    /// Count how a room's resume went.
    Resumed(ResumeOutcome),
}

/// Something to ask the store.
#[derive(Debug)]
#[allow(missing_docs, reason = "where nothing is said, the requests of docs/protocol.md §3")]
pub enum Request {
    CreateRoom {
        id: Option<u64>,
        user: User,
        name: String,
        kind: RoomKind,
    },
    Join {
        id: Option<u64>,
        user: User,
        room: RoomReference,
    },
    Leave {
        id: Option<u64>,
        user: User,
        room: Uuid,
    },
    Direct {
        id: Option<u64>,
        user: User,
        other: User,
    },
    History {
        id: Option<u64>,
        user: User,
        room: Uuid,
        range: HistoryRange,
        limit: usize,
    },
    Read {
        id: Option<u64>,
        user: User,
        room: Uuid,
        seq: Seq,
    },
    Unread {
        id: Option<u64>,
        user: User,
    },
    Seen {
        id: Option<u64>,
        users: Vec<String>,
    },
    CarryOut {
        id: Option<u64>,
        user: User,
        command: Command,
    },
    Members {
        id: Option<u64>,
        room: Uuid,
        after: String,
        limit: usize,
    },
    /// Whether the user is in the room of this send, which nobody has told here. Nothing else is read from the client until it is answered,
    /// because what comes behind must not overtake it.
    Seat {
        user: User,
        send: Send,
    },
    /// Whether and how the user's memberships of these rooms have ended after these positions: a list of all rooms, `seats`, does not
    /// have them.
    Explain {
        user: User,
        seats: Vec<Seat>,
        lost: Vec<(Uuid, Seq)>,
    },
}

impl Request {
    /// Whether it may change something, and somebody has to be told.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Request::CreateRoom { .. }
            | Request::Join { .. }
            | Request::Leave { .. }
            | Request::Direct { .. }
            | Request::Read { .. }
            | Request::CarryOut { .. } => true,
            Request::History { .. }
            | Request::Unread { .. }
            | Request::Seen { .. }
            | Request::Members { .. }
            | Request::Seat { .. }
            | Request::Explain { .. } => false,
        }
    }
}

/// A send, as the client has said it.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields of docs/protocol.md §4")]
pub struct Send {
    pub id: Option<u64>,
    pub n: i64,
    pub room: Uuid,
    pub message: Message,
}

/// A moment, as the gateway sees it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds since 1970 UTC.
    pub ms: i64,
}

impl Now {
    pub(super) fn seconds(self) -> u64 {
        u64::try_from(self.ms / 1000).unwrap_or(0)
    }
}

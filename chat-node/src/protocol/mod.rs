//! The protocol of `docs/protocol.md`: frames in, frames out, error codes, close codes.
//!
//! Owns the encoding and nothing else: it knows no session, no store and no socket.

mod announcement;
mod client;
mod code;
mod command;
mod server;
mod wire;

pub use announcement::{ANNOUNCEMENT_BYTES_MAX, AnnouncementFrame, check_announcement};
pub use client::{
    BadFrame, ClientFrame, ClientType, Hello, HistoryRange, MENTIONS_MAX, Position, RoomReference, SEEN_USERS_MAX,
    SignalFrame, decode,
};
pub use code::{CloseReason, Code};
pub use command::{Command, SANCTION_SECONDS_MAX, check_guest, check_text, check_user};
pub use server::{
    Failure, LimitsFrame, MemberFrame, PresenceFrame, ResumeOutcome, RoomFrame, ServerFrame, TallyFrame, UnreadFrame,
};
pub use wire::Frames;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "chatcluster.v1";

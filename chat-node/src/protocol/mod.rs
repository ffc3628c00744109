//! The protocol of `docs/protocol.md`: frames in, frames out, error codes, close codes.
//!
//! Owns the encoding and nothing else: it knows no session, no store and no socket.

mod client;
mod code;
mod server;

pub use client::{BadFrame, ClientFrame, ClientType, Hello, HistoryRange, Position, RoomReference, decode};
pub use code::{CloseReason, Code};
pub use server::{Failure, LimitsFrame, ResumeOutcome, RoomFrame, ServerFrame};

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "chatcluster.v1";

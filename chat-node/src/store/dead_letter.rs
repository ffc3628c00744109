//! Dead letters: sends that were perhaps acknowledged and cannot be written. They are kept for a person to look at.

use uuid::Uuid;

use super::Append;
use crate::protocol::Code;

/// A send that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Made from the payload, so that burying it twice is burying it once.
    pub id: Uuid,
    /// Why.
    pub reason: DeadReason,
    /// The send as it was queued, in JSON.
    pub payload: String,
}

/// Why a send cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadReason {
    /// The log refuses it.
    Refused(Code),
    /// Its predecessor is neither in the log nor before it in the queue: nobody was told that it is durable, or the log was set back.
    Gap,
    /// It is not a send, or one of a newer version.
    Unreadable,
}

impl DeadReason {
    /// As it stands in the table and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            DeadReason::Refused(code) => code.as_str(),
            DeadReason::Gap => Code::OutboxGap.as_str(),
            DeadReason::Unreadable => "unreadable",
        }
    }
}

impl DeadLetter {
    /// A send that the log refuses.
    pub fn refused(send: &Append, code: Code) -> Self {
        Self::of(send, DeadReason::Refused(code))
    }

    /// A send whose predecessor is missing.
    pub fn gap(send: &Append) -> Self {
        Self::of(send, DeadReason::Gap)
    }

    /// Something that is not a send.
    pub fn unreadable(payload: &[u8]) -> Self {
        // PostgreSQL takes no NUL in a text.
        Self::new(DeadReason::Unreadable, String::from_utf8_lossy(payload).replace('\0', "\u{fffd}"))
    }

    fn of(send: &Append, reason: DeadReason) -> Self {
        Self::new(reason, serde_json::to_string(send).expect("a send has string keys and encodes"))
    }

    fn new(reason: DeadReason, payload: String) -> Self {
        DeadLetter { id: Uuid::new_v5(&Uuid::NAMESPACE_OID, payload.as_bytes()), reason, payload }
    }
}

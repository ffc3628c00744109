//! The ways in which the promise can be broken, each with the evidence.

use std::fmt;

use uuid::Uuid;

/// One broken promise, as a client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Whose record shows it; empty when it is the history itself.
    pub client: String,
    /// In which room.
    pub room: Uuid,
    /// What is wrong.
    pub what: What,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The history is not numbered 1, 2, 3, ...
    HistoryHole {
        /// The number that should be there.
        expected: u64,
        /// The number that is.
        found: u64,
    },
    /// Nobody read the history of the room, so nothing about it is shown.
    NoHistory,
    /// A committed message is not in the history.
    Lost {
        /// Its number in the outbox.
        n: u64,
        /// The place that it was said to have.
        seq: u64,
    },
    /// An accepted message is not in the history.
    AcceptedAndLost {
        /// Its number in the outbox.
        n: u64,
    },
    /// A client saw an event that is not in the history.
    Vanished {
        /// Its place.
        seq: u64,
    },
    /// Two see different events in one place.
    Differs {
        /// The place.
        seq: u64,
        /// The event that this client was told of.
        here: Uuid,
        /// The event that the others see.
        elsewhere: Uuid,
    },
    /// The event of an acknowledgement is not the message that was sent.
    WrongMessage {
        /// Its number in the outbox.
        n: u64,
        /// The place.
        seq: u64,
    },
    /// A member that was there throughout never saw an event.
    Missed {
        /// Its place.
        seq: u64,
    },
    /// Events were left out on a connection.
    Hole {
        /// Which connection.
        connection: usize,
        /// The last place before.
        after: u64,
        /// The place that came next.
        seq: u64,
    },
    /// An event came a second time, on a connection or after a resume from it, or after a later one.
    Again {
        /// Which connection.
        connection: usize,
        /// The last place before.
        after: u64,
        /// The place that came next.
        seq: u64,
    },
    /// The server knew of fewer messages of an outbox than it had settled.
    SetBack {
        /// The last number that was settled.
        settled: u64,
        /// The last number that it knew of.
        known: u64,
    },
    /// One send has two places.
    TwoPlaces {
        /// Its number in the outbox.
        n: u64,
        /// The first place.
        first: u64,
        /// The other.
        second: u64,
    },
    /// A send was both refused and committed.
    RefusedAndCommitted {
        /// Its number in the outbox.
        n: u64,
    },
    /// A text is in the history more often than it was sent.
    Doubled {
        /// The text.
        text: String,
        /// How often it was sent and not refused.
        sent: usize,
        /// How often it is there.
        found: usize,
    },
    /// A sender's messages are in another order than in its outbox.
    Reordered {
        /// The later number.
        n: u64,
        /// Its place, which is before that of an earlier number.
        seq: u64,
        /// The place of the earlier number.
        before: u64,
    },
    /// On one connection the sends of an outbox were answered in another order.
    AnswersReordered {
        /// Which connection.
        connection: usize,
        /// The number that was answered first.
        first: u64,
        /// The lower number that was answered after it.
        second: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.client.is_empty() { "the history" } else { &self.client };
        write!(f, "{who}, room {}: {}", self.room, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::HistoryHole { expected, found } => write!(f, "has {found} where {expected} should be"),
            What::NoHistory => f.write_str("was not read at the end, so nothing is shown about it"),
            What::Lost { n, seq } => write!(f, "send {n} was committed as {seq}, and the history does not have it"),
            What::AcceptedAndLost { n } => write!(f, "send {n} was accepted, and the history does not have it"),
            What::Vanished { seq } => write!(f, "saw event {seq}, and the history does not have it"),
            What::Differs { seq, here, elsewhere } => write!(f, "event {seq} is {here} here and {elsewhere} elsewhere"),
            What::WrongMessage { n, seq } => write!(f, "send {n} was committed as {seq}, but another message is there"),
            What::Missed { seq } => write!(f, "never saw event {seq}"),
            What::Hole { connection, after, seq } => {
                write!(
                    f,
                    "event {seq} came right after {after} on connection {connection}: those between were left out"
                )
            }
            What::Again { connection, after, seq } => {
                write!(f, "event {seq} came after {after} on connection {connection}: it was there before")
            }
            What::SetBack { settled, known } => {
                write!(f, "sends up to {settled} were settled, then only those up to {known}")
            }
            What::TwoPlaces { n, first, second } => write!(f, "send {n} was committed as {first} and as {second}"),
            What::RefusedAndCommitted { n } => write!(f, "send {n} was refused for good and yet committed"),
            What::Doubled { text, sent, found } => {
                write!(f, "{text:?} was sent {sent} times and is there {found} times")
            }
            What::Reordered { n, seq, before } => {
                write!(f, "send {n} has place {seq}, before that of an earlier send, which has {before}")
            }
            What::AnswersReordered { connection, first, second } => {
                write!(f, "send {first} was answered before {second} on connection {connection}")
            }
        }
    }
}

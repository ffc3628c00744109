//! What a client tells of itself while it runs.
//!
//! A record, a printer or a counter listens; the client neither knows nor waits for any of them.

use uuid::Uuid;

use super::End;
use crate::frame::{Announcement, Committed, Event, Position, Refusal, Room, Welcome};

/// One thing that happened to a client.
#[derive(Clone, Debug)]
pub enum Observation {
    /// A connection was welcomed.
    Connected {
        /// What the server said.
        welcome: Welcome,
        /// What the client had said it knows.
        resumed: Vec<Position>,
    },
    /// Another token holds on the same connection.
    Renewed,
    /// A connection ended, or an attempt to make one did.
    Ended(End),
    /// The client will not come back.
    Stopped,
    /// A message went into the outbox.
    Queued {
        /// Its number there.
        n: u64,
        /// Where it goes.
        room: Uuid,
        /// What it says.
        text: String,
    },
    /// A message is durable.
    Accepted {
        /// Its number in the outbox.
        n: u64,
    },
    /// A message has its place.
    Committed(Committed),
    /// A message was refused for good.
    Refused {
        /// Its number in the outbox.
        n: u64,
        /// Why.
        refusal: Refusal,
    },
    /// A message was first tried too long ago to be repeated; whether it was taken is not known.
    Expired {
        /// Its number in the outbox.
        n: u64,
    },
    /// The server knows of fewer messages than it has settled: its database was set back, or it has forgotten the outbox. What waits goes on
    /// in another one.
    SetBack {
        /// The last number that was settled, and those before it.
        settled: u64,
        /// The last number that the server knows of.
        known: u64,
    },
    /// A message or a request was refused for now.
    Deferred(Refusal),
    /// The user is in this room.
    Joined(Room),
    /// The user is not in this room any more, and this is the cause, when it was somebody else's doing.
    Left(Uuid, Option<String>),
    /// An event of a room came.
    Event(Event),
    /// Something is announced to everybody; with each connection again, while it is in force.
    Announced(Announcement),
    /// An announcement was ended.
    AnnouncementEnded(Uuid),
}

/// Listens to a client. It is called between two frames and must not block.
pub trait Observer: Send + Sync + 'static {
    /// `connection` counts the welcomed connections of this client from 1; 0 is before the first. `at_ms` is in milliseconds
    /// since 1970 UTC.
    fn observe(&mut self, at_ms: u64, connection: usize, what: &Observation);
}

/// Nobody listens.
impl Observer for () {
    fn observe(&mut self, _: u64, _: usize, _: &Observation) {}
}

//! What one client saw, written down as it happens: the evidence that the checker judges.
//!
//! A record is written only from the client's side of the wire. It repeats, it does not interpret.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

use crate::{
    client::{End, Observation, Observer},
    frame::{Announcement, Committed, Event, Position, Refusal, Room},
};

/// Everything that one client sent and saw.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Whom the client's token names.
    pub user: String,
    /// Its welcomed connections, the first at index 0.
    pub connections: Vec<Connection>,
    /// What it put into its outbox, by rising number.
    pub sends: Vec<Send>,
    /// The acknowledgements with a place, as they came.
    pub acks: Vec<Ack>,
    /// The events, as they came.
    pub events: Vec<Seen>,
    /// The rooms that it was told it is in, as it was told so first.
    pub rooms: Vec<Room>,
    /// The rooms that it left.
    pub left: Vec<Uuid>,
    /// Those that it was removed from, and how.
    pub removed: Vec<(Uuid, String)>,
    /// What was announced to everybody on the present connection and has not been ended, as it came.
    pub announced: Vec<Announcement>,
    /// Attempts to connect that failed before a welcome, with the reason.
    pub failed_attempts: Vec<(u64, End)>,
    /// Retryable refusals, as they came.
    pub deferred: Vec<Deferral>,
    /// Each time that the server knew of fewer messages than it had settled: the last number that was settled, and the last that it knew of.
    pub set_back: Vec<(u64, u64)>,
    /// How often another token took the place of one that was about to expire.
    pub renewals: usize,
    /// Whether the client has ended.
    pub stopped: bool,
    /// Whether the person went away for good before the end: what it never saw, or heard of its messages, then is no loss. What
    /// was acknowledged to it still counts.
    pub parted: bool,
}

/// A welcomed connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The node's name.
    pub node: String,
    /// When it was welcomed, in milliseconds since 1970 UTC.
    pub opened_ms: u64,
    /// What the client said it knows.
    pub resumed: Vec<Position>,
    /// What the server said it will do, for each room of the user.
    pub rooms: Vec<Room>,
    /// The rooms that came while it was open, at each join.
    pub joined: Vec<Room>,
    /// When and why it ended.
    pub ended: Option<(u64, End)>,
}

/// A message in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// Its number.
    pub n: u64,
    /// Where it goes.
    pub room: Uuid,
    /// What it says.
    pub text: String,
    /// When it was put there.
    pub at_ms: u64,
    /// Whether it was durable before it had a place.
    pub accepted: bool,
    /// The code, when it was refused for good.
    pub refused: Option<String>,
    /// Whether it was too old to be repeated, so that its fate stays unknown.
    pub expired: bool,
}

/// A refusal of a send that may succeed later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Number of the connection that brought it, from 1.
    pub connection: usize,
    /// Number of the send in the outbox.
    pub n: Option<u64>,
    /// Stable name of the reason.
    pub code: String,
}

/// An acknowledgement with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Number of the connection that brought it, from 1.
    pub connection: usize,
    /// When it came.
    pub at_ms: u64,
    /// What it says.
    pub committed: Committed,
}

/// An event that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of the connection that brought it, from 1.
    pub connection: usize,
    /// When it came.
    pub at_ms: u64,
    /// The event.
    pub event: Event,
}

impl Record {
    /// How often the client had to change its connection.
    pub fn moves(&self) -> usize {
        self.connections.len().saturating_sub(1)
    }

    /// Whether the client has heard of everything in the room up to `head`.
    pub fn has_reached(&self, room: Uuid, head: u64) -> bool {
        let knew = self.rooms.iter().any(|known| known.id == room && known.head >= head);
        knew || self.events.iter().rev().any(|seen| seen.event.room == room && seen.event.seq >= head)
    }

    /// The message with a number of the outbox.
    pub fn send_numbered(&self, n: u64) -> Option<&Send> {
        self.sends.get(index(n)?)
    }

    /// Messages whose fate the client does not know.
    pub fn undecided(&self) -> usize {
        let committed: BTreeSet<u64> = self.acks.iter().map(|ack| ack.committed.n).collect();
        let has_no_fate = |send: &&Send| send.refused.is_none() && !send.expired && !committed.contains(&send.n);
        self.sends.iter().filter(has_no_fate).count()
    }

    /// Writes down what happened.
    pub fn write(&mut self, at_ms: u64, connection: usize, what: &Observation) {
        match what {
            Observation::Connected { welcome, resumed } => {
                self.user.clone_from(&welcome.user);
                self.announced.clear();
                let (node, rooms) = (welcome.node.clone(), welcome.rooms.clone());
                rooms.iter().for_each(|room| self.room(room));
                let resumed = resumed.clone();
                self.connections.push(Connection {
                    node,
                    opened_ms: at_ms,
                    resumed,
                    rooms,
                    joined: Vec::new(),
                    ended: None,
                });
            }
            Observation::Ended(end) => match self.connections.last_mut() {
                Some(open) if open.ended.is_none() => open.ended = Some((at_ms, end.clone())),
                _ => self.failed_attempts.push((at_ms, end.clone())),
            },
            Observation::Renewed => self.renewals += 1,
            Observation::Stopped => self.stopped = true,
            Observation::Queued { n, room, text } => {
                let (n, room, text) = (*n, *room, text.clone());
                self.sends.push(Send { n, room, text, at_ms, accepted: false, refused: None, expired: false });
            }
            Observation::Accepted { n } => self.send(*n, |send| send.accepted = true),
            Observation::Committed(committed) => self.acks.push(Ack { connection, at_ms, committed: *committed }),
            Observation::Expired { n } => self.send(*n, |send| send.expired = true),
            Observation::SetBack { settled, known } => self.set_back.push((*settled, *known)),
            Observation::Refused { n, refusal } => self.send(*n, |send| send.refused = Some(refusal.code.clone())),
            Observation::Deferred(Refusal { n, code, .. }) => {
                self.deferred.push(Deferral { connection, n: *n, code: code.clone() });
            }
            Observation::Joined(room) => {
                self.room(room);
                self.connections.last_mut().into_iter().for_each(|open| open.joined.push(room.clone()));
            }
            Observation::Left(room, cause) => {
                self.left.push(*room);
                self.removed.extend(cause.as_ref().map(|cause| (*room, cause.clone())));
            }
            Observation::Announced(announcement) => self.announced.push(announcement.clone()),
            Observation::AnnouncementEnded(id) => self.announced.retain(|announced| announced.id != *id),
            Observation::Event(event) => self.events.push(Seen { connection, at_ms, event: event.clone() }),
        }
    }

    fn room(&mut self, room: &Room) {
        if self.rooms.iter().all(|known| known.id != room.id) {
            self.rooms.push(room.clone());
        }
    }

    fn send(&mut self, n: u64, change: impl FnOnce(&mut Send)) {
        if let Some(send) = index(n).and_then(|index| self.sends.get_mut(index)) {
            change(send);
        }
    }
}

/// The outbox numbers from 1 without gaps.
fn index(n: u64) -> Option<usize> {
    usize::try_from(n.checked_sub(1)?).ok()
}

/// A record that its client still writes, shared with whoever wants to look.
#[derive(Clone)]
pub struct Recorder {
    record: Arc<Mutex<Record>>,
    changes: watch::Sender<()>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder { record: Arc::default(), changes: watch::Sender::new(()) }
    }
}

impl Recorder {
    /// Looks at the record as it is now. The client waits meanwhile.
    pub fn look(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }

    /// Notes that the person goes away for good.
    pub fn part(&self) {
        self.record.lock().parted = true;
    }

    /// Waits until `look` finds what it looks for, and gives it; `None` when `limit` has passed before.
    pub async fn until<T>(&self, limit: Duration, mut look: impl FnMut(&Record) -> Option<T>) -> Option<T> {
        let mut changes = self.changes.subscribe();
        let found = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = look(&self.record.lock()) {
                    return found;
                }
                // It cannot fail: the sender lives as long as `self`.
                let _ = changes.changed().await;
            }
        };
        timeout(limit, found).await.ok()
    }
}

impl Observer for Recorder {
    fn observe(&mut self, at_ms: u64, connection: usize, what: &Observation) {
        self.record.lock().write(at_ms, connection, what);
        self.changes.send_replace(());
    }
}

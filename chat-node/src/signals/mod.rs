//! Signals: what is told and never stored as an event. Presence, typing, and read cursors on their way to one's other devices.
//!
//! Owns who is present, who watches whom and who types, and the beat at which that is told: what comes in between is gathered, so that
//! cost grows with what is delivered. A signal that is lost is lost; presence alone repairs itself.
//!
//! Who is present goes two ways. Each second a node tells the others over the bus what has changed, and lays the same messages down where
//! sessions live, with a sign of life. A node that the bus does not reach is followed there. So with the bus away, or with one node cut
//! off from it, presence is right a second or two later than otherwise, and a node that starts knows at once who is there. With both
//! away the others' users are gone, for nobody can tell.
//!
//! | file | what it owns |
//! |---|---|
//! | `roll` | who is present, pure |
//! | `ledger` | what the store is to be given of it, pure |
//! | `keeping` | giving it, and reading what others gave |
//! | `board` | who watches whom, pure |
//! | `typing` | who types, pure |

mod board;
mod keeping;
mod ledger;
mod roll;
mod typing;

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

pub use self::roll::{Peer, State, Summary, Told};
use self::{
    board::{Board, Reading},
    ledger::Ledger,
    roll::Roll,
    typing::Typing,
};
use crate::{
    bus::Bus,
    event::{Membership, Seq, User},
    hub::{ConnectionId, Hub, Outbound},
    protocol::{ClientType, Frames, ServerFrame},
    store::{SharedSessions, SharedStore, StoreError, answered},
};

/// Time between frames of typing; presence is told at every second one.
const BEAT: Duration = Duration::from_millis(500);

/// Users whose presence is looked at in one second. The rest waits for the next.
const CHANGES_MAX: usize = 5_000;

/// Members that are read at once when a room is first watched.
const MEMBERS_PAGE: usize = 1_000;

/// Something that nodes tell each other and that nobody stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum Signal {
    /// Who is present.
    Presence(Told),
    /// These users write something in this room.
    Typing { room: Uuid, users: Vec<User> },
    /// A user has read a room up to here.
    Read { user: User, room: Uuid, seq: Seq },
}

#[derive(Default)]
struct Inner {
    roll: Roll,
    ledger: Ledger,
    board: Board,
    typing: Typing,
}

/// The signals of a node.
pub struct Signals {
    inner: Mutex<Inner>,
    store: SharedStore,
    sessions: SharedSessions,
    bus: Bus,
    hub: Arc<Hub>,
    /// Whether the node has ended; held while something is given to the store.
    is_over: tokio::sync::Mutex<bool>,
    /// Held while members of watched rooms are read again, so that what was read earlier takes nothing back that was read later.
    rechecks: tokio::sync::Mutex<()>,
}

impl Signals {
    /// Starts the beat, which ends with the last handle.
    pub fn start(store: SharedStore, sessions: SharedSessions, bus: Bus, hub: Arc<Hub>) -> Arc<Signals> {
        let (inner, is_over, rechecks) = (Mutex::default(), Default::default(), Default::default());
        let signals = Arc::new(Signals { inner, store, sessions, bus, hub, is_over, rechecks });
        tokio::spawn(beat(Arc::downgrade(&signals)));
        tokio::spawn(keeping::keep(Arc::downgrade(&signals)));
        signals
    }

    /// A connection has become a user's.
    pub fn enter(&self, user: &User, id: ConnectionId, client: ClientType) {
        self.inner.lock().roll.enter(user, id, client);
    }

    /// A connection has ended.
    pub fn exit(&self, user: &User, id: ConnectionId) {
        let mut inner = self.inner.lock();
        inner.roll.exit(user, id, now_ms());
        inner.board.exit(id);
    }

    /// A connection's user is at it, or away.
    pub fn set(&self, user: &User, id: ConnectionId, state: State) {
        self.inner.lock().roll.set(user, id, state);
    }

    /// A user's presence on all nodes.
    pub fn summary(&self, user: &str) -> Option<Summary> {
        self.inner.lock().roll.summary(user)
    }

    /// Makes ready for a connection to watch the presence of a room's members, until it [ends](Self::exit) or [gives up](Self::unwatch).
    ///
    /// # Errors
    /// When the members cannot be read.
    pub async fn watch(&self, room: Uuid, id: ConnectionId) -> Result<(), StoreError> {
        let must_load = self.inner.lock().board.watch(room, id);
        if must_load && let Err(error) = self.load(room).await {
            self.unwatch(room, id);
            return Err(error);
        }
        Ok(())
    }

    /// Tells a connection that watches a room of all who are present now, and from then on of what changes. Tells whether it could.
    pub fn show(&self, room: Uuid, id: ConnectionId, outbound: &Arc<Outbound>, request: Option<u64>) -> bool {
        // Under the lock, so that no change is told before.
        let mut inner = self.inner.lock();
        let Some(frame) = inner.board.show(room, id, outbound, request) else { return false };
        outbound.push(&frame);
        true
    }

    /// A connection watches a room no more.
    pub fn unwatch(&self, room: Uuid, id: ConnectionId) {
        self.inner.lock().board.unwatch(room, id);
    }

    async fn load(&self, room: Uuid) -> Result<(), StoreError> {
        let reading = self.begin_reading(vec![room]);
        let mut members: Vec<User> = Vec::new();
        loop {
            let after = members.last().cloned().unwrap_or_else(|| "".into());
            let page = answered(self.store.members(room, &after, MEMBERS_PAGE)).await?;
            let is_last = page.len() < MEMBERS_PAGE;
            members.extend(page.into_iter().map(|member| member.user));
            if is_last {
                break;
            }
        }
        let mut inner = self.inner.lock();
        let Inner { roll, board, .. } = &mut *inner;
        board.load(reading.number, room, members, |user| roll.summary(user));
        Ok(())
    }

    fn begin_reading(&self, rooms: Vec<Uuid>) -> UnderWay<'_> {
        let number = self.inner.lock().board.begin(&rooms);
        UnderWay { signals: self, number, rooms }
    }

    /// Memberships changed.
    pub fn change(&self, memberships: &[Membership]) {
        let mut inner = self.inner.lock();
        let Inner { roll, board, .. } = &mut *inner;
        for Membership { user, room, member, .. } in memberships {
            board.member(room.id, user, *member, |user| roll.summary(user));
        }
    }

    /// Whether the bus tells of every change of membership: it carries all nodes that are there.
    pub fn hears_all(&self) -> bool {
        self.bus.is_up() && !self.inner.lock().roll.has_quiet(now_ms())
    }

    /// These users' memberships changed: reads those of the watched rooms again.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn recheck_users(&self, users: &[User]) -> Result<(), StoreError> {
        let _turn = self.rechecks.lock().await;
        let rooms = self.inner.lock().board.rooms();
        if users.is_empty() || rooms.is_empty() {
            return Ok(());
        }
        let reading = self.begin_reading(rooms);
        let seats: HashSet<(User, Uuid)> = answered(self.store.memberships(users))
            .await?
            .into_iter()
            .map(|(user, seat)| (user, seat.room.id))
            .collect();
        let mut inner = self.inner.lock();
        let Inner { roll, board, .. } = &mut *inner;
        board.load_users(reading.number, &reading.rooms, users, &seats, |user| roll.summary(user));
        Ok(())
    }

    /// Memberships may have changed unheard: reads those of the watched rooms again.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn recheck(&self) -> Result<(), StoreError> {
        let _turn = self.rechecks.lock().await;
        let rooms = self.inner.lock().board.rooms();
        for room in rooms {
            self.load(room).await?;
        }
        Ok(())
    }

    /// Whether there may be other nodes.
    fn has_others(&self) -> bool {
        !self.bus.peer().is_empty()
    }

    /// A user writes something in a room.
    pub fn typing(&self, room: Uuid, user: &User) {
        self.inner.lock().typing.here(room, user);
    }

    /// Tells a user's devices how far the user has read.
    pub fn read(&self, user: &User, room: Uuid, seq: Seq) {
        self.hub.tell_user(user, &ServerFrame::Read { id: None, room, seq }.encode());
        self.bus.publish_signals(vec![Signal::Read { user: user.clone(), room, seq }]);
    }

    /// Hears what another node tells.
    pub fn hear(&self, peer: &Peer, signals: Vec<Signal>) {
        signals.into_iter().for_each(|signal| match signal {
            Signal::Presence(told) => {
                let answer = self.inner.lock().roll.hear(peer, told, self.bus.peer(), now_ms());
                self.bus.publish_signals(answer.into_iter().map(Signal::Presence).collect());
            }
            signal => self.deliver(signal),
        });
    }

    fn deliver(&self, signal: Signal) {
        match signal {
            Signal::Presence(_) => {}
            Signal::Typing { room, users } => self.inner.lock().typing.elsewhere(room, users),
            Signal::Read { user, room, seq } => {
                self.hub.tell_user(&user, &ServerFrame::Read { id: None, room, seq }.encode());
            }
        }
    }

    fn tell_typing(&self) {
        let (frames, signals) = self.inner.lock().typing.take();
        frames.iter().for_each(|(room, frame)| self.hub.tell_room(*room, frame));
        self.bus.publish_signals(signals);
    }

    /// Tells of presence what has changed.
    fn tell_presence(&self) {
        let mut inner = self.inner.lock();
        let Inner { roll, board, ledger, .. } = &mut *inner;
        roll.pass(now_ms());
        let told = roll.tell();
        if self.has_others() {
            ledger.add(&told, roll.own_users());
        }
        for user in roll.take_changed(CHANGES_MAX) {
            board.update(&user, roll.summary(&user));
        }
        let frames = board.take();
        drop(inner);
        self.bus.publish_signals(vec![Signal::Presence(told)]);
        for (frame, watchers) in frames {
            let frame = Frames::text(&frame);
            watchers.iter().for_each(|watcher| watcher.offer(&frame));
        }
    }
}

/// A reading of members, until it is over or given up.
struct UnderWay<'a> {
    signals: &'a Signals,
    number: Reading,
    rooms: Vec<Uuid>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.signals.inner.lock().board.end(self.number, &self.rooms);
    }
}

async fn beat(signals: Weak<Signals>) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for even in [true, false].into_iter().cycle() {
        beat.tick().await;
        let Some(signals) = signals.upgrade() else { return };
        signals.tell_typing();
        if even {
            signals.tell_presence();
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

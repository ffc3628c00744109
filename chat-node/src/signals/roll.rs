//! The roll: who is present, on this node and on the others.
//!
//! Pure, with the time given. Each node owns the part of its own connections and numbers the changes that it tells; the others keep a
//! copy, ask for all of it when a number is missing, and forget it when the node falls silent. So whoever was on a node that died
//! is gone a few seconds later, and nothing has to be cleaned up.
//!
//! The same messages are in the store, under the same numbers, and a sign of life beside them. A node whose bus falls silent is followed
//! there, from the number on that the bus told last; one that the bus was never heard of, from the beginning. So it counts as silent only
//! when neither tells of it.

use std::collections::{HashMap, VecDeque};

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use crate::{event::User, hub::ConnectionId, protocol::ClientType, store::Run};

/// Time that a user who lost the last connection still counts as present, in milliseconds: long enough to come back elsewhere.
const LINGER_MS: i64 = 3_000;

/// Silence on both ways after which a node counts as gone, in milliseconds: five beats.
const SILENCE_MS: i64 = 5_000;

/// Silence on the bus after which a node is followed in the store, in milliseconds: three beats.
const QUIET_MS: i64 = 3_000;

/// Changes in one message to other nodes. The rest waits for the next.
const CHANGES_MAX: usize = 1_000;

/// How a user is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// At one device at least.
    Online,
    /// At none of the devices that are connected.
    Away,
}

/// A user's presence over all devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How.
    pub state: State,
    /// With a browser or a desktop program.
    pub web: bool,
    /// With a phone.
    pub mobile: bool,
}

impl Summary {
    fn and(self, other: Summary) -> Summary {
        let online = self.state == State::Online || other.state == State::Online;
        Summary {
            state: if online { State::Online } else { State::Away },
            web: self.web || other.web,
            mobile: self.mobile || other.mobile,
        }
    }
}

/// Another node's run.
pub type Peer = String;

/// What a node tells of its users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum Told {
    /// These users' presence is this now; nothing for gone. `number` counts these messages.
    Changes { number: u64, users: Vec<(User, Option<Summary>)> },
    /// All who are present, as of a number.
    Everyone { number: u64, users: Vec<(User, Summary)> },
    /// Nothing new since a number.
    Beat { number: u64 },
    /// Asks that node for everyone.
    Ask { peer: Peer },
}

impl Told {
    /// Its number, if it tells of users.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Told::Changes { number, .. } | Told::Everyone { number, .. } => Some(*number),
            Told::Beat { .. } | Told::Ask { .. } => None,
        }
    }
}

#[derive(Default)]
struct Own {
    devices: HashMap<ConnectionId, (ClientType, State)>,
    /// What was last known of a user without devices, who lingers.
    last: Option<Summary>,
    /// When the last device was lost.
    left_ms: i64,
}

impl Own {
    fn summary(&self) -> Option<Summary> {
        let of_device = |&(client, state): &(ClientType, State)| Summary {
            state,
            web: client == ClientType::Web,
            mobile: client == ClientType::Mobile,
        };
        self.devices.values().map(of_device).reduce(Summary::and).or(self.last)
    }
}

struct Copy {
    /// The last number that is included; `None` until everyone was told.
    number: Option<u64>,
    /// When the bus last carried something of it; long ago for one that only the store tells of.
    heard_ms: i64,
    /// Its latest sign of life in the store.
    kept_ms: i64,
    users: HashMap<User, Summary>,
}

impl Copy {
    /// Of nothing yet, and of no sign of life.
    fn new() -> Copy {
        Copy { number: None, heard_ms: i64::MIN, kept_ms: i64::MIN, users: HashMap::new() }
    }

    fn is_quiet(&self, now_ms: i64) -> bool {
        self.heard_ms.saturating_add(QUIET_MS) <= now_ms
    }

    fn alive_ms(&self) -> i64 {
        self.heard_ms.max(self.kept_ms)
    }

    /// Takes in what was told next. `false` when something is missing before it. Whose presence may be another one is put with the changed.
    fn take_in(&mut self, told: Told, changed: &mut IndexSet<User>) -> bool {
        match told {
            Told::Everyone { number, users } => {
                changed.extend(std::mem::take(&mut self.users).into_keys());
                changed.extend(users.iter().map(|(user, _)| user.clone()));
                self.users = users.into_iter().collect();
                self.number = Some(number);
                true
            }
            Told::Changes { number, users } if self.number == Some(number.wrapping_sub(1)) => {
                self.number = Some(number);
                for (user, summary) in users {
                    changed.insert(user.clone());
                    match summary {
                        Some(summary) => self.users.insert(user, summary),
                        None => self.users.remove(&user),
                    };
                }
                true
            }
            Told::Changes { number, .. } | Told::Beat { number } => self.number == Some(number),
            Told::Ask { .. } => true,
        }
    }
}

/// Who is present.
#[derive(Default)]
pub(super) struct Roll {
    own: HashMap<User, Own>,
    /// Users without a device, by when they lost the last.
    lingering: VecDeque<(i64, User)>,
    peers: HashMap<Peer, Copy>,
    /// Own users of whom the others do not know the latest.
    untold: IndexSet<User>,
    /// Users whose presence may be another one than it was.
    changed: IndexSet<User>,
    /// Users who are gone from this node or from one that fell silent, and since when.
    gone: HashMap<User, i64>,
    number: u64,
}

impl Roll {
    /// A connection has become a user's.
    pub(super) fn enter(&mut self, user: &User, id: ConnectionId, client: ClientType) {
        self.change(user, |own| {
            own.devices.insert(id, (client, State::Online));
        });
    }

    /// A connection's user is at it, or away.
    pub(super) fn set(&mut self, user: &User, id: ConnectionId, state: State) {
        self.change(user, |own| {
            if let Some(device) = own.devices.get_mut(&id) {
                device.1 = state;
            }
        });
    }

    /// A connection has ended.
    pub(super) fn exit(&mut self, user: &User, id: ConnectionId, now_ms: i64) {
        let mut lingers = false;
        self.change(user, |own| {
            let last = own.summary();
            lingers = own.devices.remove(&id).is_some() && own.devices.is_empty();
            (own.last, own.left_ms) = (last, now_ms);
        });
        if lingers {
            self.lingering.push_back((now_ms, user.clone()));
        }
    }

    fn change(&mut self, user: &User, change: impl FnOnce(&mut Own)) {
        let own = self.own.entry(user.clone()).or_default();
        let before = own.summary();
        change(own);
        if own.summary() != before {
            self.untold.insert(user.clone());
            self.changed.insert(user.clone());
        }
    }

    /// Time passed: those who lingered long enough are gone.
    pub(super) fn pass(&mut self, now_ms: i64) {
        while self.lingering.front().is_some_and(|(left, _)| left + LINGER_MS <= now_ms) {
            let Some((left, user)) = self.lingering.pop_front() else { break };
            // Whoever came back, or left once more since, is looked at later or not at all.
            if self.own.get(&user).is_some_and(|own| own.devices.is_empty() && own.left_ms == left) {
                self.own.remove(&user);
                self.untold.insert(user.clone());
                self.changed.insert(user.clone());
                self.note_gone([(user, left)]);
            }
        }
    }

    /// What the store tells of the nodes' runs, or nothing when it could not be asked: those that gave no sign of life on either way are
    /// gone. Gives those that are to be read there, and the numbers after which.
    pub(super) fn look(&mut self, runs: &[Run], own_name: &str, now_ms: i64) -> Vec<(Peer, i64)> {
        let mut to_read = Vec::new();
        for Run { run, number, age_ms } in runs {
            if run == own_name || *age_ms >= SILENCE_MS {
                continue;
            }
            let copy = self.peers.entry(run.clone()).or_insert_with(Copy::new);
            copy.kept_ms = copy.kept_ms.max(now_ms - age_ms);
            let known = copy.number.map_or(-1, |number| i64::try_from(number).unwrap_or(i64::MAX));
            if copy.is_quiet(now_ms) && known < *number {
                to_read.push((run.clone(), known));
            }
        }
        let silent = |copy: &Copy| copy.alive_ms().saturating_add(SILENCE_MS) <= now_ms;
        let gone: Vec<Peer> =
            self.peers.iter().filter(|(_, copy)| silent(copy)).map(|(peer, _)| peer.clone()).collect();
        for peer in gone {
            let Some(copy) = self.peers.remove(&peer) else { continue };
            // Nobody but those who are left can note it.
            self.note_gone(copy.users.keys().map(|user| (user.clone(), copy.alive_ms())));
            self.changed.extend(copy.users.into_keys());
        }
        to_read
    }

    /// Whether there is a node that the bus does not carry.
    pub(super) fn has_quiet(&self, now_ms: i64) -> bool {
        self.peers.values().any(|copy| copy.is_quiet(now_ms))
    }

    /// What the store has of a node, which is older than what is known if the bus carries again.
    pub(super) fn read(&mut self, peer: &str, told: Told) {
        if let Some(copy) = self.peers.get_mut(peer)
            && copy.number.is_none_or(|known| told.number().is_some_and(|number| number > known))
        {
            copy.take_in(told, &mut self.changed);
        }
    }

    /// What another node tells. The answer, if one is due.
    pub(super) fn hear(&mut self, peer: &Peer, told: Told, own_name: &str, now_ms: i64) -> Option<Told> {
        if let Told::Ask { peer: asked } = &told {
            return (asked == own_name).then(|| self.everyone());
        }
        let copy = self.peers.entry(peer.clone()).or_insert_with(Copy::new);
        copy.heard_ms = now_ms;
        let in_step = copy.take_in(told, &mut self.changed);
        (!in_step).then(|| Told::Ask { peer: peer.clone() })
    }

    /// What to tell the others now.
    pub(super) fn tell(&mut self) -> Told {
        if self.untold.is_empty() {
            return Told::Beat { number: self.number };
        }
        self.number += 1;
        let count = self.untold.len().min(CHANGES_MAX);
        let users = self.untold.drain(..count).map(|user| {
            let summary = self.own.get(&user).and_then(Own::summary);
            (user, summary)
        });
        Told::Changes { number: self.number, users: users.collect() }
    }

    /// How many own users there are.
    pub(super) fn own_users(&self) -> usize {
        self.own.len()
    }

    /// All own users. Changes that were not told yet are told once more afterwards, which is harmless.
    pub(super) fn everyone(&self) -> Told {
        let users = self.own.iter().filter_map(|(user, own)| Some((user.clone(), own.summary()?)));
        Told::Everyone { number: self.number, users: users.collect() }
    }

    /// A user's presence on all nodes.
    pub(super) fn summary(&self, user: &str) -> Option<Summary> {
        let own = self.own.get(user).and_then(Own::summary);
        let copies = self.peers.values().filter_map(|copy| copy.users.get(user).copied());
        own.into_iter().chain(copies).reduce(Summary::and)
    }

    /// Takes at most so many of the users whose presence may be another one than it was.
    pub(super) fn take_changed(&mut self, most: usize) -> Vec<User> {
        let count = self.changed.len().min(most);
        self.changed.drain(..count).collect()
    }

    /// Takes those who are gone, and since when they were not seen.
    pub(super) fn take_gone(&mut self) -> Vec<(User, i64)> {
        std::mem::take(&mut self.gone).into_iter().collect()
    }

    /// These users are gone since then: each since the latest that is known.
    pub(super) fn note_gone(&mut self, users: impl IntoIterator<Item = (User, i64)>) {
        for (user, since) in users {
            let known = self.gone.entry(user).or_insert(since);
            *known = since.max(*known);
        }
    }
}

#[cfg(test)]
mod tests;

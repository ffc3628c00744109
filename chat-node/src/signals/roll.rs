//! The roll: who is present, on this node and on the others.
//!
//! Pure, with the time given. Each node owns the part of its own connections and numbers the changes that it tells; the others keep a
//! copy, ask for all of it when a number is missing, and forget it when the node falls silent. So whoever was on a node that died
//! is gone a few seconds later, and nothing has to be cleaned up.

use std::collections::{HashMap, VecDeque};

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use crate::{event::User, hub::ConnectionId, protocol::ClientType};

/// Time that a user who lost the last connection still counts as present, in milliseconds: long enough to come back elsewhere.
const LINGER_MS: i64 = 3_000;

/// Silence after which a node counts as gone, in milliseconds: five beats.
const SILENCE_MS: i64 = 5_000;

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
    heard_ms: i64,
    users: HashMap<User, Summary>,
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
    gone: Vec<(User, i64)>,
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

    /// Time passed: those who lingered long enough are gone, and so are nodes that fell silent.
    pub(super) fn pass(&mut self, now_ms: i64) {
        while self.lingering.front().is_some_and(|(left, _)| left + LINGER_MS <= now_ms) {
            let Some((left, user)) = self.lingering.pop_front() else { break };
            // Whoever came back, or left once more since, is looked at later or not at all.
            if self.own.get(&user).is_some_and(|own| own.devices.is_empty() && own.left_ms == left) {
                self.own.remove(&user);
                self.untold.insert(user.clone());
                self.changed.insert(user.clone());
                self.gone.push((user, left));
            }
        }
        let silent: Vec<Peer> = self
            .peers
            .iter()
            .filter(|(_, copy)| copy.heard_ms + SILENCE_MS <= now_ms)
            .map(|(peer, _)| peer.clone())
            .collect();
        for copy in silent.iter().filter_map(|peer| self.peers.remove(peer)) {
            // Nobody but those who are left can note it.
            self.gone.extend(copy.users.keys().map(|user| (user.clone(), copy.heard_ms)));
            self.changed.extend(copy.users.into_keys());
        }
    }

    /// What another node tells. The answer, if one is due.
    pub(super) fn hear(&mut self, peer: &Peer, told: Told, own_name: &str, now_ms: i64) -> Option<Told> {
        if let Told::Ask { peer: asked } = &told {
            return (asked == own_name).then(|| self.everyone());
        }
        let copy = self.peers.entry(peer.clone()).or_insert_with(|| Copy {
            number: None,
            heard_ms: now_ms,
            users: HashMap::new(),
        });
        copy.heard_ms = now_ms;
        let in_step = match told {
            Told::Everyone { number, users } => {
                self.changed.extend(std::mem::take(&mut copy.users).into_keys());
                self.changed.extend(users.iter().map(|(user, _)| user.clone()));
                copy.users = users.into_iter().collect();
                copy.number = Some(number);
                true
            }
            Told::Changes { number, users } if copy.number == Some(number.wrapping_sub(1)) => {
                copy.number = Some(number);
                for (user, summary) in users {
                    self.changed.insert(user.clone());
                    match summary {
                        Some(summary) => copy.users.insert(user, summary),
                        None => copy.users.remove(&user),
                    };
                }
                true
            }
            Told::Changes { number, .. } | Told::Beat { number } => copy.number == Some(number),
            Told::Ask { .. } => true,
        };
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

    /// All own users. Changes that were not told yet are told once more afterwards, which is harmless.
    fn everyone(&self) -> Told {
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
        std::mem::take(&mut self.gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        name.into()
    }

    fn presence(state: State, web: bool, mobile: bool) -> Option<Summary> {
        Some(Summary { state, web, mobile })
    }

    const NOW: i64 = 1_000_000;

    /// Lets one roll hear what another tells, questions and answers included.
    fn exchange(from: &mut Roll, to: &mut Roll, now: i64) {
        let told = from.tell();
        if let Some(Told::Ask { peer }) = to.hear(&"a".to_owned(), told, "b", now) {
            let everyone = from.hear(&"b".to_owned(), Told::Ask { peer }, "a", now).unwrap();
            assert_eq!(to.hear(&"a".to_owned(), everyone, "b", now), None);
        }
    }

    #[test]
    fn devices_add_up() {
        let mut roll = Roll::default();
        let alice = user("alice");
        roll.enter(&alice, ConnectionId(1), ClientType::Web);
        roll.enter(&alice, ConnectionId(2), ClientType::Mobile);
        roll.set(&alice, ConnectionId(1), State::Away);
        assert_eq!(roll.summary("alice"), presence(State::Online, true, true));
        roll.set(&alice, ConnectionId(2), State::Away);
        assert_eq!(roll.summary("alice"), presence(State::Away, true, true));
        roll.exit(&alice, ConnectionId(1), NOW);
        assert_eq!(roll.summary("alice"), presence(State::Away, false, true));
        assert_eq!(roll.take_changed(9), [alice]);
        assert_eq!(roll.take_changed(9).len(), 0);
    }

    #[test]
    fn whoever_comes_back_in_time_was_never_gone() {
        let mut roll = Roll::default();
        let alice = user("alice");
        roll.enter(&alice, ConnectionId(1), ClientType::Web);
        roll.tell();
        roll.exit(&alice, ConnectionId(1), NOW);
        roll.pass(NOW + LINGER_MS - 1);
        assert_eq!(roll.summary("alice"), presence(State::Online, true, false));
        roll.enter(&alice, ConnectionId(2), ClientType::Web);
        roll.pass(NOW + 2 * LINGER_MS);
        assert_eq!((roll.tell(), roll.take_gone().len()), (Told::Beat { number: 1 }, 0));
        roll.exit(&alice, ConnectionId(2), NOW + 2 * LINGER_MS);
        roll.pass(NOW + 3 * LINGER_MS);
        assert_eq!(roll.summary("alice"), None);
        assert_eq!(roll.take_gone(), [(user("alice"), NOW + 2 * LINGER_MS)]);
        assert_eq!(roll.tell(), Told::Changes { number: 2, users: vec![(alice, None)] });
    }

    #[test]
    fn a_copy_follows_and_asks_when_something_is_missing() {
        let (mut one, mut other) = (Roll::default(), Roll::default());
        one.enter(&user("alice"), ConnectionId(1), ClientType::Web);
        exchange(&mut one, &mut other, NOW);
        assert_eq!(other.summary("alice"), presence(State::Online, true, false));
        one.enter(&user("bob"), ConnectionId(2), ClientType::Web);
        one.tell();
        one.enter(&user("carol"), ConnectionId(3), ClientType::Web);
        exchange(&mut one, &mut other, NOW);
        assert!(other.summary("bob").is_some() && other.summary("carol").is_some(), "what was missed is asked for");
        one.exit(&user("alice"), ConnectionId(1), NOW);
        one.pass(NOW + LINGER_MS);
        one.tell();
        exchange(&mut one, &mut other, NOW);
        assert_eq!(other.summary("alice"), None, "a beat tells that something was missed");
        assert_eq!(other.hear(&"a".to_owned(), Told::Ask { peer: "c".into() }, "b", NOW), None, "another was asked");
    }

    #[test]
    fn a_silent_nodes_users_are_gone_unless_they_are_elsewhere() {
        let (mut one, mut other) = (Roll::default(), Roll::default());
        for (number, name) in [(1, "alice"), (2, "bob")] {
            one.enter(&user(name), ConnectionId(number), ClientType::Web);
        }
        exchange(&mut one, &mut other, NOW);
        other.enter(&user("bob"), ConnectionId(9), ClientType::Mobile);
        other.take_changed(9);
        other.pass(NOW + SILENCE_MS - 1);
        assert!(other.summary("alice").is_some());
        other.pass(NOW + SILENCE_MS);
        assert_eq!(other.summary("alice"), None);
        assert_eq!(other.summary("bob"), presence(State::Online, false, true));
        assert_eq!(other.take_changed(9).len(), 2);
    }

    #[test]
    fn a_thousand_arrivals_are_one_message() {
        let mut roll = Roll::default();
        for number in 0..1_500 {
            roll.enter(&user(&format!("user{number}")), ConnectionId(number), ClientType::Web);
        }
        for (number, expected) in [(1, 1_000), (2, 500)] {
            let Told::Changes { number: told, users } = roll.tell() else { panic!() };
            assert_eq!((told, users.len()), (number, expected));
        }
    }
}

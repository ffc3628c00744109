//! Which logins have connections here, and what was found out about them lately. Pure, with the time given.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    hub::{ConnectionId, Outbound},
    store::Seen,
};

/// How long a login counts as good without another look at the store. Whatever becomes of hints, no token outlives its login by more.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// How long an ended login is remembered, for connections that were on their way in. Longer than a `hello` may take.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Register {
    here: HashMap<Uuid, HashMap<ConnectionId, Arc<Outbound>>>,
    good_until: HashMap<Uuid, Instant>,
    ended_at: HashMap<Uuid, Instant>,
    notes: HashMap<Uuid, Seen>,
}

impl Register {
    /// A login has a connection here. `false` when it was ended meanwhile.
    pub(super) fn enter(&mut self, login: Uuid, id: ConnectionId, outbound: &Arc<Outbound>) -> bool {
        let is_good = !self.ended_at.contains_key(&login);
        if is_good {
            self.here.entry(login).or_default().insert(id, outbound.clone());
        }
        is_good
    }

    /// A connection has ended, or has become another login's.
    pub(super) fn exit(&mut self, login: Uuid, id: ConnectionId) {
        if let Entry::Occupied(mut connections) = self.here.entry(login) {
            connections.get_mut().remove(&id);
            if connections.get().is_empty() {
                connections.remove();
            }
        }
    }

    /// What is known of a login without asking: `Some(false)` when it was ended, `None` when the store has to be asked.
    pub(super) fn known(&self, login: Uuid, now: Instant) -> Option<bool> {
        if self.ended_at.contains_key(&login) {
            return Some(false);
        }
        self.good_until.get(&login).is_some_and(|until| now < *until).then_some(true)
    }

    /// The store was asked. Says whether the login is good: an end that was told meanwhile is newer than the answer.
    pub(super) fn found(&mut self, login: Uuid, is_good: bool, now: Instant) -> bool {
        let is_good = is_good && !self.ended_at.contains_key(&login);
        if is_good {
            self.good_until.insert(login, now + GOOD_FOR);
        }
        is_good
    }

    /// Logins were ended. Gives their connections.
    pub(super) fn end(&mut self, logins: &[Uuid], now: Instant) -> Vec<Arc<Outbound>> {
        let mut connections = Vec::new();
        for login in logins {
            self.good_until.remove(login);
            self.notes.remove(login);
            self.ended_at.insert(*login, now);
            connections.extend(self.here.remove(login).into_iter().flat_map(HashMap::into_values));
        }
        connections
    }

    /// The logins that have connections here.
    pub(super) fn logins(&self) -> Vec<Uuid> {
        self.here.keys().copied().collect()
    }

    /// Notes a sign of life.
    pub(super) fn note(&mut self, login: Uuid, seen: Seen) {
        match self.notes.entry(login) {
            Entry::Vacant(note) => {
                note.insert(seen);
            }
            Entry::Occupied(mut note) => {
                let note = note.get_mut();
                note.ms = note.ms.max(seen.ms);
                note.client = seen.client.or(note.client);
                note.address = seen.address.or_else(|| note.address.take());
            }
        }
    }

    /// These notes could not be written: they wait for the next time, unless their login was ended meanwhile. What was noted since is newer.
    pub(super) fn put_back(&mut self, notes: Vec<(Uuid, Seen)>) {
        for (login, seen) in notes {
            if self.ended_at.contains_key(&login) {
                continue;
            }
            if let Some(newer) = self.notes.insert(login, seen) {
                self.note(login, newer);
            }
        }
    }

    /// Takes the notes, and forgets what is old.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<(Uuid, Seen)> {
        self.good_until.retain(|_, until| now < *until);
        self.ended_at.retain(|_, at| now.duration_since(*at) < REMEMBERED_FOR);
        self.notes.drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub;

    const LOGIN: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn outbound() -> Arc<Outbound> {
        hub::scripted(1, 1).0
    }

    #[test]
    fn the_end_of_a_login_reaches_all_its_connections_and_no_other() {
        let (mut register, now) = (Register::default(), Instant::now());
        for (login, id) in [(LOGIN, 1), (LOGIN, 2), (OTHER, 3), (LOGIN, 4)] {
            assert!(register.enter(login, ConnectionId(id), &outbound()));
        }
        register.exit(LOGIN, ConnectionId(4));
        assert_eq!(register.end(&[LOGIN, Uuid::from_u128(9)], now).len(), 2);
        assert_eq!(register.logins(), [OTHER]);
        register.exit(LOGIN, ConnectionId(1));
        register.exit(OTHER, ConnectionId(3));
        assert!(register.here.is_empty());
    }

    #[test]
    fn a_connection_on_its_way_in_does_not_slip_past_the_end() {
        let (mut register, now) = (Register::default(), Instant::now());
        // The store was asked before the end, and answers after it.
        register.end(&[LOGIN], now);
        assert!(!register.found(LOGIN, true, now));
        assert_eq!(register.known(LOGIN, now), Some(false));
        assert!(!register.enter(LOGIN, ConnectionId(1), &outbound()));
        register.pass(now + REMEMBERED_FOR);
        assert_eq!(register.known(LOGIN, now + REMEMBERED_FOR), None, "the store knows");
    }

    #[test]
    fn a_good_login_is_asked_for_every_two_seconds_at_most() {
        let (mut register, now) = (Register::default(), Instant::now());
        assert_eq!(register.known(LOGIN, now), None);
        assert!(register.found(LOGIN, true, now));
        assert_eq!(register.known(LOGIN, now + GOOD_FOR / 2), Some(true));
        assert_eq!(register.known(LOGIN, now + GOOD_FOR), None);
        assert!(!register.found(OTHER, false, now));
        assert_eq!(register.known(OTHER, now), None, "a bad one is asked for again, and costs whoever shows it a wait");
        register.pass(now + GOOD_FOR);
        assert!(register.good_until.is_empty());
    }

    #[test]
    fn notes_are_gathered_and_the_newest_counts() {
        let mut register = Register::default();
        let seen = |ms, client, address: Option<&str>| Seen { ms, client, address: address.map(str::to_owned) };
        register.note(LOGIN, seen(5, Some("web"), Some("::1")));
        register.note(LOGIN, seen(4, None, None));
        register.note(LOGIN, seen(6, Some("mobile"), None));
        assert_eq!(register.pass(Instant::now()), [(LOGIN, seen(6, Some("mobile"), Some("::1")))]);
        assert!(register.pass(Instant::now()).is_empty());
    }

    #[test]
    fn notes_that_could_not_be_written_wait_for_the_next_time_behind_newer_ones() {
        let (mut register, now) = (Register::default(), Instant::now());
        let seen = |ms, client, address: Option<&str>| Seen { ms, client, address: address.map(str::to_owned) };
        let ended = Uuid::from_u128(3);
        register.note(LOGIN, seen(5, Some("web"), Some("::1")));
        register.note(OTHER, seen(6, None, None));
        register.note(ended, seen(7, None, None));
        let notes = register.pass(now);
        register.note(LOGIN, seen(8, Some("mobile"), None));
        register.end(&[ended], now);
        register.put_back(notes);
        let mut notes = register.pass(now);
        notes.sort_by_key(|(login, _)| *login);
        assert_eq!(notes, [(LOGIN, seen(8, Some("mobile"), Some("::1"))), (OTHER, seen(6, None, None))]);
    }
}

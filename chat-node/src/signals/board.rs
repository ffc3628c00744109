//! The board: whose presence is watched, in which rooms, by which connections.
//!
//! Pure. A room is on the board only while somebody watches it. What changes is gathered and told to all watchers of a room at once,
//! in one frame that is encoded once: a thousand arrivals are a few frames, and a room at rest costs nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::extract::ws::Utf8Bytes;
use indexmap::{IndexMap, IndexSet};
use uuid::Uuid;

use super::roll::Summary;
use crate::{
    event::User,
    hub::{ConnectionId, Outbound},
    protocol::{PresenceFrame, ServerFrame},
};

/// Users in one frame. Of those who are present when somebody begins to watch, no more are named; of changes, the rest waits for
/// the next frame.
const USERS_MAX: usize = 200;

#[derive(Default)]
struct Watched {
    members: HashSet<User>,
    present: IndexMap<User, Summary>,
    pending: IndexSet<User>,
    /// Connections, and where each is told of changes, once it was told of all.
    watchers: HashMap<ConnectionId, Option<Arc<Outbound>>>,
    /// The latest reading that told the members.
    loaded: Option<Reading>,
    /// Readings that are under way, and how many of the changes were known when each began.
    readings: HashMap<Reading, usize>,
    /// Memberships that have changed since the first of them began: what is read may be older.
    changes: Vec<(User, bool)>,
}

/// One look at the members of some rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Reading(u64);

#[derive(Default)]
pub(super) struct Board {
    rooms: HashMap<Uuid, Watched>,
    /// The watched rooms that a user is in.
    of: HashMap<User, Vec<Uuid>>,
    /// The rooms that a connection watches.
    by: HashMap<ConnectionId, HashSet<Uuid>>,
    /// Rooms of which something is to be told.
    dirty: IndexSet<Uuid>,
    /// Readings that have begun so far.
    readings: u64,
}

impl Board {
    /// A connection is to watch a room, and is told nothing of it yet. Tells whether the members must be read first.
    pub(super) fn watch(&mut self, room: Uuid, id: ConnectionId) -> bool {
        let watched = self.rooms.entry(room).or_default();
        watched.watchers.entry(id).or_default();
        self.by.entry(id).or_default().insert(room);
        watched.loaded.is_none()
    }

    /// Who is present in a room, for a connection that is told of what changes from then on.
    pub(super) fn show(
        &mut self,
        room: Uuid,
        id: ConnectionId,
        outbound: &Arc<Outbound>,
        request: Option<u64>,
    ) -> Option<Utf8Bytes> {
        let watched = self.rooms.get_mut(&room).filter(|watched| watched.loaded.is_some())?;
        *watched.watchers.get_mut(&id)? = Some(outbound.clone());
        let users =
            watched.present.iter().take(USERS_MAX).map(|(user, summary)| PresenceFrame::new(user, Some(*summary)));
        let (users, present) = (users.collect(), watched.present.len());
        Some(ServerFrame::Presence { id: request, room, whole: true, present, users }.encode())
    }

    /// A connection watches a room no more.
    pub(super) fn unwatch(&mut self, room: Uuid, id: ConnectionId) {
        if let Some(rooms) = self.by.get_mut(&id) {
            rooms.remove(&room);
            if rooms.is_empty() {
                self.by.remove(&id);
            }
        }
        let Some(watched) = self.rooms.get_mut(&room) else { return };
        watched.watchers.remove(&id);
        if watched.watchers.is_empty() {
            let members = self.rooms.remove(&room).map(|watched| watched.members).unwrap_or_default();
            members.iter().for_each(|user| self.forget(user, room));
            self.dirty.shift_remove(&room);
        }
    }

    /// A connection has ended.
    pub(super) fn exit(&mut self, id: ConnectionId) {
        for room in self.by.get(&id).cloned().unwrap_or_default() {
            self.unwatch(room, id);
        }
    }

    /// The rooms that are watched.
    pub(super) fn rooms(&self) -> Vec<Uuid> {
        self.rooms.keys().copied().collect()
    }

    /// The members of these rooms are about to be read.
    pub(super) fn begin(&mut self, rooms: &[Uuid]) -> Reading {
        self.readings += 1;
        let reading = Reading(self.readings);
        for room in rooms {
            if let Some(watched) = self.rooms.get_mut(room) {
                watched.readings.insert(reading, watched.changes.len());
            }
        }
        reading
    }

    /// A reading is over, whatever came of it.
    pub(super) fn end(&mut self, reading: Reading, rooms: &[Uuid]) {
        for room in rooms {
            if let Some(watched) = self.rooms.get_mut(room) {
                watched.readings.remove(&reading);
                if watched.readings.is_empty() {
                    watched.changes = Vec::new();
                }
            }
        }
    }

    /// These are a room's members.
    pub(super) fn load(
        &mut self,
        reading: Reading,
        room: Uuid,
        members: Vec<User>,
        presence: impl Fn(&str) -> Option<Summary>,
    ) {
        let Some((watched, since)) = self.read(reading, room) else { return };
        if watched.loaded > Some(reading) {
            return;
        }
        let members: HashSet<User> = members.into_iter().collect();
        let lost = watched.members.difference(&members).map(|user| (user.clone(), false));
        let gained = members.difference(&watched.members).map(|user| (user.clone(), true));
        let differing: Vec<(User, bool)> = lost.chain(gained).chain(watched.changes[since..].iter().cloned()).collect();
        let first = watched.loaded.replace(reading).is_none();
        for (user, is_member) in differing {
            self.put(room, &user, is_member, &presence);
        }
        if first && let Some(watched) = self.rooms.get_mut(&room) {
            // Whoever waits for these is told of all at once.
            watched.pending.clear();
            self.dirty.shift_remove(&room);
        }
    }

    /// These users have these seats in the rooms that were read, and no other.
    pub(super) fn load_users(
        &mut self,
        reading: Reading,
        rooms: &[Uuid],
        users: &[User],
        seats: &HashSet<(User, Uuid)>,
        presence: impl Fn(&str) -> Option<Summary>,
    ) {
        let known =
            users.iter().flat_map(|user| self.of.get(user).into_iter().flatten().map(|room| (user.clone(), *room)));
        let lost = known.filter(|seat| !seats.contains(seat)).map(|(user, room)| (room, user, false));
        let gained = seats.iter().map(|(user, room)| (*room, user.clone(), true));
        let differing: Vec<(Uuid, User, bool)> = lost.chain(gained).collect();
        for (room, user, is_member) in differing {
            let Some((watched, since)) = self.read(reading, room) else { continue };
            if watched.loaded.is_some_and(|by| by < reading) && !has_changed(&watched.changes[since..], &user) {
                self.put(room, &user, is_member, &presence);
            }
        }
        for room in rooms {
            let Some((watched, since)) = self.read(reading, *room) else { continue };
            if watched.loaded.is_none() {
                // Whoever reads the members now may have read them before.
                let unchanged = users.iter().filter(|user| !has_changed(&watched.changes[since..], user));
                let read = unchanged.map(|user| (user.clone(), seats.contains(&(user.clone(), *room))));
                let read: Vec<_> = read.collect();
                watched.changes.extend(read);
            }
        }
    }

    /// The room that was read, if it was watched all the time, and where the changes since then begin.
    fn read(&mut self, reading: Reading, room: Uuid) -> Option<(&mut Watched, usize)> {
        let watched = self.rooms.get_mut(&room)?;
        let since = *watched.readings.get(&reading)?;
        Some((watched, since))
    }

    /// Somebody has become a member of a room, or is none any more.
    pub(super) fn member(
        &mut self,
        room: Uuid,
        user: &User,
        is_member: bool,
        presence: impl Fn(&str) -> Option<Summary>,
    ) {
        let Some(watched) = self.rooms.get_mut(&room) else { return };
        if !watched.readings.is_empty() {
            watched.changes.push((user.clone(), is_member));
        }
        if watched.loaded.is_some() {
            self.put(room, user, is_member, presence);
        }
    }

    fn put(&mut self, room: Uuid, user: &User, is_member: bool, presence: impl Fn(&str) -> Option<Summary>) {
        let Some(watched) = self.rooms.get_mut(&room) else { return };
        if is_member {
            if watched.members.insert(user.clone()) {
                self.of.entry(user.clone()).or_default().push(room);
            }
            self.update_in(room, user, presence(user));
        } else if watched.members.remove(user) {
            self.update_in(room, user, None);
            self.forget(user, room);
        }
    }

    /// A user's presence is this now.
    pub(super) fn update(&mut self, user: &User, presence: Option<Summary>) {
        for room in self.of.get(user).cloned().unwrap_or_default() {
            self.update_in(room, user, presence);
        }
    }

    fn update_in(&mut self, room: Uuid, user: &User, presence: Option<Summary>) {
        let Some(watched) = self.rooms.get_mut(&room) else { return };
        let before = match presence {
            Some(summary) => watched.present.insert(user.clone(), summary),
            None => watched.present.swap_remove(user),
        };
        if before != presence {
            watched.pending.insert(user.clone());
            self.dirty.insert(room);
        }
    }

    fn forget(&mut self, user: &User, room: Uuid) {
        if let Some(rooms) = self.of.get_mut(user) {
            rooms.retain(|other| *other != room);
            if rooms.is_empty() {
                self.of.remove(user);
            }
        }
    }

    /// Takes what is to be told now: a frame for each room in which something changed, and to whom.
    pub(super) fn take(&mut self) -> Vec<(Utf8Bytes, Vec<Arc<Outbound>>)> {
        let mut taken = Vec::new();
        for room in std::mem::take(&mut self.dirty) {
            let Some(watched) = self.rooms.get_mut(&room) else { continue };
            let count = watched.pending.len().min(USERS_MAX);
            let users = watched.pending.drain(..count);
            let users = users.map(|user| PresenceFrame::new(&user, watched.present.get(&user).copied())).collect();
            let present = watched.present.len();
            let frame = ServerFrame::Presence { id: None, room, whole: false, present, users }.encode();
            taken.push((frame, watched.watchers.values().flatten().cloned().collect()));
            if !watched.pending.is_empty() {
                self.dirty.insert(room);
            }
        }
        taken
    }
}

fn has_changed(changes: &[(User, bool)], user: &User) -> bool {
    changes.iter().any(|(changed, _)| changed == user)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::roll::State, *};
    use crate::hub;

    const ROOM: Uuid = Uuid::from_u128(7);
    const ONE: ConnectionId = ConnectionId(1);
    const OTHER: ConnectionId = ConnectionId(2);
    const HERE: Option<Summary> = Some(Summary { state: State::Online, web: true, mobile: false });

    /// A board with a room of these members, none of them present, which a connection watches.
    fn watched(members: &[&str]) -> (Board, Arc<Outbound>) {
        let (mut board, outbound) = (Board::default(), hub::scripted(9, 9_999).0);
        assert!(board.watch(ROOM, ONE), "nobody is known yet");
        assert!(board.show(ROOM, ONE, &outbound, None).is_none());
        let reading = board.begin(&[ROOM]);
        board.load(reading, ROOM, members.iter().map(|name| User::from(*name)).collect(), |_| None);
        board.end(reading, &[ROOM]);
        assert!(board.show(ROOM, ONE, &outbound, None).is_some());
        (board, outbound)
    }

    fn read(board: &mut Board, reading: Reading, members: &[&str]) {
        board.load(reading, ROOM, members.iter().map(|name| User::from(*name)).collect(), |_| HERE);
    }

    fn change(board: &mut Board, name: &str, is_member: bool) {
        board.member(ROOM, &name.into(), is_member, |_| HERE);
    }

    fn members(board: &Board) -> Vec<&str> {
        let mut members: Vec<&str> = board.rooms[&ROOM].members.iter().map(|user| &**user).collect();
        members.sort_unstable();
        members
    }

    /// The users of each frame that is told, with their states.
    fn told(board: &mut Board) -> Vec<Vec<String>> {
        let words = |frame: &Utf8Bytes| {
            let frame: Value = serde_json::from_str(frame).unwrap();
            let users = frame["users"].as_array().unwrap().iter();
            users
                .map(|user| format!("{} {}", user["user"].as_str().unwrap(), user["state"].as_str().unwrap()))
                .collect()
        };
        board.take().iter().map(|(frame, _)| words(frame)).collect()
    }

    #[test]
    fn changes_are_gathered_and_what_comes_to_nothing_is_told_as_it_is_now() {
        let (mut board, _) = watched(&["alice", "bob"]);
        for (name, presence) in [("alice", HERE), ("bob", HERE), ("bob", None), ("stranger", HERE)] {
            board.update(&name.into(), presence);
        }
        assert_eq!(told(&mut board), [["alice online", "bob offline"]]);
        board.update(&"alice".into(), HERE);
        assert!(told(&mut board).is_empty(), "nothing is new");
    }

    #[test]
    fn many_changes_are_told_in_frames_of_bounded_size() {
        let names: Vec<String> = (0..450).map(|number| format!("user{number}")).collect();
        let (mut board, outbound) = watched(&names.iter().map(String::as_str).collect::<Vec<_>>());
        names.iter().for_each(|name| board.update(&name.as_str().into(), HERE));
        let sizes: Vec<usize> = (0..4).flat_map(|_| told(&mut board)).map(|users| users.len()).collect();
        assert_eq!(sizes, [200, 200, 50]);
        let whole: Value = serde_json::from_str(&board.show(ROOM, ONE, &outbound, Some(3)).unwrap()).unwrap();
        assert_eq!((whole["present"].as_u64(), whole["users"].as_array().unwrap().len()), (Some(450), 200));
    }

    #[test]
    fn members_come_and_go_and_a_room_that_nobody_watches_is_forgotten() {
        let (mut board, outbound) = watched(&["alice"]);
        change(&mut board, "bob", true);
        assert_eq!(told(&mut board), [["bob online"]]);
        change(&mut board, "bob", false);
        assert_eq!(told(&mut board), [["bob offline"]]);
        board.update(&"bob".into(), HERE);
        assert!(told(&mut board).is_empty());
        assert!(!board.watch(ROOM, OTHER), "the members are known");
        assert!(board.show(ROOM, OTHER, &outbound, None).is_some());
        board.unwatch(ROOM, ONE);
        let reading = board.begin(&[ROOM]);
        read(&mut board, reading, &["carol"]);
        assert_eq!(told(&mut board), [["carol online"]], "a second look tells what differs");
        board.exit(OTHER);
        board.end(reading, &[ROOM]);
        assert!(board.rooms.is_empty() && board.of.is_empty() && board.by.is_empty() && board.dirty.is_empty());
    }

    #[test]
    fn what_changes_while_members_are_read_is_later_than_what_was_read() {
        let (mut board, _) = watched(&["alice", "bob"]);
        let first = board.begin(&[ROOM]);
        change(&mut board, "bob", false);
        let second = board.begin(&[ROOM]);
        change(&mut board, "carol", true);
        // It came back unheard, and the second one has seen it.
        read(&mut board, second, &["alice", "bob"]);
        assert_eq!(members(&board), ["alice", "bob", "carol"]);
        read(&mut board, first, &["alice", "dave"]);
        assert_eq!(members(&board), ["alice", "bob", "carol"], "what began earlier knows nothing more");
        board.end(first, &[ROOM]);
        board.end(second, &[ROOM]);
        let third = board.begin(&[ROOM]);
        change(&mut board, "alice", false);
        let seats = HashSet::from([("alice".into(), ROOM), ("dave".into(), ROOM)]);
        let users = ["alice", "bob", "dave"].map(User::from);
        board.load_users(third, &[ROOM], &users, &seats, |_| HERE);
        assert_eq!(members(&board), ["carol", "dave"]);
        assert_eq!(board.rooms[&ROOM].changes.len(), 1);
        board.end(third, &[ROOM]);
        assert!(board.rooms[&ROOM].changes.is_empty(), "nothing is kept for nobody");
    }

    #[test]
    fn what_is_read_of_users_while_a_room_is_first_read_is_not_lost() {
        let (mut board, outbound) = (Board::default(), hub::scripted(9, 9_999).0);
        board.watch(ROOM, ONE);
        let first = board.begin(&[ROOM]);
        // The page is read by then, and what came after it was not heard of.
        let users = board.begin(&[ROOM]);
        change(&mut board, "carol", false);
        let seats = HashSet::from([("bob".into(), ROOM), ("carol".into(), ROOM)]);
        board.load_users(users, &[ROOM], &["bob", "carol", "alice"].map(User::from), &seats, |_| HERE);
        board.end(users, &[ROOM]);
        read(&mut board, first, &["alice", "carol", "dave"]);
        assert_eq!(members(&board), ["bob", "dave"]);
        board.end(first, &[ROOM]);
        assert!(board.show(ROOM, ONE, &outbound, None).is_some());
    }

    #[test]
    fn what_was_read_of_a_room_that_was_given_up_meanwhile_says_nothing_of_it() {
        let (mut board, _) = watched(&["alice"]);
        let reading = board.begin(&[ROOM]);
        board.exit(ONE);
        assert!(board.watch(ROOM, OTHER));
        read(&mut board, reading, &["alice"]);
        change(&mut board, "bob", true);
        board.end(reading, &[ROOM]);
        assert!(members(&board).is_empty() && board.rooms[&ROOM].loaded.is_none());
        assert!(board.rooms[&ROOM].changes.is_empty(), "whoever begins to read later reads it");
    }

    #[test]
    fn a_connection_that_was_not_told_of_all_yet_is_told_of_no_change() {
        let (mut board, outbound) = watched(&["alice"]);
        board.watch(ROOM, OTHER);
        board.update(&"alice".into(), HERE);
        assert_eq!(board.take()[0].1.len(), 1);
        board.show(ROOM, OTHER, &outbound, None);
        assert!(!board.watch(ROOM, OTHER), "who watches once more goes on being told");
        board.update(&"alice".into(), None);
        assert_eq!(board.take()[0].1.len(), 2);
    }
}

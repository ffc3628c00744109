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
    watchers: HashMap<ConnectionId, Arc<Outbound>>,
    /// Whether the members are known.
    loaded: bool,
    /// Changes that were heard of before; what is read may be older.
    early: Vec<(User, bool)>,
}

#[derive(Default)]
pub(super) struct Board {
    rooms: HashMap<Uuid, Watched>,
    /// The watched rooms that a user is in.
    of: HashMap<User, Vec<Uuid>>,
    /// Rooms of which something is to be told.
    dirty: IndexSet<Uuid>,
}

impl Board {
    /// A connection watches a room. Tells whether its members must be read first.
    pub(super) fn watch(&mut self, room: Uuid, id: ConnectionId, outbound: &Arc<Outbound>) -> bool {
        let watched = self.rooms.entry(room).or_default();
        watched.watchers.insert(id, outbound.clone());
        !watched.loaded
    }

    /// A connection watches a room no more.
    pub(super) fn unwatch(&mut self, room: Uuid, id: ConnectionId) {
        let Some(watched) = self.rooms.get_mut(&room) else { return };
        watched.watchers.remove(&id);
        if watched.watchers.is_empty() {
            let members = self.rooms.remove(&room).map(|watched| watched.members).unwrap_or_default();
            members.iter().for_each(|user| self.forget(user, room));
            self.dirty.shift_remove(&room);
        }
    }

    /// The rooms that are watched.
    pub(super) fn rooms(&self) -> Vec<Uuid> {
        self.rooms.keys().copied().collect()
    }

    /// The watched rooms that a user is known to be in.
    pub(super) fn rooms_of(&self, user: &str) -> &[Uuid] {
        self.of.get(user).map_or(&[], Vec::as_slice)
    }

    /// These are a room's members.
    pub(super) fn load(&mut self, room: Uuid, members: Vec<User>, presence: impl Fn(&str) -> Option<Summary>) {
        let Some(watched) = self.rooms.get_mut(&room) else { return };
        let members: HashSet<User> = members.into_iter().collect();
        let lost: Vec<User> = watched.members.difference(&members).cloned().collect();
        let gained: Vec<User> = members.difference(&watched.members).cloned().collect();
        let first = !std::mem::replace(&mut watched.loaded, true);
        for user in lost {
            self.member(room, &user, None);
        }
        for user in gained {
            let summary = presence(&user);
            self.member(room, &user, Some(summary));
        }
        let early = self.rooms.get_mut(&room).map(|watched| std::mem::take(&mut watched.early)).unwrap_or_default();
        for (user, is_member) in early {
            let summary = presence(&user);
            self.member(room, &user, is_member.then_some(summary));
        }
        if first && let Some(watched) = self.rooms.get_mut(&room) {
            // Whoever waits for these is told of all at once.
            watched.pending.clear();
            self.dirty.shift_remove(&room);
        }
    }

    /// Somebody is a member of a room, of this presence, or none any more.
    pub(super) fn member(&mut self, room: Uuid, user: &User, presence: Option<Option<Summary>>) {
        let Some(watched) = self.rooms.get_mut(&room) else { return };
        if !watched.loaded {
            watched.early.push((user.clone(), presence.is_some()));
            return;
        }
        match presence {
            Some(summary) => {
                if watched.members.insert(user.clone()) {
                    self.of.entry(user.clone()).or_default().push(room);
                }
                self.update_in(room, user, summary);
            }
            None => {
                self.update_in(room, user, None);
                if self.rooms.get_mut(&room).is_some_and(|watched| watched.members.remove(user)) {
                    self.forget(user, room);
                }
            }
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

    /// Who is present in a room, for somebody who begins to watch it.
    pub(super) fn whole(&self, room: Uuid, id: Option<u64>) -> Option<Utf8Bytes> {
        let watched = self.rooms.get(&room).filter(|watched| watched.loaded)?;
        let users =
            watched.present.iter().take(USERS_MAX).map(|(user, summary)| PresenceFrame::new(user, Some(*summary)));
        let (users, present) = (users.collect(), watched.present.len());
        Some(ServerFrame::Presence { id, room, whole: true, present, users }.encode())
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
            taken.push((frame, watched.watchers.values().cloned().collect()));
            if !watched.pending.is_empty() {
                self.dirty.insert(room);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::roll::State, *};
    use crate::hub;

    const ROOM: Uuid = Uuid::from_u128(7);
    const HERE: Option<Summary> = Some(Summary { state: State::Online, web: true, mobile: false });

    fn watched(members: &[&str]) -> (Board, Arc<Outbound>) {
        let (mut board, outbound) = (Board::default(), hub::scripted(9, 9_999).0);
        assert!(board.watch(ROOM, ConnectionId(1), &outbound), "nobody is known yet");
        assert!(board.whole(ROOM, None).is_none());
        board.load(ROOM, members.iter().map(|name| User::from(*name)).collect(), |_| None);
        (board, outbound)
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
        let (mut board, _) = watched(&names.iter().map(String::as_str).collect::<Vec<_>>());
        names.iter().for_each(|name| board.update(&name.as_str().into(), HERE));
        let sizes: Vec<usize> = (0..4).flat_map(|_| told(&mut board)).map(|users| users.len()).collect();
        assert_eq!(sizes, [200, 200, 50]);
        let whole: Value = serde_json::from_str(&board.whole(ROOM, Some(3)).unwrap()).unwrap();
        assert_eq!((whole["present"].as_u64(), whole["users"].as_array().unwrap().len()), (Some(450), 200));
    }

    #[test]
    fn members_come_and_go_and_a_room_that_nobody_watches_is_forgotten() {
        let (mut board, outbound) = watched(&["alice"]);
        board.member(ROOM, &"bob".into(), Some(HERE));
        assert_eq!(told(&mut board), [["bob online"]]);
        board.member(ROOM, &"bob".into(), None);
        assert_eq!(told(&mut board), [["bob offline"]]);
        board.update(&"bob".into(), HERE);
        assert!(told(&mut board).is_empty());
        assert!(!board.watch(ROOM, ConnectionId(2), &outbound), "the members are known");
        board.unwatch(ROOM, ConnectionId(1));
        board.load(ROOM, vec!["carol".into()], |_| HERE);
        assert_eq!(told(&mut board), [["carol online"]], "a second look tells what differs");
        board.unwatch(ROOM, ConnectionId(2));
        assert!(board.rooms.is_empty() && board.of.is_empty() && board.dirty.is_empty());
    }
}

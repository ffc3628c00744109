//! Who types where, gathered between two beats.
//!
//! Pure. However often and however many type, a room is told once a beat, of a few of them.

use axum::extract::ws::Utf8Bytes;
use indexmap::{IndexMap, IndexSet};
use uuid::Uuid;

use super::Signal;
use crate::{event::User, protocol::ServerFrame};

/// Users that a frame names. More than a few are a crowd to whoever reads it.
const USERS_MAX: usize = 5;

/// Rooms that are told in one beat; the rest of them waits for nobody and is dropped.
const ROOMS_MAX: usize = 1_000;

#[derive(Default)]
pub(super) struct Typing {
    /// To be told on this node.
    pending: IndexMap<Uuid, IndexSet<User>>,
    /// To be told to other nodes.
    untold: IndexMap<Uuid, IndexSet<User>>,
}

fn note(rooms: &mut IndexMap<Uuid, IndexSet<User>>, room: Uuid, user: &User) {
    if rooms.len() >= ROOMS_MAX && !rooms.contains_key(&room) {
        return;
    }
    let users = rooms.entry(room).or_default();
    if users.len() < USERS_MAX {
        users.insert(user.clone());
    }
}

impl Typing {
    /// A user of this node types.
    pub(super) fn here(&mut self, room: Uuid, user: &User) {
        note(&mut self.pending, room, user);
        note(&mut self.untold, room, user);
    }

    /// Users of another node do.
    pub(super) fn elsewhere(&mut self, room: Uuid, users: Vec<User>) {
        users.iter().for_each(|user| note(&mut self.pending, room, user));
    }

    /// Takes what is to be told now: frames for rooms of this node, and signals for others.
    pub(super) fn take(&mut self) -> (Vec<(Uuid, Utf8Bytes)>, Vec<Signal>) {
        let frame = |(room, users): (Uuid, IndexSet<User>)| {
            let users = users.iter().map(|user| user.to_string()).collect();
            (room, ServerFrame::Typing { room, users }.encode())
        };
        let signal =
            |(room, users): (Uuid, IndexSet<User>)| Signal::Typing { room, users: users.into_iter().collect() };
        (self.pending.drain(..).map(frame).collect(), self.untold.drain(..).map(signal).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_types_is_one_frame_of_a_few() {
        let (mut typing, room) = (Typing::default(), Uuid::from_u128(7));
        for round in 0..1_000 {
            typing.here(room, &format!("user{}", round % 100).as_str().into());
        }
        typing.elsewhere(Uuid::from_u128(8), vec!["bob".into(), "bob".into()]);
        let (frames, signals) = typing.take();
        assert_eq!((frames.len(), signals.len()), (2, 1), "what was heard is not told again");
        assert!(frames[0].1.contains("user4") && !frames[0].1.contains("user5"), "{}", frames[0].1);
        assert_eq!(frames[1].1.matches("bob").count(), 1);
        assert_eq!(typing.take(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn rooms_are_bounded() {
        let mut typing = Typing::default();
        (0..2_000).for_each(|room| typing.here(Uuid::from_u128(room), &"alice".into()));
        assert_eq!(typing.take().0.len(), ROOMS_MAX);
    }
}

//! The rooms of a client and how far it has read each. Pure.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::frame::{Event, Position, Resume, Room};

/// For each known room the last event that was taken.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    positions: BTreeMap<Uuid, Position>,
}

impl Rooms {
    /// What the next `hello` says.
    pub(super) fn positions(&self) -> Vec<Position> {
        self.positions.values().copied().collect()
    }

    /// The rooms of a `welcome`, which are all that the user is in.
    pub(super) fn welcome(&mut self, rooms: &[Room]) {
        self.positions.retain(|id, _| rooms.iter().any(|room| room.id == *id));
        for room in rooms {
            match room.resume {
                Some(Resume::Replayed) => {}
                // Events after `head` follow, so that is where the client stands, whatever it knew before.
                Some(Resume::Live | Resume::TooFar | Resume::Reset) | None => self.stand_at_head(room),
            }
        }
    }

    /// A room that was joined. Joining one that is known already changes nothing.
    pub(super) fn joined(&mut self, room: &Room) {
        if !self.positions.contains_key(&room.id) {
            self.stand_at_head(room);
        }
    }

    pub(super) fn left(&mut self, room: Uuid) {
        self.positions.remove(&room);
    }

    /// Moves on to `event`, never back. An event may overtake the answer to a join, so the room need not be known.
    pub(super) fn take(&mut self, event: &Event) {
        let seen = Position { room: event.room, epoch: event.epoch, seq: event.seq, event: Some(event.event) };
        let position = self.positions.entry(event.room).or_insert(seen);
        if position.epoch != event.epoch || position.seq < event.seq {
            *position = seen;
        }
    }

    fn stand_at_head(&mut self, room: &Room) {
        let position = Position { room: room.id, epoch: room.epoch, seq: room.head, event: None };
        self.positions.insert(room.id, position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::RoomKind;

    const LOBBY: Uuid = Uuid::from_u128(1);

    fn room(head: u64, resume: Option<Resume>) -> Room {
        Room { id: LOBBY, name: None, with: None, kind: RoomKind::Public, epoch: 1, head, resume }
    }

    fn event(seq: u64) -> Event {
        let event = Uuid::from_u128(u128::from(seq));
        Event { room: LOBBY, epoch: 1, seq, event, kind: "message".into(), sender: "a".into(), time: 0, text: None }
    }

    #[track_caller]
    fn stands_at(rooms: &Rooms, expected: &[(u64, Option<u64>)]) {
        let event = |seq: u64| Uuid::from_u128(u128::from(seq));
        let positions: Vec<_> = rooms.positions().iter().map(|at| (at.seq, at.event)).collect();
        let expected: Vec<_> = expected.iter().map(|(seq, id)| (*seq, id.map(event))).collect();
        assert_eq!(positions, expected);
    }

    #[test]
    fn the_position_is_the_last_event_and_never_goes_back() {
        let mut rooms = Rooms::default();
        rooms.joined(&room(4, None));
        stands_at(&rooms, &[(4, None)]);
        rooms.take(&event(5));
        rooms.take(&event(3));
        rooms.joined(&room(5, None));
        stands_at(&rooms, &[(5, Some(5))]);
    }

    #[test]
    fn a_welcome_keeps_the_position_only_when_the_rest_is_replayed() {
        for (resume, expected) in [
            (Resume::Replayed, (5, Some(5))),
            (Resume::TooFar, (90, None)),
            (Resume::Reset, (90, None)),
            (Resume::Live, (90, None)),
        ] {
            let mut rooms = Rooms::default();
            rooms.take(&event(5));
            rooms.welcome(&[room(90, Some(resume))]);
            stands_at(&rooms, &[expected]);
        }
    }

    #[test]
    fn a_room_that_was_left_is_forgotten() {
        let mut rooms = Rooms::default();
        rooms.take(&event(5));
        rooms.left(LOBBY);
        stands_at(&rooms, &[]);
        rooms.take(&event(5));
        rooms.welcome(&[]);
        stands_at(&rooms, &[]);
    }
}

//! Checks of what one client saw: everything, once, in the one order of each room.

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::{truth::Truth, violation::What};
use crate::{
    frame::{Resume, Room},
    record::{Connection, Record},
};

pub(super) fn check(record: &Record, truth: &Truth<'_>, wrong: &mut impl FnMut(Uuid, What)) {
    as_everybody_else(record, truth, wrong);
    each_connection(record, wrong);
    if !record.parted {
        everything(record, truth, wrong);
    }
}

/// Each event is the one that the history has in its place.
fn as_everybody_else(record: &Record, truth: &Truth<'_>, wrong: &mut impl FnMut(Uuid, What)) {
    for event in record.events.iter().map(|seen| &seen.event) {
        let (room, seq) = (event.room, event.seq);
        if let Some(other) = truth.at(room, seq).filter(|other| *other != event) {
            wrong(room, What::Differs { seq, here: event.event, elsewhere: other.event });
        }
        if truth.in_history(room, seq).is_none() && truth.log(room).is_some() {
            wrong(room, What::Vanished { seq });
        }
    }
}

/// On each connection the places of a room rise by one from where it began.
fn each_connection(record: &Record, wrong: &mut impl FnMut(Uuid, What)) {
    let mut places: HashMap<(usize, Uuid), u64> = HashMap::new();
    let mut heads: HashMap<(usize, Uuid), u64> = HashMap::new();
    for (connection, index) in record.connections.iter().zip(1..) {
        for room in &connection.rooms {
            places.insert((index, room.id), begin(connection, room));
        }
        for room in &connection.joined {
            heads.entry((index, room.id)).or_insert(room.head);
        }
    }
    let left: BTreeSet<Uuid> = record.left.iter().copied().collect();
    for seen in &record.events {
        let (connection, room, seq) = (seen.connection, seen.event.room, seen.event.seq);
        let after = *places.entry((connection, room)).or_insert_with(|| {
            // The join's own event may come before its answer, which then names a later head.
            let before = seq.saturating_sub(1);
            heads.get(&(connection, room)).map_or(before, |head| before.min(*head))
        });
        if seq <= after {
            wrong(room, What::Again { connection, after, seq });
        } else if seq > after + 1 && !left.contains(&room) {
            wrong(room, What::Hole { connection, after, seq });
        }
        places.insert((connection, room), after.max(seq));
    }
}

/// The place after which a connection's events of a room begin.
fn begin(connection: &Connection, room: &Room) -> u64 {
    let position = connection.resumed.iter().find(|position| position.room == room.id);
    match (room.resume, position) {
        (Some(Resume::Replayed), Some(position)) => position.seq,
        _ => room.head,
    }
}

/// Who was a member throughout saw everything after the join, except what it was told to look up.
fn everything(record: &Record, truth: &Truth<'_>, wrong: &mut impl FnMut(Uuid, What)) {
    let mut seen: HashMap<Uuid, HashSet<u64>> = HashMap::new();
    for event in record.events.iter().map(|seen| &seen.event) {
        seen.entry(event.room).or_default().insert(event.seq);
    }
    for room in record.rooms.iter().filter(|room| !record.left.contains(&room.id)) {
        let Some(log) = truth.log(room.id) else {
            wrong(room.id, What::NoHistory);
            continue;
        };
        let seen = seen.remove(&room.id).unwrap_or_default();
        let excused = excused(record, room.id);
        for seq in log.iter().map(|event| event.seq).filter(|seq| *seq > room.head) {
            let is_excused = excused.iter().any(|(after, head)| (after + 1..=*head).contains(&seq));
            if !seen.contains(&seq) && !is_excused {
                wrong(room.id, What::Missed { seq });
            }
        }
    }
}

/// What was missed while away and not replayed, as the server said: (after, head).
fn excused(record: &Record, room: Uuid) -> Vec<(u64, u64)> {
    let of_room = |connection: &Connection| {
        let after = connection.resumed.iter().find(|position| position.room == room)?.seq;
        let welcome = connection.rooms.iter().find(|known| known.id == room)?;
        matches!(welcome.resume, Some(Resume::TooFar | Resume::Reset)).then_some((after, welcome.head))
    };
    record.connections.iter().filter_map(of_room).collect()
}

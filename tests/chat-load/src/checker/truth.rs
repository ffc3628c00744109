//! What happened in the rooms, as far as the history and all clients together tell.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    Histories,
    violation::{Violation, What},
};
use crate::{frame::Event, record::Record};

/// The one log of each room.
pub(super) struct Truth<'a> {
    /// The history as it was read at the end.
    logs: HashMap<Uuid, &'a [Event]>,
    /// What some client saw in a place that the history does not have.
    beyond: HashMap<(Uuid, u64), &'a Event>,
}

impl<'a> Truth<'a> {
    /// Takes the histories and what clients saw beyond them. Tells what is wrong with the histories themselves.
    pub(super) fn new(records: &'a [Record], histories: &'a Histories, wrong: &mut Vec<Violation>) -> Self {
        let logs: HashMap<Uuid, &[Event]> = histories.iter().map(|(room, log)| (*room, log.as_slice())).collect();
        for (&room, log) in histories {
            if let Some((event, expected)) = log.iter().zip(1..).find(|(event, expected)| event.seq != *expected) {
                let what = What::HistoryHole { expected, found: event.seq };
                wrong.push(Violation { client: String::new(), room, what });
            }
        }
        let mut truth = Truth { logs, beyond: HashMap::new() };
        for event in records.iter().flat_map(|record| &record.events).map(|seen| &seen.event) {
            if truth.in_history(event.room, event.seq).is_none() {
                truth.beyond.entry((event.room, event.seq)).or_insert(event);
            }
        }
        truth
    }

    /// The event in a place of the history.
    pub(super) fn in_history(&self, room: Uuid, seq: u64) -> Option<&'a Event> {
        let log = self.logs.get(&room)?;
        let index = log.binary_search_by_key(&seq, |event| event.seq).ok()?;
        log.get(index)
    }

    /// The event in a place, be it in the history or not.
    pub(super) fn at(&self, room: Uuid, seq: u64) -> Option<&'a Event> {
        self.in_history(room, seq).or_else(|| self.beyond.get(&(room, seq)).copied())
    }

    /// The log of a room; `None` when nobody read it.
    pub(super) fn log(&self, room: Uuid) -> Option<&'a [Event]> {
        self.logs.get(&room).copied()
    }
}

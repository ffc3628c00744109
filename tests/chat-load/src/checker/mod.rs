//! The checker: proves from the clients' own records that the promise was kept, or shows where it was not. Pure.
//!
//! The promise: what is acknowledged as committed is never lost and never comes twice to a session, and every room has one
//! order, in which each sender's messages are in the sender's own order. The evidence is what each client saw (see
//! [`crate::record`]) and the history of each room as it is read at the end.

mod seeing;
mod sending;
#[cfg(test)]
mod tests;
mod truth;
mod violation;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use uuid::Uuid;

use self::truth::Truth;
use crate::{
    frame::Event,
    record::{Connection, Record},
};

pub use self::violation::{Violation, What};

/// The log of each room, from 1 to its end.
pub type Histories = BTreeMap<Uuid, Vec<Event>>;

/// Violations that a report writes out; the others are only counted.
const SHOWN_MAX: usize = 10;

/// What the evidence shows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Messages that were acknowledged as committed.
    pub committed: usize,
    /// Messages whose sender is there and does not know their fate.
    pub undecided: usize,
    /// Events that came to some client.
    pub deliveries: usize,
    /// Clients.
    pub clients: usize,
    /// Rooms.
    pub rooms: usize,
    /// How often the client that moved least and the one that moved most changed their connection.
    pub moves: (usize, usize),
    /// What is wrong.
    pub violations: Vec<Violation>,
}

/// Judges the records of all clients against the rooms' histories.
pub fn check(records: &[Record], histories: &Histories) -> Report {
    let mut violations = Vec::new();
    let truth = Truth::new(records, histories, &mut violations);
    for record in records {
        let client = || record.user.clone();
        let mut wrong = |room, what| violations.push(Violation { client: client(), room, what });
        sending::check(record, &truth, &mut wrong);
        seeing::check(record, &truth, &mut wrong);
    }
    let committed = |record: &Record| {
        let numbers: BTreeSet<u64> = record.acks.iter().map(|ack| ack.committed.n).collect();
        numbers.len()
    };
    let moves = || records.iter().map(Record::moves);
    Report {
        committed: records.iter().map(committed).sum(),
        undecided: records.iter().filter(|record| !record.parted).map(Record::undecided).sum(),
        deliveries: records.iter().map(|record| record.events.len()).sum(),
        clients: records.len(),
        rooms: histories.len(),
        moves: (moves().min().unwrap_or(0), moves().max().unwrap_or(0)),
        violations,
    }
}

impl Report {
    /// Whether the promise was kept, and the fate of every message is known.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.undecided == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { committed, undecided, deliveries, clients, rooms, moves: (least, most), violations } = self;
        let [committed, deliveries] = [*committed, *deliveries].map(grouped);
        write!(f, "checked {committed} committed messages, {deliveries} deliveries to {clients} clients: ")?;
        match violations.len() {
            0 => write!(f, "nothing lost, nothing twice, one order in {rooms} rooms")?,
            1 => write!(f, "1 violation")?,
            count => write!(f, "{} violations", grouped(count))?,
        }
        write!(f, "; moves per client min/max {least}/{most}")?;
        if *undecided > 0 {
            write!(f, "; the fate of {undecided} messages is not known")?;
        }
        for violation in violations.iter().take(SHOWN_MAX) {
            write!(f, "\n  {violation}")?;
        }
        if violations.len() > SHOWN_MAX {
            write!(f, "\n  and {} more", grouped(violations.len() - SHOWN_MAX))?;
        }
        Ok(())
    }
}

/// The connections of a record in words, for the diagnosis of a move too many.
pub fn moves_in_words(record: &Record) -> String {
    let word = |connection: &Connection| match &connection.ended {
        Some((_, end)) => format!("{} ({end})", connection.node),
        None => connection.node.clone(),
    };
    let words: Vec<String> = record.connections.iter().map(word).collect();
    format!("{}: {}", record.user, words.join(" -> "))
}

/// `12345` as `12,345`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

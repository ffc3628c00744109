//! Checks of what one client sent: each committed message is there, once, and in the outbox's order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::{truth::Truth, violation::What};
use crate::record::{Ack, Record};

pub(super) fn check(record: &Record, truth: &Truth<'_>, wrong: &mut impl FnMut(Uuid, What)) {
    let mut places: BTreeMap<u64, &Ack> = BTreeMap::new();
    for ack in &record.acks {
        let first = *places.entry(ack.committed.n).or_insert(ack);
        if (first.committed.event, first.committed.seq) != (ack.committed.event, ack.committed.seq) {
            let (n, first, second) = (ack.committed.n, first.committed.seq, ack.committed.seq);
            wrong(ack.committed.room, What::TwoPlaces { n, first, second });
        }
    }
    for ack in places.values() {
        each_is_there(record, ack, truth, wrong);
    }
    for &(settled, known) in &record.set_back {
        // Of whatever rooms.
        wrong(Uuid::nil(), What::SetBack { settled, known });
    }
    in_order(places.values().copied(), wrong);
    answered_in_order(record, wrong);
    each_is_there_once(record, truth, wrong);
    each_accepted_is_there(record, truth, wrong);
}

fn each_is_there(record: &Record, ack: &Ack, truth: &Truth<'_>, wrong: &mut impl FnMut(Uuid, What)) {
    let committed = ack.committed;
    let (n, room, seq) = (committed.n, committed.room, committed.seq);
    let sent = record.send_numbered(n);
    if sent.is_some_and(|send| send.refused.is_some()) {
        wrong(room, What::RefusedAndCommitted { n });
    }
    match truth.in_history(room, seq) {
        None if truth.log(room).is_none() => wrong(room, What::NoHistory),
        None => wrong(room, What::Lost { n, seq }),
        Some(event) if event.event != committed.event => {
            wrong(room, What::Differs { seq, here: committed.event, elsewhere: event.event });
        }
        Some(event) => {
            let same = |text: &str| event.text.as_deref() == Some(text) && event.sender == record.user;
            if !sent.is_some_and(|send| send.room == room && same(&send.text)) {
                wrong(room, What::WrongMessage { n, seq });
            }
        }
    }
}

/// Within a room, places rise with the numbers of the outbox.
fn in_order<'a>(acks: impl Iterator<Item = &'a Ack>, wrong: &mut impl FnMut(Uuid, What)) {
    let mut last: HashMap<Uuid, u64> = HashMap::new();
    for Ack { committed, .. } in acks {
        let before = last.insert(committed.room, committed.seq).unwrap_or(0);
        if committed.seq <= before {
            wrong(committed.room, What::Reordered { n: committed.n, seq: committed.seq, before });
        }
    }
}

/// Fates come in the order of the numbers. One that was refused as retryable has none until it is sent again, and one that is sent again
/// is answered again.
fn answered_in_order(record: &Record, wrong: &mut impl FnMut(Uuid, What)) {
    let deferred: HashSet<_> = record.deferred.iter().map(|deferral| (deferral.connection, deferral.n)).collect();
    let mut answered: HashMap<usize, BTreeSet<u64>> = HashMap::new();
    for Ack { connection, committed, .. } in &record.acks {
        let before = answered.entry(*connection).or_default();
        let latest = before.last().copied().unwrap_or(0);
        let is_first = before.insert(committed.n);
        if is_first && committed.n < latest && !deferred.contains(&(*connection, Some(committed.n))) {
            let (connection, first, second) = (*connection, latest, committed.n);
            wrong(committed.room, What::AnswersReordered { connection, first, second });
        }
    }
}

/// No text of this client is in a history more often than the client sent it, refused ones not counted. This also finds
/// what was doubled without an acknowledgement.
fn each_is_there_once(record: &Record, truth: &Truth<'_>, wrong: &mut impl FnMut(Uuid, What)) {
    let mut counts: HashMap<(Uuid, &str), (usize, usize)> = HashMap::new();
    for send in &record.sends {
        let sent = &mut counts.entry((send.room, &send.text)).or_default().0;
        *sent += usize::from(send.refused.is_none());
    }
    for (text, found) in said(record, truth) {
        counts.entry(text).or_default().1 = found;
    }
    for ((room, text), (sent, found)) in counts {
        if found > sent {
            wrong(room, What::Doubled { text: text.to_owned(), sent, found });
        }
    }
}

/// What was accepted is durable, even when its sender never came back to hear of its place. A message without a text is accepted as well, and
/// refused later.
fn each_accepted_is_there(record: &Record, truth: &Truth<'_>, wrong: &mut impl FnMut(Uuid, What)) {
    let mut there = said(record, truth);
    for send in record.sends.iter().filter(|send| send.accepted && send.refused.is_none() && !send.text.is_empty()) {
        match there.get_mut(&(send.room, send.text.as_str())) {
            Some(left @ 1..) => *left -= 1,
            _ => wrong(send.room, What::AcceptedAndLost { n: send.n }),
        }
    }
}

/// How often each text of this client is in the histories of the rooms that it sent to.
fn said<'a>(record: &'a Record, truth: &Truth<'a>) -> HashMap<(Uuid, &'a str), usize> {
    let mut said = HashMap::new();
    let rooms: BTreeSet<Uuid> = record.sends.iter().map(|send| send.room).collect();
    for room in rooms {
        let log = truth.log(room).unwrap_or_default();
        for text in log.iter().filter(|event| event.sender == record.user).filter_map(|event| event.text.as_deref()) {
            *said.entry((room, text)).or_default() += 1;
        }
    }
    said
}

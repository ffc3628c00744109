//! The decision at the heart of a commit: which sends are new, repeated, refused or ahead of their turn, and which `seq` each
//! new event has.
//!
//! Pure. It is given the batch and what was read under locks, and returns what to write and what to answer. The rules
//! (`docs/protocol.md` §4, and a room's log without holes) live here alone, for every store.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    event::{Details, EventBody, Kind, Reference, Seq, User},
    protocol::Code,
};

/// A send on its way to the log. Its JSON is what the durable queue holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Append {
    /// Who sends.
    pub sender: User,
    /// The outbox, as the client names it.
    pub outbox: Uuid,
    /// Its number in the outbox, from 1.
    pub n: i64,
    /// The room.
    pub room: Uuid,
    /// What enters the log.
    pub content: Content,
    /// The id that the event will have.
    pub event: Uuid,
    /// When it arrived, in milliseconds since 1970 UTC.
    pub time: i64,
}

/// The key of a send: by it a send is known for as long as results are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendKey {
    /// Who sends.
    pub sender: User,
    /// The outbox, as the client names it.
    pub outbox: Uuid,
    /// The number in the outbox.
    pub n: i64,
}

impl Append {
    /// The send's key.
    pub fn key(&self) -> SendKey {
        SendKey { sender: self.sender.clone(), outbox: self.outbox, n: self.n }
    }
}

/// What a send puts into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A message.
    Message(Message),
    /// Nothing: the send was refused, and only uses its number up.
    Refused(Code),
}

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// The text.
    pub text: String,
    /// What it replies to.
    pub reply: Option<Reference>,
    /// Whom it names, each once.
    pub mentions: Vec<User>,
}

impl Content {
    /// A message of nothing but text.
    pub fn text(text: impl Into<String>) -> Content {
        Content::Message(Message { text: text.into(), ..Message::default() })
    }

    /// What a message replies to.
    fn reply(&self) -> Option<Reference> {
        if let Content::Message(message) = self { message.reply } else { None }
    }
}

/// The messages that a batch replies to, by their rooms and each once.
pub(super) fn replies(batch: &[Append]) -> Vec<(Uuid, Reference)> {
    let replies = batch.iter().filter_map(|append| Some((append.room, append.content.reply()?)));
    replies.collect::<HashSet<_>>().into_iter().collect()
}

/// What became of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in the log, now or since an earlier time.
    Committed {
        /// The event. Its text and details are there only when it is new.
        event: EventBody,
        /// Whether this commit put it there.
        new: bool,
    },
    /// It was refused, and its number is used up.
    Refused(Code),
    /// Its number is beyond the next.
    Gap {
        /// The next number.
        expected: i64,
    },
    /// It was taken so long ago that its result is not kept.
    Forgotten,
}

/// A room as it was read under lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomState {
    /// Its epoch.
    pub epoch: i32,
    /// The position of its latest event.
    pub head: Seq,
}

/// The stored result of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An event.
    Event {
        /// The room.
        room: Uuid,
        /// Its epoch then.
        epoch: i32,
        /// The position.
        seq: Seq,
        /// The event's id.
        id: Uuid,
        /// Its time.
        time: i64,
    },
    /// A refusal.
    Refused(Code),
}

/// What was read under locks for a batch. Outboxes are named by their keys.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// The rooms that exist.
    pub rooms: HashMap<Uuid, RoomState>,
    /// The last number of each outbox that exists.
    pub outboxes: HashMap<Uuid, i64>,
    /// Stored results of repeated sends.
    pub outcomes: HashMap<(Uuid, i64), Outcome>,
    /// The messages that are replied to, as far as they are there.
    pub replied: HashSet<(Uuid, Reference)>,
}

/// What to write, and what to answer.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// An answer for each send, in the batch's order.
    pub answers: Vec<Answer>,
    /// New events, in the batch's order.
    pub events: Vec<EventBody>,
    /// New heads of rooms, in id order.
    pub heads: Vec<(Uuid, Seq)>,
    /// New last numbers of outboxes, in key order.
    pub lasts: Vec<(Uuid, i64)>,
    /// New results.
    pub outcomes: Vec<(Uuid, i64, Outcome)>,
}

/// Results that stay beyond those that are kept, until their client arrives anew: an accepted send's is asked for after its commit, and of
/// one outbox so many may be committed together.
const RESULTS_BEYOND: i64 = 200_000;

/// Numbers of an outbox between two looks at what of it is too old.
const TRIMMED_EVERY: i64 = 256;

/// Results of an outbox that one look drops at most: more than have been added since the last.
pub(super) const RESULTS_TRIMMED_MAX: i64 = 1_000;

impl Plan {
    /// The outboxes whose results are to be looked at, each with the latest number that is too old to be asked for.
    pub(super) fn too_old(&self, kept: i64) -> impl Iterator<Item = (Uuid, i64)> {
        let mut added: HashMap<Uuid, i64> = HashMap::new();
        self.outcomes.iter().for_each(|(outbox, ..)| *added.entry(*outbox).or_default() += 1);
        let is_due = move |outbox: &Uuid, last: i64| {
            let before = last - added.get(outbox).copied().unwrap_or(0);
            before / TRIMMED_EVERY != last / TRIMMED_EVERY
        };
        let due = self.lasts.iter().filter(move |(outbox, last)| is_due(outbox, *last));
        due.map(move |(outbox, last)| (*outbox, last - kept - RESULTS_BEYOND)).filter(|(_, n)| *n > 0)
    }
}

/// Decides a batch. `keys` names the outbox of each send.
pub(super) fn plan(batch: &[Append], keys: &[Uuid], observed: Observed) -> Plan {
    let Observed { mut rooms, mut outboxes, mut outcomes, replied } = observed;
    let mut plan = Plan::default();
    for (append, &outbox) in batch.iter().zip(keys) {
        let last = outboxes.get(&outbox).copied().unwrap_or(0);
        if append.n > last + 1 {
            plan.answers.push(Answer::Gap { expected: last + 1 });
            continue;
        }
        if append.n <= last {
            let stored = outcomes.get(&(outbox, append.n));
            plan.answers.push(stored.map_or(Answer::Forgotten, |outcome| repeated(outcome, &append.sender)));
            continue;
        }
        let outcome = match (&append.content, rooms.get_mut(&append.room)) {
            (Content::Refused(code), _) => Outcome::Refused(*code),
            (Content::Message(_), None) => Outcome::Refused(Code::UnknownRoom),
            (Content::Message(Message { reply: Some(reply), .. }), _) if !replied.contains(&(append.room, *reply)) => {
                Outcome::Refused(Code::UnknownEvent)
            }
            (Content::Message(_), Some(room)) => {
                room.head += 1;
                Outcome::Event {
                    room: append.room,
                    epoch: room.epoch,
                    seq: room.head,
                    id: append.event,
                    time: append.time,
                }
            }
        };
        plan.answers.push(match (&outcome, &append.content) {
            (Outcome::Event { epoch, seq, .. }, Content::Message(message)) => {
                let details =
                    Details { reply: message.reply, mentions: message.mentions.clone(), ..Details::default() };
                let event = EventBody {
                    text: Some(message.text.clone()),
                    details: details.boxed(),
                    ..body(&append.sender, append.room, *epoch, *seq, append.event, append.time)
                };
                plan.events.push(event.clone());
                Answer::Committed { event, new: true }
            }
            (outcome, _) => repeated(outcome, &append.sender),
        });
        outboxes.insert(outbox, append.n);
        outcomes.insert((outbox, append.n), outcome.clone());
        plan.outcomes.push((outbox, append.n, outcome));
    }
    plan.heads = latest(plan.events.iter().map(|event| (event.room, event.seq)));
    plan.lasts = latest(plan.outcomes.iter().map(|(outbox, n, _)| (*outbox, *n)));
    plan
}

/// What the log says of sends that it took; `None` for those that it did not take yet.
pub(super) fn recall(sends: &[SendKey], keys: &[Uuid], observed: &Observed) -> Vec<Option<Answer>> {
    let recall = |(send, outbox): (&SendKey, &Uuid)| {
        let taken = observed.outboxes.get(outbox).is_some_and(|last| send.n <= *last);
        let stored = || observed.outcomes.get(&(*outbox, send.n));
        taken.then(|| stored().map_or(Answer::Forgotten, |outcome| repeated(outcome, &send.sender)))
    };
    sends.iter().zip(keys).map(recall).collect()
}

/// The answer that a stored result gives.
fn repeated(outcome: &Outcome, sender: &User) -> Answer {
    match *outcome {
        Outcome::Refused(code) => Answer::Refused(code),
        Outcome::Event { room, epoch, seq, id, time } => {
            Answer::Committed { event: body(sender, room, epoch, seq, id, time), new: false }
        }
    }
}

fn body(sender: &User, room: Uuid, epoch: i32, seq: Seq, id: Uuid, time: i64) -> EventBody {
    let sender = sender.clone();
    EventBody { room, epoch, seq, id, kind: Kind::Message, sender, time, text: None, details: None }
}

/// The last value of each key, in key order: the order in which every node takes its locks.
fn latest(pairs: impl Iterator<Item = (Uuid, i64)>) -> Vec<(Uuid, i64)> {
    let mut pairs: Vec<_> = pairs.collect::<HashMap<_, _>>().into_iter().collect();
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn send(outbox: u128, n: i64, room: Uuid) -> Append {
        Append {
            sender: "alice".into(),
            outbox: Uuid::from_u128(outbox),
            n,
            room,
            content: Content::text(format!("{outbox}/{n}")),
            event: Uuid::from_u128(1000 * outbox + n as u128),
            time: 5,
        }
    }

    fn observed(last: &[(u128, i64)]) -> Observed {
        Observed {
            rooms: [(ROOM, RoomState { epoch: 1, head: 10 }), (OTHER, RoomState { epoch: 3, head: 0 })].into(),
            outboxes: last.iter().map(|(outbox, last)| (Uuid::from_u128(*outbox), *last)).collect(),
            outcomes: HashMap::new(),
            replied: HashSet::new(),
        }
    }

    fn keys(batch: &[Append]) -> Vec<Uuid> {
        batch.iter().map(|append| append.outbox).collect()
    }

    /// Plans and tells the answers as `seq`, `=seq` when repeated, `?n` for a gap, a code, or `forgotten`.
    #[track_caller]
    fn check(batch: &[Append], observed: Observed, expected: &[&str]) -> Plan {
        let plan = plan(batch, &keys(batch), observed);
        let told: Vec<String> = plan
            .answers
            .iter()
            .map(|answer| match answer {
                Answer::Committed { event, new: true } => event.seq.to_string(),
                Answer::Committed { event, new: false } => format!("={}", event.seq),
                Answer::Refused(code) => code.as_str().into(),
                Answer::Gap { expected } => format!("?{expected}"),
                Answer::Forgotten => "forgotten".into(),
            })
            .collect();
        assert_eq!(told, expected);
        plan
    }

    #[test]
    fn rooms_count_on_without_holes_and_outboxes_advance() {
        let batch = [send(7, 1, ROOM), send(8, 5, OTHER), send(7, 2, ROOM), send(7, 3, OTHER)];
        let plan = check(&batch, observed(&[(8, 4)]), &["11", "1", "12", "2"]);
        assert_eq!(plan.heads, [(ROOM, 12), (OTHER, 2)]);
        assert_eq!(plan.lasts, [(Uuid::from_u128(7), 3), (Uuid::from_u128(8), 5)]);
        assert_eq!(plan.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [11, 1, 12, 2]);
        assert_eq!(plan.events[1].epoch, 3);
    }

    #[test]
    fn a_repeated_send_is_answered_and_not_written_again() {
        let batch = [send(7, 1, ROOM), send(7, 1, ROOM), send(7, 2, ROOM), send(7, 1, ROOM)];
        let plan = check(&batch, observed(&[]), &["11", "=11", "12", "=11"]);
        assert_eq!((plan.events.len(), plan.outcomes.len()), (2, 2));
    }

    #[test]
    fn a_stored_result_answers_whatever_the_repetition_says() {
        let mut observed = observed(&[(7, 4)]);
        let stored = Outcome::Event { room: OTHER, epoch: 3, seq: 9, id: Uuid::from_u128(99), time: 4 };
        observed.outcomes.insert((Uuid::from_u128(7), 4), stored);
        observed.outcomes.insert((Uuid::from_u128(7), 3), Outcome::Refused(Code::EmptyText));
        let plan = check(
            &[send(7, 4, ROOM), send(7, 3, ROOM), send(7, 2, ROOM)],
            observed,
            &["=9", "empty_text", "forgotten"],
        );
        assert!(plan.events.is_empty() && plan.lasts.is_empty() && plan.outcomes.is_empty());
    }

    #[test]
    fn a_gap_is_refused_and_uses_no_number() {
        let plan = check(&[send(7, 2, ROOM), send(7, 1, ROOM), send(7, 2, ROOM)], observed(&[]), &["?1", "11", "12"]);
        assert_eq!(plan.lasts, [(Uuid::from_u128(7), 2)]);
    }

    #[test]
    fn a_refused_send_uses_its_number_up_and_leaves_no_hole() {
        let refused = Append { content: Content::Refused(Code::NotAMember), ..send(7, 2, ROOM) };
        let batch = [send(7, 1, ROOM), refused, send(7, 3, Uuid::from_u128(404)), send(7, 4, ROOM), send(7, 2, ROOM)];
        let plan = check(&batch, observed(&[]), &["11", "not_a_member", "unknown_room", "12", "not_a_member"]);
        assert_eq!(plan.lasts, [(Uuid::from_u128(7), 4)]);
        assert_eq!(plan.heads, [(ROOM, 12)]);
    }

    #[test]
    fn a_send_is_recalled_as_it_was_answered_or_not_at_all() {
        let batch = [send(7, 1, ROOM), send(7, 2, Uuid::from_u128(404)), send(8, 1, OTHER)];
        let done = plan(&batch, &keys(&batch), observed(&[]));
        let mut after = Observed { outboxes: done.lasts.into_iter().collect(), ..Observed::default() };
        after.outcomes = done.outcomes.into_iter().map(|(outbox, n, outcome)| ((outbox, n), outcome)).collect();
        after.outcomes.remove(&(Uuid::from_u128(8), 1));
        let asked = [&batch[..], &[send(7, 3, ROOM), send(9, 1, ROOM)]].concat();
        let sends: Vec<SendKey> = asked.iter().map(Append::key).collect();
        let told = recall(&sends, &keys(&asked), &after);
        assert!(matches!(&told[0], Some(Answer::Committed { event, new: false }) if event.seq == 11));
        let others = [Some(Answer::Refused(Code::UnknownRoom)), Some(Answer::Forgotten), None, None];
        assert_eq!(told[1..], others);
    }

    #[test]
    fn a_send_survives_the_queue() {
        let refused = Append { content: Content::Refused(Code::EmptyText), ..send(7, 2, ROOM) };
        let reply = Some(Reference { seq: 3, event: Uuid::from_u128(30) });
        let rich = Content::Message(Message { text: "yes".into(), reply, mentions: vec!["bob".into()] });
        let rich = Append { content: rich, ..send(7, 3, ROOM) };
        for append in [send(7, 1, ROOM), refused, rich] {
            let read: Append = serde_json::from_str(&serde_json::to_string(&append).unwrap()).unwrap();
            assert_eq!((read.key(), read.content, read.event), (append.key(), append.content, append.event));
        }
    }

    #[test]
    fn a_reply_needs_what_it_replies_to() {
        let there = Reference { seq: 9, event: Uuid::from_u128(90) };
        let reply = |n, room, reply| {
            let message = Message { text: "yes".into(), reply: Some(reply), mentions: vec!["bob".into()] };
            Append { content: Content::Message(message), ..send(7, n, room) }
        };
        let batch = [
            reply(1, ROOM, there),
            reply(2, ROOM, Reference { event: Uuid::from_u128(91), ..there }),
            reply(3, OTHER, there),
        ];
        assert_eq!(replies(&batch).len(), 3);
        let observed = Observed { replied: [(ROOM, there)].into(), ..observed(&[]) };
        let plan = check(&batch, observed, &["11", "unknown_event", "unknown_event"]);
        let details = plan.events[0].details.as_deref().unwrap();
        assert_eq!((details.reply, &*details.mentions), (Some(there), &["bob".into()][..]));
    }

    /// Every way to cut a sequence of sends, with repetitions, into two batches gives the same log.
    #[test]
    fn how_sends_are_batched_does_not_matter() {
        let sends: Vec<Append> =
            [(7, 1), (8, 1), (7, 2), (7, 2), (8, 3), (8, 2), (7, 1), (8, 3)].map(|(o, n)| send(o, n, ROOM)).into();
        let mut whole = plan(&sends, &keys(&sends), observed(&[]));
        for cut in 0..=sends.len() {
            let first = plan(&sends[..cut], &keys(&sends[..cut]), observed(&[]));
            let mut between = observed(&[]);
            between.rooms.get_mut(&ROOM).unwrap().head += first.events.len() as i64;
            between.outboxes.extend(first.lasts.iter().copied());
            between.outcomes.extend(first.outcomes.iter().map(|(outbox, n, outcome)| ((*outbox, *n), outcome.clone())));
            let second = plan(&sends[cut..], &keys(&sends[cut..]), between);
            let events: Vec<_> = first.events.iter().chain(&second.events).cloned().collect();
            assert_eq!(events, whole.events, "cut at {cut}");
        }
        assert_eq!(whole.answers.remove(4), Answer::Gap { expected: 2 });
    }

    #[test]
    fn old_results_are_looked_at_now_and_then_and_never_before_they_are_asked_for() {
        let (outbox, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let of = |first: i64, last: i64| {
            let refused = |n| (outbox, n, Outcome::Refused(Code::UnknownRoom));
            let outcomes =
                (first..=last).map(refused).chain([(other, 3, Outcome::Refused(Code::UnknownRoom))]).collect();
            let plan = Plan { lasts: vec![(outbox, last), (other, 3)], outcomes, ..Plan::default() };
            plan.too_old(256).collect::<Vec<_>>()
        };
        let first = 256 + RESULTS_BEYOND;
        assert_eq!(of(200, 300), [], "nothing is too old");
        assert_eq!(of(300_000, 300_010), [], "it was looked at before");
        let at = 1_024 * TRIMMED_EVERY;
        assert_eq!(of(at - 3, at), [(outbox, at - first)]);
        assert_eq!(of(at - 3, at + 400), [(outbox, at + 400 - first)], "a batch may pass more than one such number");
        assert_eq!(of(at, at + 1), [(outbox, at + 1 - first)]);
        assert_eq!(of(at + 1, at + 2), []);
    }
}

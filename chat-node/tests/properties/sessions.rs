//! The session: any sequence of frames, answers, notices and time keeps its invariants.

use std::collections::{HashSet, VecDeque};

use chat_node::{
    auth::{Claims, Rights, TokenError},
    event::{EventBody, Kind, Membership, Room, RoomKind, Seat, Seq, Standing},
    hub::Notice,
    protocol::{Code, LimitsFrame, decode},
    session::{Effect, Input, Now, Outcome, Request, Session, SessionLimits},
    store::{Answer, Append, Arrival, Changed, Content, Message, Page},
};
use proptest::prelude::*;
use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{damage::damaged_text, frames::corpus};

const TEXT_BYTES_MAX: usize = 20;
/// No position that is known to a session is beyond this one.
const HEAD_MAX: Seq = 50;
const START_MS: i64 = 1_767_225_600_000;

/// Something that happens to a session.
#[derive(Clone, Debug)]
enum Step {
    Frame(String),
    NotText,
    /// What waits is answered: the oldest, or the newest.
    Answer {
        oldest: bool,
        how: How,
    },
    Gained(u8, Seq),
    Lost(u8, Seq),
    All(Vec<u8>),
    Tick(i64),
}

/// How something is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Well,
    Badly,
    /// A send is durable, and its fate comes later; anything else is answered well.
    Accepted,
    /// A send came too early; anything else is answered badly.
    TooFast,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![6 => Just(How::Well), 2 => Just(How::Badly), 3 => Just(How::Accepted), 1 => Just(How::TooFast)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::sample::select(corpus()).prop_map(|text| Step::Frame(text.to_owned())),
        2 => damaged_text(corpus()).prop_map(Step::Frame),
        1 => Just(Step::NotText),
        5 => (any::<bool>(), how()).prop_map(|(oldest, how)| Step::Answer { oldest, how }),
        1 => (5_u8..10, 0..HEAD_MAX).prop_map(|(room, head)| Step::Gained(room, head)),
        1 => (5_u8..10, 0..2 * HEAD_MAX).prop_map(|(room, head)| Step::Lost(room, head)),
        1 => proptest::collection::vec(5_u8..10, 0..4).prop_map(Step::All),
        1 => (0..5_000_000_i64).prop_map(Step::Tick),
    ]
}

fn room(number: u8, head: Seq) -> Room {
    let id = Uuid::from_u128(number.into());
    Room { id, kind: RoomKind::Public, name: Some(format!("room {number}")), pair: None, topic: None, epoch: 1, head }
}

fn verify(token: &str, now: u64) -> Result<Claims, TokenError> {
    match token {
        "good" => Ok(Claims { user: "alice".into(), expires: now + 3_600, rights: Rights::default(), login: None }),
        "old" => Err(TokenError::Expired),
        _ => Err(TokenError::Bad),
    }
}

fn seat(room: Room) -> Seat {
    Seat { read: room.head, room, standing: Standing::default(), first: 1 }
}

/// What a session waits for.
enum Waiting {
    Arrival,
    Sent { id: Option<u64>, append: Box<Append> },
    Settled { id: Option<u64>, append: Box<Append> },
    Asked(Request),
}

impl Waiting {
    fn answer(self, how: How) -> Input {
        let well = matches!(how, How::Well | How::Accepted);
        let entered = |id, room: Room| {
            let changed = Changed { room, events: Vec::new(), memberships: Vec::new() };
            Outcome::Entered { id, result: if well { Ok(changed) } else { Err(Code::Unavailable) } }
        };
        match self {
            Waiting::Arrival if well => Input::Arrived(Ok(Arrival {
                rooms: vec![seat(room(7, 9)), seat(room(9, 0))],
                outbox_last: 0,
                contradicted: Vec::new(),
            })),
            Waiting::Arrival => Input::Arrived(Err(Code::Unavailable)),
            Waiting::Sent { id, append } => {
                let n = append.n;
                Input::Done(match how {
                    How::Well => Outcome::Sent { id, n, answer: Ok(committed(*append)) },
                    How::Badly => Outcome::Sent { id, n, answer: Err(Code::Overloaded) },
                    How::Accepted => Outcome::Accepted { id, n, fate: oneshot::channel().1.into() },
                    How::TooFast => Outcome::TooFast { id, n, retry_after_ms: 5 },
                })
            }
            Waiting::Settled { id, append } => {
                let n = append.n;
                let answer = if well { committed(*append) } else { Answer::Refused(Code::UnknownRoom) };
                Input::Done(Outcome::Settled { id, n, answer: Ok(answer) })
            }
            Waiting::Asked(Request::Seat { send, .. }) => {
                let seat = match send.n % 2 {
                    _ if well => Ok(Some(seat(Room { id: send.room, ..room(8, 3) }))),
                    0 => Ok(None),
                    _ => Err(Code::Unavailable),
                };
                Input::Done(Outcome::Seated { send, seat })
            }
            Waiting::Asked(Request::CreateRoom { id, .. }) => Input::Done(entered(id, room(5, 2))),
            Waiting::Asked(Request::Join { id, .. }) => Input::Done(entered(id, room(7, 12))),
            Waiting::Asked(Request::Direct { id, .. }) => Input::Done(entered(id, room(6, 1))),
            Waiting::Asked(Request::Leave { id, room: left, .. }) => {
                let changed = Changed { room: room(7, 9), events: Vec::new(), memberships: Vec::new() };
                let result = if well { Ok(changed) } else { Err(Code::NotAMember) };
                Input::Done(Outcome::Left { id, room: left, result })
            }
            Waiting::Asked(Request::History { id, room, .. }) => {
                let page = Page { epoch: 1, events: Vec::new(), more: false };
                Input::Done(Outcome::Read {
                    id,
                    room,
                    result: if well { Ok((page, Vec::new())) } else { Err(Code::Unavailable) },
                })
            }
            Waiting::Asked(Request::CarryOut { id, command, .. }) => {
                let changed = Changed { room: room(7, 12), events: Vec::new(), memberships: Vec::new() };
                let result = if well { Ok(changed) } else { Err(Code::NotAllowed) };
                Input::Done(Outcome::CarriedOut { id, room: command.room(), result })
            }
            Waiting::Asked(Request::Read { id, room, seq, .. }) => {
                Input::Done(Outcome::Marked { id, room, result: if well { Ok(seq) } else { Err(Code::NotAMember) } })
            }
            Waiting::Asked(Request::Unread { id, .. }) => {
                Input::Done(Outcome::Counted { id, result: if well { Ok(Vec::new()) } else { Err(Code::Unavailable) } })
            }
            Waiting::Asked(Request::Seen { id, .. }) => {
                Input::Done(Outcome::Seen { id, result: if well { Ok(Vec::new()) } else { Err(Code::Unavailable) } })
            }
            Waiting::Asked(Request::Explain { seats, lost, .. }) => {
                let endings =
                    lost.into_iter().filter(|_| well).map(|(room, at)| (room, (Kind::Kicked, at + 1))).collect();
                Input::Done(Outcome::Explained { seats, endings })
            }
            Waiting::Asked(Request::Members { id, room, .. }) => {
                let result = if well { Ok((Vec::new(), false)) } else { Err(Code::Unavailable) };
                Input::Done(Outcome::Listed { id, room, result })
            }
        }
    }
}

/// The log took this send.
fn committed(append: Append) -> Answer {
    let Append { sender, room, event: id, time, .. } = append;
    let event = EventBody { room, epoch: 1, seq: 10, id, kind: Kind::Message, sender, time, text: None, details: None };
    Answer::Committed { event, new: true }
}

/// A session, and what is known of it from its effects alone.
struct Watched {
    session: Session,
    now: Now,
    followed: HashSet<Uuid>,
    waiting: VecDeque<Waiting>,
    /// Numbers of sends that are under way, in order.
    sends: Vec<i64>,
    /// What the latest one was that was said to be durable.
    accepted: Option<Box<Append>>,
    /// Rooms that the store has told the user to be in when a send asked.
    seated: HashSet<Uuid>,
    arrivals: usize,
    closed: bool,
}

impl Watched {
    fn new() -> Self {
        let told =
            LimitsFrame { text_bytes: TEXT_BYTES_MAX, outstanding: 4, history_events: 50, mentions: 2, outbox_days: 1 };
        let session = Session::new("node", SessionLimits { told, replay_events_max: 5 }, None);
        Watched {
            session,
            now: Now { ms: START_MS },
            followed: HashSet::new(),
            waiting: VecDeque::new(),
            sends: Vec::new(),
            accepted: None,
            seated: HashSet::new(),
            arrivals: 0,
            closed: false,
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let lost = match step {
            Step::Lost(number, head) if head > HEAD_MAX => Some(room(number, head).id),
            _ => None,
        };
        let input = match step {
            Step::Frame(text) => Input::Frame(decode(&text)),
            Step::NotText => Input::NotText,
            Step::Answer { oldest, how } => {
                let next = if oldest { self.waiting.pop_front() } else { self.waiting.pop_back() };
                let Some(next) = next else { return Ok(()) };
                match &next {
                    Waiting::Sent { append, .. } if how == How::Accepted => self.accepted = Some(append.clone()),
                    Waiting::Sent { append, .. } | Waiting::Settled { append, .. } => {
                        self.sends.remove(self.sends.partition_point(|n| *n < append.n));
                    }
                    Waiting::Asked(Request::Seat { send, .. }) if matches!(how, How::Well | How::Accepted) => {
                        self.seated.insert(send.room);
                    }
                    Waiting::Arrival | Waiting::Asked(_) => {}
                }
                next.answer(how)
            }
            Step::Gained(number, head) => changed(room(number, head), true),
            Step::Lost(number, head) => changed(room(number, head), false),
            Step::All(numbers) => {
                let rooms: HashSet<u8> = numbers.into_iter().collect();
                Input::Notice(Notice::All(rooms.into_iter().map(|number| seat(room(number, 3))).collect()))
            }
            Step::Tick(ms) => {
                self.now.ms += ms;
                Input::Tick
            }
        };
        let is_request = matches!(input, Input::Frame(_) | Input::NotText);
        let mut effects = self.session.handle(input, self.now);
        if let [Effect::Verify(token)] = effects.as_slice() {
            let seconds = u64::try_from(self.now.ms / 1000).unwrap();
            effects = self.session.handle(Input::Verified(verify(token, seconds)), self.now);
        }
        if is_request && !self.closed {
            prop_assert!(!effects.is_empty(), "whoever asks is answered");
        }
        for effect in effects {
            self.look_at(effect)?;
        }
        let rooms: HashSet<Uuid> = self.session.rooms().collect();
        prop_assert!(lost.is_none_or(|lost| !rooms.contains(&lost)), "what is lost is left, whatever is under way");
        prop_assert_eq!(&rooms, &self.followed, "the rooms of a session are those that are followed");
        Ok(())
    }

    fn look_at(&mut self, effect: Effect) -> Result<(), TestCaseError> {
        match effect {
            Effect::Reply(frame) => {
                let frame: Value = serde_json::from_str(&frame.encode()).unwrap();
                prop_assert!(frame["type"].is_string());
                if frame["type"] == "error" {
                    prop_assert!(frame["code"].as_str().and_then(Code::from_name).is_some(), "{}", frame);
                }
                if frame["type"] == "committed" {
                    let first = self.sends.first().copied().unwrap_or(i64::MAX);
                    prop_assert!(frame["n"].as_i64() <= Some(first), "{} is told before {}", frame, first);
                }
            }
            Effect::Arrive { .. } => {
                self.arrivals += 1;
                prop_assert_eq!(self.arrivals, 1, "a connection arrives once");
                self.waiting.push_back(Waiting::Arrival);
            }
            Effect::Follow(positions) => {
                for (room, _, from) in positions {
                    prop_assert!(self.followed.insert(room), "a room is followed once");
                    prop_assert!(from >= 0);
                }
            }
            Effect::Unfollow(room) => prop_assert!(self.followed.remove(&room), "what is unfollowed was followed"),
            Effect::Append { id, append } => {
                prop_assert!(self.session.user().is_some_and(|user| *user == append.sender));
                prop_assert!(append.n >= 1);
                if let Content::Message(Message { text, mentions, .. }) = &append.content {
                    prop_assert!(mentions.len() <= 2);
                    let is_member = self.followed.contains(&append.room) || self.seated.contains(&append.room);
                    prop_assert!(is_member, "only a member's text enters a log");
                    prop_assert!(!text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains('\0'));
                }
                self.sends.insert(self.sends.partition_point(|n| *n < append.n), append.n);
                self.waiting.push_back(Waiting::Sent { id, append: Box::new(append) });
            }
            Effect::Await { id, n, .. } => {
                let append = self.accepted.take().filter(|append| append.n == n);
                self.waiting.push_back(Waiting::Settled { id, append: append.unwrap() });
            }
            Effect::Ask(request) => {
                prop_assert!(self.session.user().is_some(), "only who is known may ask");
                self.waiting.push_back(Waiting::Asked(request));
            }
            Effect::Close(_) => self.closed = true,
            _ => {}
        }
        Ok(())
    }
}

fn changed(room: Room, member: bool) -> Input {
    Input::Notice(Notice::Changed(Membership {
        user: "alice".into(),
        room,
        member,
        standing: Standing::default(),
        cause: None,
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_sequence_keeps_the_invariants(arrives in proptest::bool::weighted(0.8), steps in proptest::collection::vec(step(), 0..60)) {
        let mut watched = Watched::new();
        if arrives {
            watched.step(Step::Frame(corpus()[0].to_owned()))?;
            watched.step(Step::Answer { oldest: true, how: How::Well })?;
        }
        for step in steps {
            watched.step(step)?;
        }
    }
}

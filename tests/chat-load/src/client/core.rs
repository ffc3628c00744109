//! What a client decides: which frame goes out next, and what an incoming one means. Pure: no socket, no clock, no `async`.
//!
//! `T` is a ticket: handed in with a request and handed out with its outcome.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use super::{
    Answer, Failure, Observation,
    outbox::{Entry, Outbox},
    rooms::Rooms,
};
use crate::frame::{ClientType, Committed, Frame, Hello, Page, Position, Refusal, Request, RoomRef, Welcome};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A request other than a send. It has no number that outlives a connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    CreateRoom(String),
    Join(RoomRef),
    Leave(Uuid),
    Direct(String),
    History { room: Uuid, page: Page },
    Ping,
}

impl Ask {
    /// Whether asking twice has the effect of asking once, so that it may be asked again on another connection.
    fn is_repeatable(&self) -> bool {
        !matches!(self, Ask::CreateRoom(_))
    }

    fn into_request(self, id: u64) -> Request {
        match self {
            Ask::CreateRoom(name) => Request::CreateRoom { id, name },
            Ask::Join(room) => Request::Join { id, room },
            Ask::Leave(room) => Request::Leave { id, room },
            Ask::Direct(user) => Request::Direct { id, user },
            Ask::History { room, page } => Request::History { id, room, page },
            Ask::Ping => Request::Ping { id },
        }
    }
}

/// What the shell has to carry out.
#[derive(Debug)]
pub(super) enum Effect<T> {
    /// Tell the observer.
    Tell(Observation),
    /// A request is done.
    Done(T, Result<Answer, Failure>),
    /// Send nothing of the outbox for a while, longer with each time in a row; then call [`Core::go_on`].
    Pause {
        /// How many pauses there were in a row before this one.
        attempt: u32,
        /// How long at least, in milliseconds.
        at_least_ms: u64,
    },
    /// The node leaves; when it closes, come back after this time.
    ComeBack {
        /// In milliseconds.
        after_ms: u64,
    },
    /// The server breaks the protocol in a way that cannot be mended by going on over this connection.
    Violation(String),
}

/// The state of a client that outlives its connections, and that of the present one.
pub(super) struct Core<T> {
    outbox: Outbox<T>,
    rooms: Rooms,
    next_request: u64,
    /// Requests that are on their way, by their number.
    asked: BTreeMap<u64, (Ask, T)>,
    /// Requests that have yet to go out.
    to_ask: VecDeque<(Ask, T)>,
    /// How long the server keeps an outbox, in milliseconds; unknown before the first welcome.
    outbox_age_ms: Option<u64>,
    /// Another token, which has yet to go out.
    to_renew: Option<String>,
    /// Requests that may wait for an answer at once; 0 while there is no connection.
    outstanding_max: usize,
    /// The server was set back: what this connection still brings speaks of an outbox that is no more.
    set_back: bool,
    paused: bool,
    pauses: u32,
    resumed: Vec<Position>,
}

impl<T> Core<T> {
    pub(super) fn new(outbox: Uuid) -> Self {
        Core {
            outbox: Outbox::new(outbox),
            rooms: Rooms::default(),
            next_request: 1,
            asked: BTreeMap::new(),
            to_ask: VecDeque::new(),
            outbox_age_ms: None,
            to_renew: None,
            outstanding_max: 0,
            set_back: false,
            paused: false,
            pauses: 0,
            resumed: Vec::new(),
        }
    }

    /// Requests and sends whose outcome is not known.
    pub(super) fn unfinished(&self) -> usize {
        self.outbox.len() + self.asked.len() + self.to_ask.len()
    }

    pub(super) fn send(&mut self, room: Uuid, text: String, ticket: T) -> Effect<T> {
        let n = self.outbox.push(room, text.clone(), ticket);
        Effect::Tell(Observation::Queued { n, room, text })
    }

    pub(super) fn ask(&mut self, ask: Ask, ticket: T) {
        self.to_ask.push_back((ask, ticket));
    }

    /// Hands in another token; the next connection has it anyway.
    pub(super) fn renew(&mut self, token: String) {
        self.to_renew = Some(token);
    }

    /// To be called before each connection: what is too old to be repeated has expired.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<Effect<T>> {
        let Some(age_ms) = self.outbox_age_ms else { return Vec::new() };
        let expired = self.outbox.expire(age_ms, now_ms).into_iter();
        let told = |Entry { n, ticket, .. }| {
            [Effect::Tell(Observation::Expired { n }), Effect::Done(ticket, Err(Failure::Expired))]
        };
        expired.flat_map(told).collect()
    }

    /// The first frame of a new connection.
    pub(super) fn hello(&mut self, token: String, client: ClientType) -> Request {
        self.to_renew = None;
        self.set_back = false;
        self.resumed = self.rooms.positions();
        let resume = self.resumed.clone();
        Request::Hello(Hello { token: Some(token), client, outbox: Some(self.outbox.id()), resume })
    }

    /// The connection ended: what was on its way has to go out again, or has an unknown outcome.
    pub(super) fn disconnected(&mut self, now_ms: u64) -> Vec<Effect<T>> {
        if self.outstanding_max > 0 {
            self.outbox.used(now_ms);
        }
        self.outstanding_max = 0;
        self.paused = false;
        self.outbox.take_back(0);
        let mut effects = Vec::new();
        // From the last to the first, each to the front: they keep their order.
        for (ask, ticket) in std::mem::take(&mut self.asked).into_values().rev() {
            if ask.is_repeatable() {
                self.to_ask.push_front((ask, ticket));
            } else {
                effects.push(Effect::Done(ticket, Err(Failure::Interrupted)));
            }
        }
        effects
    }

    /// The client stops for good: every request fails.
    pub(super) fn stopped(&mut self) -> Vec<Effect<T>> {
        let sends = self.outbox.drain().map(|entry| entry.ticket).collect::<Vec<_>>();
        let asked = std::mem::take(&mut self.asked).into_values().map(|(_, ticket)| ticket);
        let to_ask = self.to_ask.drain(..).map(|(_, ticket)| ticket);
        let tickets = sends.into_iter().chain(asked).chain(to_ask);
        tickets.map(|ticket| Effect::Done(ticket, Err(Failure::Stopped))).collect()
    }

    pub(super) fn go_on(&mut self) {
        self.paused = false;
    }

    /// The next frame that may go out now.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<Request> {
        if self.outstanding_max == 0 {
            return None;
        }
        let id = self.next_request;
        // Without it the connection ends, however much is waited for.
        if let Some(token) = self.to_renew.take() {
            self.next_request += 1;
            return Some(Request::Token { id, token });
        }
        if self.asked.len() + self.outbox.outstanding() >= self.outstanding_max {
            return None;
        }
        if let Some((ask, ticket)) = self.to_ask.pop_front() {
            self.next_request += 1;
            let request = ask.clone().into_request(id);
            self.asked.insert(id, (ask, ticket));
            return Some(request);
        }
        if self.paused {
            return None;
        }
        let Entry { n, room, text, .. } = self.outbox.send_next(id, now_ms)?;
        let (n, room, text) = (*n, *room, text.clone());
        self.next_request += 1;
        Some(Request::Send { id, n: self.outbox.told(n), room, text })
    }

    /// What an incoming frame means.
    pub(super) fn take(&mut self, frame: Frame) -> Vec<Effect<T>> {
        match frame {
            Frame::Accepted { .. } | Frame::Committed(_) | Frame::Error(_) if self.set_back => Vec::new(),
            Frame::Welcome(welcome) => self.welcome(welcome),
            Frame::Room { id, room } => {
                self.rooms.joined(&room);
                let told = Effect::Tell(Observation::Joined(room.clone()));
                [told].into_iter().chain(self.answer(id, Answer::Room(room))).collect()
            }
            Frame::Left { id, room, cause } => {
                self.rooms.left(room);
                let told = Effect::Tell(Observation::Left(room, cause));
                [told].into_iter().chain(self.answer(id, Answer::Left)).collect()
            }
            Frame::History { id, history } => self.answer(id, Answer::History(history)).into_iter().collect(),
            Frame::Pong { id } => self.answer(id, Answer::Pong).into_iter().collect(),
            Frame::Token { .. } => vec![Effect::Tell(Observation::Renewed)],
            Frame::Accepted { n } => {
                let n = self.outbox.own(n);
                self.outbox.accept(n);
                vec![Effect::Tell(Observation::Accepted { n })]
            }
            Frame::Committed(committed) => self.committed(Committed { n: self.outbox.own(committed.n), ..committed }),
            Frame::Event(event) => {
                self.rooms.take(&event);
                vec![Effect::Tell(Observation::Event(event))]
            }
            Frame::Announcement(announcement) => vec![Effect::Tell(Observation::Announced(announcement))],
            Frame::AnnouncementEnded { id } => vec![Effect::Tell(Observation::AnnouncementEnded(id))],
            Frame::Reconnect { after_ms } => vec![Effect::ComeBack { after_ms }],
            Frame::Error(refusal) => {
                let own = |n: Option<u64>| n.map(|n| self.outbox.own(n));
                let (n, expected) = (own(refusal.n), own(refusal.expected));
                self.refused(Refusal { n, expected, ..refusal })
            }
            Frame::Unknown => Vec::new(),
        }
    }

    fn welcome(&mut self, welcome: Welcome) -> Vec<Effect<T>> {
        let taken = self.outbox.own(welcome.outbox_last.unwrap_or(0));
        if taken > self.outbox.last() {
            return vec![Effect::Violation(format!("outbox_last is {taken}, but {} were sent", self.outbox.last()))];
        }
        if taken + 1 < self.outbox.first_waiting() {
            return self.begin_anew(taken);
        }
        self.rooms.welcome(&welcome.rooms);
        self.outstanding_max = welcome.limits.outstanding.max(1);
        self.outbox_age_ms = Some(u64::from(welcome.limits.outbox_days).saturating_mul(DAY_MS));
        let resumed = std::mem::take(&mut self.resumed);
        vec![Effect::Tell(Observation::Connected { welcome, resumed })]
    }

    /// The server knows of no more than `known` of what it has settled. The next connection has another outbox.
    fn begin_anew(&mut self, known: u64) -> Vec<Effect<T>> {
        let settled = self.outbox.first_waiting() - 1;
        self.outbox.begin_anew();
        (self.set_back, self.outstanding_max) = (true, 0);
        let message = format!("{settled} were settled, and it knows of {known}");
        vec![Effect::Tell(Observation::SetBack { settled, known }), Effect::Violation(message)]
    }

    fn answer(&mut self, id: Option<u64>, answer: Answer) -> Option<Effect<T>> {
        let (_, ticket) = self.asked.remove(&id?)?;
        Some(Effect::Done(ticket, Ok(answer)))
    }

    fn committed(&mut self, committed: Committed) -> Vec<Effect<T>> {
        self.pauses = 0;
        let mut effects = vec![Effect::Tell(Observation::Committed(committed))];
        if let Some(entry) = self.outbox.settle(committed.n) {
            effects.push(Effect::Done(entry.ticket, Ok(Answer::Committed(committed))));
        }
        effects
    }

    fn refused(&mut self, refusal: Refusal) -> Vec<Effect<T>> {
        let Some(id) = refusal.id else {
            return vec![Effect::Tell(Observation::Deferred(refusal))];
        };
        if let Some((_, ticket)) = self.asked.remove(&id) {
            return vec![Effect::Done(ticket, Err(Failure::Refused(refusal)))];
        }
        let Some(n) = self.outbox.number_of(id) else {
            return Vec::new(); // of an earlier attempt: the present one gets its own answer
        };
        if !refusal.retryable {
            return self.refused_for_good(n, refusal);
        }
        let from = refusal.expected.unwrap_or(n);
        if from > n {
            return vec![Effect::Violation(format!("{} at {n} expects {from}, which was not sent", refusal.code))];
        }
        if from < self.outbox.first_waiting() {
            return self.begin_anew(from.saturating_sub(1));
        }
        self.outbox.take_back(from);
        self.paused = true;
        let attempt = self.pauses;
        self.pauses = attempt.saturating_add(1);
        let at_least_ms = refusal.retry_after_ms.unwrap_or(0);
        vec![Effect::Tell(Observation::Deferred(refusal)), Effect::Pause { attempt, at_least_ms }]
    }

    fn refused_for_good(&mut self, n: u64, refusal: Refusal) -> Vec<Effect<T>> {
        let mut effects = vec![Effect::Tell(Observation::Refused { n, refusal: refusal.clone() })];
        if let Some(entry) = self.outbox.settle(n) {
            effects.push(Effect::Done(entry.ticket, Err(Failure::Refused(refusal))));
        }
        effects
    }
}

//! A session: what one connection may do, and what is to be done about what it asks.
//!
//! Pure: `handle(input, now) -> effects`. It holds who the user is and which rooms the user is in; it waits for nothing, writes to
//! nothing and has no clock. The gateway carries the effects out and brings what came of them back as inputs.

mod fates;
mod here;
mod request;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

pub use self::step::{Effect, Input, Now, Outcome, Request, Send};
use self::{
    fates::Fates,
    here::{Here, Place},
    request::{frame_id, is_room_name, scope},
};
use crate::{
    auth::{Claims, TokenError},
    event::{OWN_USERS, Room, Seat, Seq, User},
    hub::Notice,
    protocol::{
        ClientFrame, CloseReason, Code, Hello, LimitsFrame, MemberFrame, Position, ResumeOutcome, RoomFrame,
        ServerFrame, UnreadFrame, check_guest, check_user,
    },
    store::{Answer, Arrival, Message},
};

/// What a session needs of the configuration.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Told to clients.
    pub told: LimitsFrame,
    /// Events that a resume replays for one room.
    pub replay_events_max: usize,
}

/// Members in one page.
const MEMBERS_MAX: usize = 500;

enum State {
    /// Nothing was said yet. A token may have come with the upgrade.
    New { token: Option<String> },
    /// `hello` was said; its token is being checked.
    Verifying(Hello),
    /// The token is good; the store is asked.
    Arriving { claims: Claims, outbox: Option<Uuid>, resume: Vec<Position>, deferred: Vec<Notice> },
    /// The user is here.
    Here(Here),
    /// The connection is closing.
    Closed,
}

/// One connection's session.
pub struct Session {
    state: State,
    node: String,
    limits: SessionLimits,
}

impl Session {
    /// A session that waits for `hello`.
    pub fn new(node: &str, limits: SessionLimits, token: Option<String>) -> Self {
        Session { state: State::New { token }, node: node.to_owned(), limits }
    }

    /// The user, once identified.
    pub fn user(&self) -> Option<&User> {
        match &self.state {
            State::Here(here) => Some(&here.user),
            _ => None,
        }
    }

    /// The rooms that are followed.
    pub fn rooms(&self) -> impl Iterator<Item = Uuid> {
        let rooms = if let State::Here(here) = &self.state { Some(&here.rooms) } else { None };
        rooms.into_iter().flat_map(HashMap::keys).copied()
    }

    /// Whether `hello` was said and not refused.
    pub fn is_identified(&self) -> bool {
        matches!(self.state, State::Verifying(_) | State::Arriving { .. } | State::Here(_))
    }

    /// Decides what to do.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        match input {
            Input::Frame(Ok(ClientFrame::Hello(hello))) => self.hello(hello),
            Input::Frame(Ok(frame)) => self.request(frame, now),
            Input::Frame(Err(bad)) => {
                self.answer(ServerFrame::error_because(bad.id, bad.n, Code::BadFrame, bad.reason))
            }
            Input::NotText => {
                self.answer(ServerFrame::error_because(None, None, Code::BadFrame, "send text frames".into()))
            }
            Input::Verified(result) => self.verified(result),
            Input::Arrived(result) => self.arrived(result, now),
            Input::Done(outcome) => self.done(outcome, now),
            Input::Notice(notice) => self.notice(notice, now),
            Input::Tick => self.tick(now),
        }
    }

    fn hello(&mut self, mut hello: Hello) -> Vec<Effect> {
        let State::New { token } = &mut self.state else {
            return self.answer(ServerFrame::error(hello.id, None, Code::AlreadyIdentified));
        };
        let token = hello.token.take().or_else(|| token.take()).unwrap_or_default();
        self.state = State::Verifying(hello);
        vec![Effect::Verify(token)]
    }

    fn verified(&mut self, result: Result<Claims, TokenError>) -> Vec<Effect> {
        if let State::Here(here) = &mut self.state {
            return here.renewed(result);
        }
        let State::Verifying(hello) = &mut self.state else { return Vec::new() };
        match result {
            Ok(claims) => {
                let Hello { client, outbox, resume, .. } = std::mem::take(hello);
                let (user, login) = (claims.user.clone(), claims.login);
                let told = resume.clone();
                self.state = State::Arriving { claims, outbox, resume, deferred: Vec::new() };
                vec![Effect::Arrive { user, login, client, outbox, resume: told }]
            }
            Err(error) => {
                let id = hello.id;
                let reason = match error {
                    TokenError::Bad => CloseReason::BadToken,
                    TokenError::Expired => CloseReason::TokenExpired,
                    TokenError::Unavailable => CloseReason::Unavailable,
                };
                self.end(id, error.into(), reason)
            }
        }
    }

    fn arrived(&mut self, result: Result<Arrival, Code>, now: Now) -> Vec<Effect> {
        let State::Arriving { claims, outbox, resume, deferred } = std::mem::replace(&mut self.state, State::Closed)
        else {
            return Vec::new();
        };
        let Claims { user, expires, rights, .. } = claims;
        let Arrival { rooms, outbox_last, contradicted } = match result {
            Ok(arrival) => arrival,
            Err(code) => {
                let error = ServerFrame::error(None, None, code);
                return vec![Effect::Reply(error), Effect::Close(CloseReason::Unavailable)];
            }
        };
        let mut effects = Vec::new();
        let mut positions = Vec::with_capacity(rooms.len());
        let mut frames = Vec::with_capacity(rooms.len());
        for Seat { room, standing, read, first } in &rooms {
            let given = resume.iter().find(|position| position.room == room.id);
            let is_other = contradicted.contains(&room.id);
            let (outcome, from) = resumption(room, *first, given, is_other, self.limits.replay_events_max);
            effects.push(Effect::Resumed(outcome));
            positions.push((room.id, room.epoch, from));
            frames.push(RoomFrame::new(room, &user, *standing, Some(outcome)).read(*read));
        }
        let welcome = ServerFrame::Welcome {
            user: user.to_string(),
            expires: expires.saturating_mul(1000),
            node: self.node.clone(),
            outbox_last,
            limits: self.limits.told.clone(),
            rooms: frames,
        };
        effects.extend([Effect::Reply(welcome), Effect::Announce, Effect::Follow(positions)]);
        let place = |Seat { room, standing, .. }: &Seat| (room.id, Place { standing: *standing, at: room.head });
        let rooms = rooms.iter().map(place).collect();
        let mut here = Here {
            user,
            expires,
            rights,
            renewing: None,
            outbox,
            fates: Fates::default(),
            rooms,
            watched: HashSet::new(),
            entering: 0,
            deferred: Box::default(),
            explaining: None,
            changed: HashMap::new(),
        };
        deferred.into_iter().for_each(|notice| effects.extend(here.notice(notice, now)));
        self.state = State::Here(here);
        effects
    }

    fn request(&mut self, frame: ClientFrame, now: Now) -> Vec<Effect> {
        let State::Here(here) = &mut self.state else {
            return match (&self.state, frame) {
                (State::New { .. }, frame) => self.end(frame_id(&frame), Code::NotIdentified, CloseReason::BadToken),
                (_, frame) => self.answer(ServerFrame::error(frame_id(&frame), None, Code::NotIdentified)),
            };
        };
        let user = here.user.clone();
        let refuse = |id, code| vec![Effect::Reply(ServerFrame::error(id, None, code))];
        if scope(&frame).is_some_and(|scope| !here.rights.allows(scope)) {
            return refuse(frame_id(&frame), Code::Forbidden);
        }
        match frame {
            ClientFrame::Hello(_) => Vec::new(),
            ClientFrame::Signal(signal) => here.signal(signal, now),
            ClientFrame::Read { id, room, .. } if !here.rooms.contains_key(&room) => refuse(id, Code::NotAMember),
            ClientFrame::Read { id, room, seq } => vec![Effect::Ask(Request::Read { id, user, room, seq })],
            ClientFrame::Unread { id } => vec![Effect::Ask(Request::Unread { id, user })],
            ClientFrame::Seen { id, users } if users.iter().any(|user| check_user(user).is_err()) => {
                refuse(id, Code::UnknownUser)
            }
            ClientFrame::Seen { id, users } => vec![Effect::Ask(Request::Seen { id, users })],
            ClientFrame::Token { id, token } => here.renew(id, token),
            ClientFrame::Ping { id } => vec![Effect::Reply(ServerFrame::Pong { id })],
            ClientFrame::Send { id, n, room, text, reply, mut mentions } => {
                mentions.sort_unstable();
                mentions.dedup();
                let message = Message { text, reply, mentions: mentions.into_iter().map(User::from).collect() };
                here.send(Send { id, n, room, message }, now, &self.limits)
            }
            ClientFrame::Command { id, command } => {
                let known = here.rooms.contains_key(&command.room());
                let checked = if known { command.check(self.limits.told.text_bytes) } else { Err(Code::NotAMember) };
                match checked {
                    Ok(()) => vec![Effect::Ask(Request::CarryOut { id, user, command })],
                    Err(code) => refuse(id, code),
                }
            }
            ClientFrame::CreateRoom { id, name, .. } if !is_room_name(&name) => refuse(id, Code::BadName),
            ClientFrame::CreateRoom { id, name, kind } => here.enter(Request::CreateRoom { id, user, name, kind }),
            ClientFrame::Join { id, room } => here.enter(Request::Join { id, user, room }),
            ClientFrame::Direct { id, user: other } if !user.starts_with(OWN_USERS) && check_guest(&other).is_err() => {
                refuse(id, Code::UnknownUser)
            }
            ClientFrame::Direct { id, user: other } => here.enter(Request::Direct { id, user, other: other.into() }),
            ClientFrame::Leave { id, room } => vec![Effect::Ask(Request::Leave { id, user, room })],
            ClientFrame::History { id, room, .. } | ClientFrame::Members { id, room, .. }
                if !here.rooms.contains_key(&room) =>
            {
                refuse(id, Code::NotAMember)
            }
            ClientFrame::History { id, room, range, limit } => {
                let most = self.limits.told.history_events;
                let limit = limit.unwrap_or(most).clamp(1, most);
                vec![Effect::Ask(Request::History { id, user, room, range, limit })]
            }
            ClientFrame::Members { id, after, .. } if after.contains('\0') => refuse(id, Code::UnknownMember),
            ClientFrame::Members { id, room, after, limit } => {
                let limit = limit.unwrap_or(MEMBERS_MAX).clamp(1, MEMBERS_MAX);
                vec![Effect::Ask(Request::Members { id, room, after, limit })]
            }
        }
    }

    fn done(&mut self, outcome: Outcome, now: Now) -> Vec<Effect> {
        let State::Here(here) = &mut self.state else { return Vec::new() };
        match outcome {
            Outcome::Seated { send, seat } => here.seated(send, seat, now, &self.limits),
            Outcome::Sent { id, n, answer: answer @ (Ok(Answer::Gap { .. }) | Err(_)) } => {
                here.no_fate(n, sent(id, n, answer))
            }
            Outcome::TooFast { id, n, retry_after_ms } => here.no_fate(n, ServerFrame::too_fast(id, n, retry_after_ms)),
            Outcome::Sent { id, n, answer } | Outcome::Settled { id, n, answer } => {
                here.fates.known(n, sent(id, n, answer)).into_iter().map(Effect::Reply).collect()
            }
            Outcome::Accepted { id, n, fate } => {
                vec![Effect::Reply(ServerFrame::Accepted { id, n }), Effect::Await { id, n, fate }]
            }
            Outcome::Entered { id, result } => {
                let mut effects = match result {
                    Ok(changed) => here.entered(&changed, id, now),
                    Err(code) => vec![Effect::Reply(ServerFrame::error(id, None, code))],
                };
                effects.extend(here.go_on(now));
                effects
            }
            Outcome::Explained { seats, endings } => here.explained(seats, &endings, now),
            Outcome::Left { id, room, result } => match result {
                Ok(changed) => here.left(room, &changed, id, now),
                Err(code) => vec![Effect::Reply(ServerFrame::error(id, None, code))],
            },
            Outcome::CarriedOut { id, room, result } => answer(id, result, |changed| {
                let seq = changed.events.last().map(|event| event.seq);
                ServerFrame::Done { id, room: Some(room), seq }
            }),
            Outcome::Watched { id, room, result: Ok(()) } => here.watching(id, room),
            Outcome::Watched { id, room, result: Err(code) } => {
                here.watched.remove(&room);
                // It may have got as far as the board.
                vec![Effect::Unwatch(room), Effect::Reply(ServerFrame::error(id, None, code))]
            }
            Outcome::Marked { id, room, result } => answer(id, result, |seq| ServerFrame::Read { id, room, seq }),
            Outcome::Counted { id, result } => answer(id, result, |rooms| ServerFrame::Unread {
                id,
                rooms: rooms.into_iter().map(UnreadFrame::from).collect(),
            }),
            Outcome::Seen { id, result } => answer(id, result, |users| ServerFrame::Seen { id, users }),
            // Whoever was sent away meanwhile reads no more.
            Outcome::Listed { id, room, .. } | Outcome::Read { id, room, .. } if !here.rooms.contains_key(&room) => {
                vec![Effect::Reply(ServerFrame::error(id, None, Code::NotAMember))]
            }
            Outcome::Listed { id, room, result } => answer(id, result, |(members, more)| {
                let members = members.iter().map(|member| MemberFrame::new(member, now.ms)).collect();
                ServerFrame::Members { id, room, members, more }
            }),
            Outcome::Read { id, room, result } => {
                answer(id, result, |(page, tallies)| ServerFrame::history(id, room, &page, tallies))
            }
        }
    }

    fn notice(&mut self, notice: Notice, now: Now) -> Vec<Effect> {
        match &mut self.state {
            State::Here(here) => return here.notice(notice, now),
            State::Arriving { deferred, .. } => deferred.push(notice),
            State::New { .. } | State::Verifying(_) | State::Closed => {}
        }
        Vec::new()
    }

    fn tick(&mut self, now: Now) -> Vec<Effect> {
        match &self.state {
            State::Here(here) if here.expires <= now.seconds() => {
                self.end(None, Code::TokenExpired, CloseReason::TokenExpired)
            }
            _ => Vec::new(),
        }
    }

    fn answer(&self, frame: ServerFrame) -> Vec<Effect> {
        if matches!(self.state, State::Closed) { Vec::new() } else { vec![Effect::Reply(frame)] }
    }

    fn end(&mut self, id: Option<u64>, code: Code, reason: CloseReason) -> Vec<Effect> {
        // A user that is here keeps its rooms until the connection is gone.
        if !matches!(self.state, State::Here(_)) {
            self.state = State::Closed;
        }
        vec![Effect::Reply(ServerFrame::error(id, None, code)), Effect::Close(reason)]
    }
}

/// The answer to a request, or the error.
fn answer<T>(id: Option<u64>, result: Result<T, Code>, frame: impl FnOnce(T) -> ServerFrame) -> Vec<Effect> {
    let frame = result.map_or_else(|code| ServerFrame::error(id, None, code), frame);
    vec![Effect::Reply(frame)]
}

/// Where a room's events begin for a connection, given the position that its client has.
fn resumption(
    room: &Room,
    first: Seq,
    given: Option<&Position>,
    is_other: bool,
    replay_max: usize,
) -> (ResumeOutcome, Seq) {
    match given {
        None => (ResumeOutcome::Live, room.head),
        Some(_) if is_other => (ResumeOutcome::Reset, room.head),
        Some(position) if position.epoch != room.epoch || position.seq > room.head || position.seq < 0 => {
            (ResumeOutcome::Reset, room.head)
        }
        Some(position) if usize::try_from(room.head - position.seq).is_ok_and(|missed| missed > replay_max) => {
            (ResumeOutcome::TooFar, room.head)
        }
        // What follows it was dropped since.
        Some(position) if position.seq + 1 < first => (ResumeOutcome::TooFar, room.head),
        Some(position) => (ResumeOutcome::Replayed, position.seq),
    }
}

fn sent(id: Option<u64>, n: i64, answer: Result<Answer, Code>) -> ServerFrame {
    match answer {
        Ok(Answer::Committed { event, .. }) => ServerFrame::Committed {
            id,
            n,
            room: event.room,
            epoch: event.epoch,
            seq: event.seq,
            event: event.id,
            time: event.time,
        },
        Ok(Answer::Refused(code)) | Err(code) => ServerFrame::error(id, Some(n), code),
        Ok(Answer::Forgotten) => ServerFrame::error(id, Some(n), Code::OutboxForgotten),
        Ok(Answer::Gap { expected }) => match ServerFrame::error(id, Some(n), Code::OutboxGap) {
            ServerFrame::Error(failure) => {
                ServerFrame::Error(crate::protocol::Failure { expected: Some(expected), ..failure })
            }
            other => other,
        },
    }
}

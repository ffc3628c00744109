//! What a session does for a user who is here: sends, and the rooms that are gained and lost.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    SessionLimits,
    fates::Fates,
    step::{Effect, Now, Request, Send},
};
use crate::{
    auth::{Claims, Rights, Scope, TokenError},
    event::{Kind, Membership, Room, Seat, Seq, Standing, User},
    hub::Notice,
    protocol::{Code, RoomFrame, ServerFrame, SignalFrame, check_text, check_user},
    store::{Append, Changed, Content, Message},
};

pub(super) struct Here {
    pub(super) user: User,
    pub(super) expires: u64,
    pub(super) rights: Rights,
    /// The request that hands in another token, while that is being checked.
    pub(super) renewing: Option<Option<u64>>,
    pub(super) outbox: Option<Uuid>,
    /// Fates of sends that are told in the outbox's order.
    pub(super) fates: Fates<ServerFrame>,
    pub(super) rooms: HashMap<Uuid, Place>,
    /// Rooms whose members' presence is watched.
    pub(super) watched: HashSet<Uuid>,
    /// Requests under way that may make the user a member, and what waits for them.
    pub(super) entering: usize,
    pub(super) deferred: Box<Deferred>,
    pub(super) explaining: Option<Box<Explaining>>,
    /// How rooms were last gained or lost: a list of all rooms may have been read before.
    pub(super) changed: HashMap<Uuid, Change>,
}

/// A room was gained or lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// When, in milliseconds.
    ms: i64,
    /// Where in the room's log it was lost, if that is known. What is told of the room beyond that is newer, however old the list.
    lost_at: Option<Seq>,
}

/// The user's place in a room, as far as it is known here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) standing: Standing,
    /// The position in the room's log up to which changes of it are known: what comes from before it is old.
    pub(super) at: Seq,
}

/// What the hub tells of rooms that are not known, while requests are under way that may make the user a member: so that the answer comes
/// before the room's events. What it tells of rooms that are known, a loss above all, waits for nobody: a client could go on asking for ever.
#[derive(Default)]
pub(super) struct Deferred {
    /// Changes, in order.
    changed: Vec<Membership>,
    /// What the latest list of all rooms has.
    listed: Vec<Seat>,
}

/// The reasons are asked for why a list of all rooms has not some that are known.
pub(super) struct Explaining {
    /// Those, and up to where they were known.
    lost: HashMap<Uuid, Seq>,
    /// The list that came meanwhile, the latest.
    next: Option<Vec<Seat>>,
}

/// Changes that wait. Beyond, they are looked at all the same.
pub(super) const DEFERRED_MAX: usize = 100;

/// Rooms whose members' presence one connection may watch.
const WATCHED_MAX: usize = 10;

/// How old a list of all rooms can be when it arrives: longer than any statement may take.
pub(super) const LIST_AGE_MS_MAX: i64 = 15_000;

impl Here {
    /// A send. To a room that is not known here it may be all the same: the user has entered it elsewhere a moment ago, or while this node
    /// could not hear of it.
    pub(super) fn send(&mut self, send: Send, now: Now, limits: &SessionLimits) -> Vec<Effect> {
        match self.rooms.get(&send.room) {
            Some(place) => self.append(send, Some(place.standing), now, limits),
            None => vec![Effect::Ask(Request::Seat { user: self.user.clone(), send })],
        }
    }

    /// The store told whether the user is in the room of a send, or could not: then the send has not used its number.
    pub(super) fn seated(
        &mut self,
        send: Send,
        seat: Result<Option<Seat>, Code>,
        now: Now,
        limits: &SessionLimits,
    ) -> Vec<Effect> {
        // What was heard meanwhile is newer.
        let heard = self.rooms.get(&send.room).map(|place| place.standing);
        match seat {
            Ok(seat) => self.append(send, heard.or(seat.map(|seat| seat.standing)), now, limits),
            Err(code) => vec![Effect::Reply(ServerFrame::error(send.id, Some(send.n), code))],
        }
    }

    /// A send that breaks a rule goes to the log as well, as a refusal, because it uses its number up.
    fn append(
        &mut self,
        Send { id, n, room, message }: Send,
        standing: Option<Standing>,
        now: Now,
        limits: &SessionLimits,
    ) -> Vec<Effect> {
        let Some(outbox) = self.outbox else {
            return vec![Effect::Reply(ServerFrame::error(id, Some(n), Code::OutboxMissing))];
        };
        let content = match self.check(standing, &message, now, limits) {
            Ok(()) => Content::Message(message),
            Err(code) => Content::Refused(code),
        };
        self.fates.awaits(n);
        let (sender, event) = (self.user.clone(), Uuid::nil());
        vec![Effect::Append { id, append: Append { sender, outbox, n, room, content, event, time: now.ms } }]
    }

    /// A send came to nothing and may come again: whoever waited behind it is told.
    pub(super) fn no_fate(&mut self, n: i64, error: ServerFrame) -> Vec<Effect> {
        std::iter::once(error).chain(self.fates.has_none(n)).map(Effect::Reply).collect()
    }

    /// Whether the user, who stands so in the room, may send this message to it: decided here, so even while the database is away.
    fn check(
        &self,
        standing: Option<Standing>,
        message: &Message,
        now: Now,
        limits: &SessionLimits,
    ) -> Result<(), Code> {
        if !self.rights.allows(Scope::Send) {
            return Err(Code::Forbidden);
        }
        if standing.ok_or(Code::NotAMember)?.is_muted(now.ms) {
            return Err(Code::Muted);
        }
        if message.mentions.len() > limits.told.mentions {
            return Err(Code::TooManyMentions);
        }
        check_text(&message.text, limits.told.text_bytes)?;
        message.mentions.iter().try_for_each(|user| check_user(user))
    }

    /// Another token is handed in.
    pub(super) fn renew(&mut self, id: Option<u64>, token: String) -> Vec<Effect> {
        if self.renewing.is_some() {
            return vec![Effect::Reply(ServerFrame::error(id, None, Code::Overloaded))];
        }
        self.renewing = Some(id);
        vec![Effect::Verify(token)]
    }

    /// It was checked. One that does not do changes nothing: the former token holds as long as it would have.
    pub(super) fn renewed(&mut self, result: Result<Claims, TokenError>) -> Vec<Effect> {
        let Some(id) = self.renewing.take() else { return Vec::new() };
        let claims = match result {
            Ok(claims) if claims.user == self.user => claims,
            Ok(_) => return vec![Effect::Reply(ServerFrame::error(id, None, Code::BadToken))],
            Err(error) => return vec![Effect::Reply(ServerFrame::error(id, None, error.into()))],
        };
        (self.expires, self.rights) = (claims.expires, claims.rights);
        let told = ServerFrame::Token { id, expires: claims.expires.saturating_mul(1000) };
        vec![Effect::Belong(claims.login), Effect::Reply(told)]
    }

    /// What is told and never stored.
    pub(super) fn signal(&mut self, signal: SignalFrame, now: Now) -> Vec<Effect> {
        let refuse = |id, code| vec![Effect::Reply(ServerFrame::error(id, None, code))];
        match signal {
            SignalFrame::Status { id, state } => vec![Effect::Status(state), done(id, None)],
            SignalFrame::Unwatch { id, room } => {
                let effect = self.watched.remove(&room).then_some(Effect::Unwatch(room));
                effect.into_iter().chain([done(id, Some(room))]).collect()
            }
            SignalFrame::Typing { id, room } | SignalFrame::Watch { id, room } if !self.rooms.contains_key(&room) => {
                refuse(id, Code::NotAMember)
            }
            SignalFrame::Typing { id, room } => {
                let is_muted = self.rooms.get(&room).is_some_and(|place| place.standing.is_muted(now.ms));
                if is_muted { refuse(id, Code::Muted) } else { vec![Effect::Typing(room)] }
            }
            SignalFrame::Watch { id, room } => {
                if self.watched.len() >= WATCHED_MAX && !self.watched.contains(&room) {
                    return refuse(id, Code::TooManyWatched);
                }
                self.watched.insert(room);
                vec![Effect::Watch { id, room }]
            }
        }
    }

    /// The members of a room are known that was to be watched; it may have been given up meanwhile, perhaps before it had begun.
    pub(super) fn watching(&self, id: Option<u64>, room: Uuid) -> Vec<Effect> {
        if self.watched.contains(&room) {
            return vec![Effect::Show { id, room }];
        }
        let answer = match self.rooms.contains_key(&room) {
            true => done(id, Some(room)),
            false => Effect::Reply(ServerFrame::error(id, None, Code::NotAMember)),
        };
        vec![Effect::Unwatch(room), answer]
    }

    pub(super) fn enter(&mut self, request: Request) -> Vec<Effect> {
        self.entering += 1;
        vec![Effect::Ask(request)]
    }

    /// A request that held something back is done.
    pub(super) fn go_on(&mut self, now: Now) -> Vec<Effect> {
        self.entering -= 1;
        self.look_again(now, self.entering == 0)
    }

    /// Looks at what waits: at all, or at what tells of rooms that are known by now.
    fn look_again(&mut self, now: Now, all: bool) -> Vec<Effect> {
        let Deferred { changed, listed } = std::mem::take(&mut *self.deferred);
        let mut effects = Vec::new();
        // First the list: whether a change is older than what it says, its position tells.
        for seat in listed {
            if all || self.rooms.contains_key(&seat.room.id) {
                effects.extend(self.found(seat, now));
            } else {
                self.deferred.listed.push(seat);
            }
        }
        for membership in changed {
            if all || self.rooms.contains_key(&membership.room.id) {
                effects.extend(self.change(membership, now));
            } else {
                self.deferred.changed.push(membership);
            }
        }
        effects
    }

    pub(super) fn notice(&mut self, notice: Notice, now: Now) -> Vec<Effect> {
        match notice {
            Notice::Changed(membership) if self.entering > 0 && !self.rooms.contains_key(&membership.room.id) => {
                self.deferred.changed.push(membership);
                let is_full = self.deferred.changed.len() > DEFERRED_MAX;
                if is_full { self.look_again(now, true) } else { Vec::new() }
            }
            Notice::Changed(membership) => self.change(membership, now),
            Notice::All(seats) => match &mut self.explaining {
                Some(explaining) => {
                    explaining.next = Some(seats);
                    Vec::new()
                }
                None => self.list(seats, now),
            },
        }
    }

    fn change(&mut self, membership: Membership, now: Now) -> Vec<Effect> {
        let Membership { room, member, standing, cause, .. } = membership;
        let at = room.head + 1;
        let place = self.rooms.get(&room.id);
        match member {
            true if place.is_none() && self.was_lost_at(room.id).is_some_and(|lost| at <= lost) => Vec::new(),
            true => self.stand(&room, standing, at, now),
            false if place.is_some_and(|place| at <= place.at) => Vec::new(),
            false => self.lose(room.id, None, (cause, Some(at)), now),
        }
    }

    fn list(&mut self, seats: Vec<Seat>, now: Now) -> Vec<Effect> {
        self.changed.retain(|_, change| now.ms - change.ms < LIST_AGE_MS_MAX);
        let lost: HashMap<Uuid, Seq> = self.unlisted(&seats).map(|(room, place)| (*room, place.at)).collect();
        if lost.is_empty() {
            return self.listed(seats, &lost, &HashMap::new(), now);
        }
        // A list does not say why a room is not in it, or whether it was read before the room was gained; the room's log does.
        let asked = lost.iter().map(|(room, at)| (*room, *at)).collect();
        self.explaining = Some(Box::new(Explaining { lost, next: None }));
        vec![Effect::Ask(Request::Explain { user: self.user.clone(), seats, lost: asked })]
    }

    /// This is how memberships of rooms that are not in a list have ended.
    pub(super) fn explained(
        &mut self,
        seats: Vec<Seat>,
        endings: &HashMap<Uuid, (Kind, Seq)>,
        now: Now,
    ) -> Vec<Effect> {
        let Some(Explaining { lost, next }) = self.explaining.take().map(|explaining| *explaining) else {
            return Vec::new();
        };
        let mut effects = self.listed(seats, &lost, endings, now);
        if let Some(seats) = next {
            effects.extend(self.list(seats, now));
        }
        effects
    }

    /// The rooms that a list of all does not have.
    fn unlisted(&self, seats: &[Seat]) -> impl Iterator<Item = (&Uuid, &Place)> {
        let listed: HashSet<Uuid> = seats.iter().map(|seat| seat.room.id).collect();
        self.rooms.iter().filter(move |(room, _)| !listed.contains(*room))
    }

    /// These were all of the user's rooms, these were known beyond them, and this is how memberships of those have ended.
    fn listed(
        &mut self,
        seats: Vec<Seat>,
        lost: &HashMap<Uuid, Seq>,
        endings: &HashMap<Uuid, (Kind, Seq)>,
        now: Now,
    ) -> Vec<Effect> {
        // A room that was gained lately is lost only if its log says so: the list may have been read before. One that is known further
        // than when the log was asked is not lost at all: what was told since is newer.
        let has_ended = |room: &Uuid| endings.contains_key(room) || !self.changed.contains_key(room);
        let is_so = |room: &Uuid, at: &Seq| self.rooms.get(room).is_some_and(|place| place.at == *at);
        let lost: Vec<Uuid> =
            lost.iter().filter(|(room, at)| is_so(room, at) && has_ended(room)).map(|(room, _)| *room).collect();
        let mut effects = Vec::new();
        for room in lost {
            let (kind, at) = endings.get(&room).copied().unzip();
            effects.extend(self.lose(room, None, (kind.filter(|kind| *kind != Kind::Left), at), now));
        }
        self.deferred.listed = seats;
        effects.extend(self.look_again(now, self.entering == 0));
        effects
    }

    /// A list of all rooms has this one.
    fn found(&mut self, Seat { room, standing, read, first }: Seat, now: Now) -> Vec<Effect> {
        let is_new = !self.rooms.contains_key(&room.id);
        let is_old = |change: &Change| change.lost_at.is_none_or(|lost| room.head <= lost);
        if is_new && self.changed.get(&room.id).is_some_and(is_old) {
            return Vec::new();
        }
        let at = room.head;
        // A new member has read up to where the membership began: what was said since then is still to be told.
        let room = if is_new { Room { head: read.max(first - 1), ..room } } else { room };
        self.stand(&room, standing, at, now)
    }

    /// The hub tells that the user stands so in a room, as of a position in its log.
    fn stand(&mut self, room: &Room, standing: Standing, at: Seq, now: Now) -> Vec<Effect> {
        match self.rooms.get_mut(&room.id) {
            Some(place) if at <= place.at => Vec::new(),
            Some(place) => {
                let differs = place.standing != standing;
                *place = Place { standing, at };
                if differs { vec![self.told(room, None, standing)] } else { Vec::new() }
            }
            None => self.gain(room, Place { standing, at }, None, now),
        }
    }

    /// The user asked for a room and is in it now. What the answer does not tell is known already.
    pub(super) fn entered(&mut self, changed: &Changed, id: Option<u64>, now: Now) -> Vec<Effect> {
        let room = &changed.room;
        let own = changed.memberships.iter().find(|membership| membership.user == self.user);
        let place = match own {
            Some(membership) => Place { standing: membership.standing, at: room.head + 1 },
            None => self.rooms.get(&room.id).copied().unwrap_or(Place { standing: Standing::default(), at: 0 }),
        };
        if self.rooms.contains_key(&room.id) {
            return vec![self.told(room, id, place.standing)];
        }
        self.gain(room, place, id, now)
    }

    fn told(&self, room: &Room, id: Option<u64>, standing: Standing) -> Effect {
        let room = RoomFrame::new(room, &self.user, standing, None);
        Effect::Reply(ServerFrame::Room { id, room })
    }

    fn gain(&mut self, room: &Room, place: Place, id: Option<u64>, now: Now) -> Vec<Effect> {
        self.rooms.insert(room.id, place);
        self.changed.insert(room.id, Change { ms: now.ms, lost_at: None });
        vec![self.told(room, id, place.standing), Effect::Follow(vec![(room.id, room.epoch, room.head)])]
    }

    /// The user left a room.
    pub(super) fn left(&mut self, room: Uuid, changed: &Changed, id: Option<u64>, now: Now) -> Vec<Effect> {
        if self.rooms.contains_key(&room) {
            let at = changed.events.iter().map(|event| event.seq).fold(changed.room.head, Seq::max);
            return self.lose(room, id, (None, Some(at)), now);
        }
        vec![Effect::Reply(ServerFrame::Left { id, room, cause: None })]
    }

    fn was_lost_at(&self, room: Uuid) -> Option<Seq> {
        self.changed.get(&room).and_then(|change| change.lost_at)
    }

    /// A room is lost for a reason, at a position in its log, as far as these are known.
    fn lose(&mut self, room: Uuid, id: Option<u64>, (cause, at): (Option<Kind>, Option<Seq>), now: Now) -> Vec<Effect> {
        let known = self.rooms.remove(&room);
        if known.is_none() && at <= self.was_lost_at(room) {
            return Vec::new();
        }
        // Also of a room that is not known: a list that has it may have been read before.
        self.changed.insert(room, Change { ms: now.ms, lost_at: at });
        if known.is_none() {
            return Vec::new();
        }
        let mut effects = vec![Effect::Unfollow(room), Effect::Reply(ServerFrame::Left { id, room, cause })];
        effects.extend(self.watched.remove(&room).then_some(Effect::Unwatch(room)));
        effects
    }
}

/// The answer to what told nothing to anybody.
fn done(id: Option<u64>, room: Option<Uuid>) -> Effect {
    Effect::Reply(ServerFrame::Done { id, room, seq: None })
}

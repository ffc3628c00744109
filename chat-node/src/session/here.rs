//! What a session does for a user who is here: sends, and the rooms that are gained and lost.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    SessionLimits,
    step::{Effect, Now, Request},
};
use crate::{
    event::{Membership, Room, User},
    hub::Notice,
    protocol::{Code, RoomFrame, ServerFrame},
    store::{Append, Content},
};

pub(super) struct Here {
    pub(super) user: User,
    pub(super) expires: u64,
    pub(super) outbox: Option<Uuid>,
    pub(super) rooms: HashSet<Uuid>,
    /// Requests under way that may make the user a member. Until they are done, the hub's notices wait, so that the answer comes
    /// before the room's events.
    pub(super) entering: usize,
    pub(super) deferred: Vec<Notice>,
    /// When rooms were last gained or lost, in milliseconds: a list of all rooms may have been read before.
    pub(super) changed: HashMap<Uuid, i64>,
}

/// How old a list of all rooms can be when it arrives: longer than any statement may take.
pub(super) const LIST_AGE_MS_MAX: i64 = 15_000;

impl Here {
    /// A send that breaks a rule goes to the log as well, as a refusal, because it uses its number up.
    pub(super) fn send(
        &self,
        id: Option<u64>,
        n: i64,
        room: Uuid,
        text: String,
        now: Now,
        limits: &SessionLimits,
    ) -> Vec<Effect> {
        let Some(outbox) = self.outbox else {
            return vec![Effect::Reply(ServerFrame::error(id, Some(n), Code::OutboxMissing).encode())];
        };
        let content = if !self.rooms.contains(&room) {
            Content::Refused(Code::NotAMember)
        } else if text.len() > limits.told.text_bytes {
            Content::Refused(Code::TextTooLong)
        } else if text.contains('\0') {
            Content::Refused(Code::BadText)
        } else if text.trim().is_empty() {
            Content::Refused(Code::EmptyText)
        } else {
            Content::Text(text)
        };
        let (sender, event) = (self.user.clone(), Uuid::nil());
        vec![Effect::Append { id, append: Append { sender, outbox, n, room, content, event, time: now.ms } }]
    }

    pub(super) fn enter(&mut self, request: Request) -> Vec<Effect> {
        self.entering += 1;
        vec![Effect::Ask(request)]
    }

    pub(super) fn notice(&mut self, notice: Notice, now: Now) -> Vec<Effect> {
        match notice {
            Notice::Changed(Membership { room, member: true, .. }) => self.gain(&room, None, false, now),
            Notice::Changed(Membership { room, member: false, .. }) => self.lose(room.id, None, false, now),
            Notice::All(rooms) => {
                self.changed.retain(|_, at| now.ms - *at < LIST_AGE_MS_MAX);
                let listed: HashSet<Uuid> = rooms.iter().map(|room| room.id).collect();
                let lost: Vec<Uuid> =
                    self.rooms.difference(&listed).filter(|room| !self.changed.contains_key(*room)).copied().collect();
                let gained = rooms.iter().filter(|room| !self.changed.contains_key(&room.id)).collect::<Vec<_>>();
                let mut effects = Vec::new();
                lost.into_iter().for_each(|room| effects.extend(self.lose(room, None, false, now)));
                gained.into_iter().for_each(|room| effects.extend(self.gain(room, None, false, now)));
                effects
            }
        }
    }

    /// The user is in a room now. Told when it is new or when it was asked for.
    pub(super) fn gain(&mut self, room: &Room, id: Option<u64>, asked: bool, now: Now) -> Vec<Effect> {
        let new = self.rooms.insert(room.id);
        let mut effects = Vec::new();
        if new || asked {
            let frame = ServerFrame::Room { id, room: RoomFrame::new(room, &self.user, None) };
            effects.push(Effect::Reply(frame.encode()));
        }
        if new {
            self.changed.insert(room.id, now.ms);
            effects.push(Effect::Follow(vec![(room.id, room.head)]));
        }
        effects
    }

    pub(super) fn lose(&mut self, room: Uuid, id: Option<u64>, asked: bool, now: Now) -> Vec<Effect> {
        let had = self.rooms.remove(&room);
        let mut effects = Vec::new();
        if had {
            self.changed.insert(room, now.ms);
            effects.push(Effect::Unfollow(room));
        }
        if had || asked {
            effects.push(Effect::Reply(ServerFrame::Left { id, room }.encode()));
        }
        effects
    }
}

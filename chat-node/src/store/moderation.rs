//! Keeping order in a room: topic, invitations, removal, bans, mutes, roles.
//!
//! Who may is decided by [`crate::rights`]; here it is looked up under the room's lock and carried out.

use uuid::Uuid;

use super::{
    Changed, StoreError, StoreLimits, messages,
    rooms::{Change, Draft, check_room_count, record},
    statements::{LifeTransaction, Sanction},
};
use crate::{
    event::{Details, FOREVER, Kind, Role, Room, RoomKind, Standing, User},
    protocol::{Code, Command},
    rights::{self, Action},
};

/// A member who acts in a locked room.
pub(super) struct Acting<'a> {
    pub user: &'a User,
    pub standing: Standing,
    pub room: Room,
    /// How many members the room has.
    pub members: i32,
    pub now_ms: i64,
}

impl<'a> Acting<'a> {
    /// Locks the room and looks up how the user stands there.
    pub(super) async fn enter(
        tx: &mut dyn LifeTransaction,
        user: &'a User,
        room: Uuid,
        now_ms: i64,
    ) -> Result<Acting<'a>, StoreError> {
        let (room, members) = tx.room(room).await?.ok_or(StoreError::Refused(Code::UnknownRoom))?;
        let standing = tx.standing(room.id, user).await?.ok_or(StoreError::Refused(outsider(room.kind)))?;
        Ok(Acting { user, standing, room, members, now_ms })
    }

    /// Whether the member may do this here and now.
    pub(super) fn check(&self, action: Action) -> Result<(), StoreError> {
        if !rights::may(self.room.kind, self.standing.role, action) {
            Err(StoreError::Refused(Code::NotAllowed))
        } else if action.speaks() && self.standing.is_muted(self.now_ms) {
            Err(StoreError::Refused(Code::Muted))
        } else {
            Ok(())
        }
    }

    /// Whether the member may act against somebody who stands so.
    fn check_against(&self, other: Standing) -> Result<(), StoreError> {
        if rights::outranks(self.standing.role, other.role) {
            Ok(())
        } else {
            Err(StoreError::Refused(Code::NotAllowed))
        }
    }
}

/// What somebody is told who is not a member: a private room does not exist for others.
pub(super) fn outsider(kind: RoomKind) -> Code {
    if kind == RoomKind::Public { Code::NotAMember } else { Code::UnknownRoom }
}

/// Nothing had to be done.
pub(super) fn unchanged(room: Room) -> Changed {
    Changed { room, events: Vec::new(), memberships: Vec::new() }
}

/// Carries a command out.
pub(super) async fn carry_out(
    tx: &mut dyn LifeTransaction,
    user: &User,
    command: &Command,
    now_ms: i64,
    limits: StoreLimits,
) -> Result<Changed, StoreError> {
    let acting = Acting::enter(tx, user, command.room(), now_ms).await?;
    let until = |seconds: &Option<u64>| {
        seconds.map_or(FOREVER, |seconds| now_ms.saturating_add_unsigned(seconds.saturating_mul(1_000)))
    };
    match command {
        Command::Edit { target, text, .. } => messages::edit(tx, acting, *target, text).await,
        Command::Delete { target, .. } => messages::delete(tx, acting, *target).await,
        Command::React { target, reaction, .. } => messages::react(tx, acting, *target, reaction, true).await,
        Command::Unreact { target, reaction, .. } => messages::react(tx, acting, *target, reaction, false).await,
        Command::SetTopic { topic, .. } => set_topic(tx, acting, topic).await,
        Command::Invite { user, .. } => invite(tx, acting, &User::from(&**user), limits).await,
        Command::Kick { user, .. } => kick(tx, acting, &User::from(&**user)).await,
        Command::Ban { user, seconds, .. } => ban(tx, acting, &User::from(&**user), until(seconds)).await,
        Command::Unban { user, .. } => unban(tx, acting, &User::from(&**user)).await,
        Command::Mute { user, seconds, .. } => mute(tx, acting, &User::from(&**user), until(seconds)).await,
        Command::Unmute { user, .. } => mute(tx, acting, &User::from(&**user), 0).await,
        Command::SetRole { user, role, .. } => set_role(tx, acting, &User::from(&**user), *role).await,
    }
}

async fn set_topic(tx: &mut dyn LifeTransaction, acting: Acting<'_>, topic: &str) -> Result<Changed, StoreError> {
    acting.check(Action::SetTopic)?;
    let topic = Some(topic.trim()).filter(|topic| !topic.is_empty());
    if acting.room.topic.as_deref() == topic {
        return Ok(unchanged(acting.room));
    }
    tx.set_topic(acting.room.id, topic).await?;
    let draft = Draft { text: topic.map(str::to_owned), ..Draft::new(Kind::Topic, acting.user) };
    record(tx, acting.room, vec![draft], Vec::new(), acting.now_ms).await
}

async fn invite(
    tx: &mut dyn LifeTransaction,
    acting: Acting<'_>,
    guest: &User,
    limits: StoreLimits,
) -> Result<Changed, StoreError> {
    acting.check(Action::Invite)?;
    if tx.standing(acting.room.id, guest).await?.is_some() {
        return Ok(unchanged(acting.room));
    }
    if !tx.user_exists(guest).await? {
        return Err(StoreError::Refused(Code::UnknownUser));
    }
    if usize::try_from(acting.members).is_ok_and(|members| members >= limits.members_per_room_max) {
        return Err(StoreError::Refused(Code::RoomFull));
    }
    check_room_count(tx, guest, limits).await?;
    let standing = admit(tx, &acting.room, guest, Role::Member, acting.now_ms).await?;
    let change = Change::member(guest, standing);
    record(tx, acting.room, vec![Draft::about(Kind::Invited, acting.user, guest)], vec![change], acting.now_ms).await
}

/// Makes a member the owner, who is not muted in a room of their own, for nobody could lift that.
async fn own(tx: &mut dyn LifeTransaction, room: Uuid, user: &User) -> Result<Standing, StoreError> {
    let sanction = tx.sanction(room, user).await?;
    if sanction.muted_until != 0 {
        tx.set_sanction(room, user, Sanction { muted_until: 0, ..sanction }).await?;
    }
    let standing = Standing { role: Role::Owner, muted_until: 0 };
    tx.set_standing(room, user, standing).await?;
    Ok(standing)
}

/// Adds a member, under the sanctions that hold against that user.
pub(super) async fn admit(
    tx: &mut dyn LifeTransaction,
    room: &Room,
    user: &User,
    role: Role,
    now_ms: i64,
) -> Result<Standing, StoreError> {
    let Sanction { banned_until, muted_until } = tx.sanction(room.id, user).await?;
    if now_ms < banned_until {
        return Err(StoreError::Refused(Code::Banned));
    }
    tx.add_member(room, user, role, now_ms).await?;
    if role == Role::Owner {
        return own(tx, room.id, user).await;
    }
    let standing = Standing { role, muted_until: if now_ms < muted_until { muted_until } else { 0 } };
    if standing.muted_until != 0 {
        tx.set_standing(room.id, user, standing).await?;
    }
    Ok(standing)
}

async fn kick(tx: &mut dyn LifeTransaction, acting: Acting<'_>, user: &User) -> Result<Changed, StoreError> {
    acting.check(Action::Kick)?;
    let other = tx.standing(acting.room.id, user).await?.ok_or(StoreError::Refused(Code::UnknownMember))?;
    acting.check_against(other)?;
    tx.remove_member(acting.room.id, user).await?;
    let change = Change::gone(user, Some(Kind::Kicked));
    record(tx, acting.room, vec![Draft::about(Kind::Kicked, acting.user, user)], vec![change], acting.now_ms).await
}

async fn ban(tx: &mut dyn LifeTransaction, acting: Acting<'_>, user: &User, until: i64) -> Result<Changed, StoreError> {
    acting.check(Action::Ban)?;
    let room = acting.room.id;
    let member = tx.standing(room, user).await?;
    acting.check_against(member.unwrap_or_default())?;
    if member.is_none() && !tx.user_exists(user).await? {
        return Err(StoreError::Refused(Code::UnknownUser));
    }
    let sanction = tx.sanction(room, user).await?;
    if member.is_none() && sanction.banned_until == until {
        return Ok(unchanged(acting.room));
    }
    tx.set_sanction(room, user, Sanction { banned_until: until, ..sanction }).await?;
    let changes = match tx.remove_member(room, user).await? {
        true => vec![Change::gone(user, Some(Kind::Banned))],
        false => Vec::new(),
    };
    let draft = Draft::about(Kind::Banned, acting.user, user).until(until);
    record(tx, acting.room, vec![draft], changes, acting.now_ms).await
}

async fn unban(tx: &mut dyn LifeTransaction, acting: Acting<'_>, user: &User) -> Result<Changed, StoreError> {
    acting.check(Action::Ban)?;
    let sanction = tx.sanction(acting.room.id, user).await?;
    if sanction.banned_until <= acting.now_ms {
        return Ok(unchanged(acting.room));
    }
    tx.set_sanction(acting.room.id, user, Sanction { banned_until: 0, ..sanction }).await?;
    record(tx, acting.room, vec![Draft::about(Kind::Unbanned, acting.user, user)], Vec::new(), acting.now_ms).await
}

/// Mutes a member until some time; 0 lifts it.
async fn mute(
    tx: &mut dyn LifeTransaction,
    acting: Acting<'_>,
    user: &User,
    until: i64,
) -> Result<Changed, StoreError> {
    acting.check(Action::Mute)?;
    let room = acting.room.id;
    let other = tx.standing(room, user).await?.ok_or(StoreError::Refused(Code::UnknownMember))?;
    acting.check_against(other)?;
    if other.muted_until == until || (until == 0 && !other.is_muted(acting.now_ms)) {
        return Ok(unchanged(acting.room));
    }
    let sanction = tx.sanction(room, user).await?;
    tx.set_sanction(room, user, Sanction { muted_until: until, ..sanction }).await?;
    let standing = Standing { muted_until: until, ..other };
    tx.set_standing(room, user, standing).await?;
    let kind = if until == 0 { Kind::Unmuted } else { Kind::Muted };
    let draft = Draft::about(kind, acting.user, user).until(until);
    record(tx, acting.room, vec![draft], vec![Change::member(user, standing)], acting.now_ms).await
}

/// Gives a role. The owner gives the ownership away with it, and stays as a moderator.
async fn set_role(
    tx: &mut dyn LifeTransaction,
    acting: Acting<'_>,
    user: &User,
    role: Role,
) -> Result<Changed, StoreError> {
    acting.check(Action::SetRole)?;
    let room = acting.room.id;
    let other = tx.standing(room, user).await?.ok_or(StoreError::Refused(Code::UnknownMember))?;
    if other.role == role {
        return Ok(unchanged(acting.room));
    }
    acting.check_against(other)?;
    let standing = match role {
        Role::Owner => own(tx, room, user).await?,
        role => {
            let standing = Standing { role, ..other };
            tx.set_standing(room, user, standing).await?;
            standing
        }
    };
    let mut drafts = vec![Draft::about(Kind::Role, acting.user, user).role(role)];
    let mut changes = vec![Change::member(user, standing)];
    if role == Role::Owner {
        let own = Standing { role: Role::Moderator, ..acting.standing };
        tx.set_standing(room, acting.user, own).await?;
        drafts.push(Draft::about(Kind::Role, acting.user, acting.user).role(Role::Moderator));
        changes.push(Change::member(acting.user, own));
    }
    record(tx, acting.room, drafts, changes, acting.now_ms).await
}

/// Hands the ownership of a room on when its owner leaves it: tells to whom, and how that one stands then.
pub(super) async fn succeed(tx: &mut dyn LifeTransaction, room: Uuid) -> Result<Option<(User, Standing)>, StoreError> {
    let Some(successor) = tx.successor(room).await? else { return Ok(None) };
    let standing = own(tx, room, &successor).await?;
    Ok(Some((successor, standing)))
}

impl Draft {
    /// An event that happened to somebody.
    pub(super) fn about(kind: Kind, sender: &User, user: &User) -> Draft {
        let details = Details { user: Some(user.clone()), ..Details::default() };
        Draft { details, ..Draft::new(kind, sender) }
    }

    fn until(mut self, until: i64) -> Draft {
        self.details.until = (0 < until && until < FOREVER).then_some(until);
        self
    }

    pub(super) fn role(mut self, role: Role) -> Draft {
        self.details.role = Some(role);
        self
    }
}

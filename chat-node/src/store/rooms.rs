//! Rooms and members: who comes and goes, and which events tell of it.
//!
//! Written once over the few statements that a store's transaction offers. The room's row is locked before its log or its
//! members change, so that the log has one order and no holes.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Changed, Head, StoreError, StoreLimits, direct_key,
    moderation::{Acting, admit, succeed, unchanged},
    statements::LifeTransaction,
};
use crate::{
    event::{Details, EventBody, Kind, Membership, Role, Room, RoomKind, Standing, User},
    protocol::{Code, RoomReference},
};

/// A transaction, as far as rooms need it.
#[async_trait]
pub(super) trait RoomTransaction: Send {
    /// Reads and locks a room; tells how many members it has.
    async fn room(&mut self, id: Uuid) -> Result<Option<(Room, i32)>, StoreError>;
    /// The public room of a name.
    async fn room_named(&mut self, name: &str) -> Result<Option<Uuid>, StoreError>;
    /// The direct room of a key.
    async fn room_direct(&mut self, key: &str) -> Result<Option<Uuid>, StoreError>;
    /// Inserts a room. `false` when its name or key is taken.
    async fn insert_room(&mut self, room: &Room, key: Option<&str>, now_ms: i64) -> Result<bool, StoreError>;
    /// Whether somebody of this name was ever here.
    async fn user_exists(&mut self, user: &str) -> Result<bool, StoreError>;
    /// How many rooms the user is in.
    async fn rooms_of(&mut self, user: &str) -> Result<RoomCounts, StoreError>;
    /// Adds a member, who has read what there is. `false` when it was one.
    async fn add_member(&mut self, room: &Room, user: &str, role: Role, now_ms: i64) -> Result<bool, StoreError>;
    /// Removes a member. `false` when it was none.
    async fn remove_member(&mut self, room: Uuid, user: &str) -> Result<bool, StoreError>;
    /// Adds an event to the log and advances the head.
    async fn log(&mut self, event: &EventBody) -> Result<(), StoreError>;
    /// Tells other nodes, once this is committed.
    async fn announce(&mut self, heads: &[Head], users: &[&User]) -> Result<(), StoreError>;
}

/// How many rooms a user is in. Each count has the limit for itself: a direct room cannot be left, so strangers who open one after the
/// other must neither keep the user from rooms nor from opening direct rooms.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct RoomCounts {
    /// Public and private ones.
    rooms: i64,
    /// Direct ones that the user has opened.
    opened: i64,
    /// Direct ones that others have opened.
    opened_by_others: i64,
}

/// Counts the rooms of a user, for [`RoomCounts`].
pub(super) const COUNT_ROOMS: &str = "SELECT count(*) FILTER (WHERE kind <> 2) AS rooms,
        count(*) FILTER (WHERE kind = 2 AND first = $1) AS opened,
        count(*) FILTER (WHERE kind = 2 AND first <> $1) AS opened_by_others
    FROM members JOIN rooms ON rooms.id = members.room WHERE member = $1";

/// Makes a public or a private room, which belongs to its first member.
pub(super) async fn create(
    tx: &mut dyn LifeTransaction,
    user: &User,
    name: &str,
    kind: RoomKind,
    now_ms: i64,
    limits: StoreLimits,
) -> Result<Changed, StoreError> {
    check_room_count(tx, user, limits).await?;
    let room = new_room(kind, Some(name.to_owned()), None);
    if !tx.insert_room(&room, None, now_ms).await? {
        return Err(StoreError::Refused(Code::RoomExists));
    }
    tx.add_member(&room, user, Role::Owner, now_ms).await?;
    let drafts = vec![Draft::new(Kind::Created, user), Draft::new(Kind::Joined, user)];
    let standing = Standing { role: Role::Owner, muted_until: 0 };
    record(tx, room, drafts, vec![Change::member(user, standing)], now_ms).await
}

/// Makes the user a member of a public room. For a member nothing changes. A room that everybody has left belongs to whoever comes
/// first.
pub(super) async fn join(
    tx: &mut dyn LifeTransaction,
    user: &User,
    reference: &RoomReference,
    now_ms: i64,
    limits: StoreLimits,
) -> Result<Changed, StoreError> {
    let id = match reference {
        RoomReference::Id(id) => *id,
        RoomReference::Name(name) => tx.room_named(name).await?.ok_or(StoreError::Refused(Code::UnknownRoom))?,
    };
    let (room, members) = tx.room(id).await?.ok_or(StoreError::Refused(Code::UnknownRoom))?;
    if tx.standing(id, user).await?.is_some() {
        return Ok(unchanged(room));
    }
    if room.kind != RoomKind::Public {
        // For others it does not exist.
        return Err(StoreError::Refused(Code::UnknownRoom));
    }
    if usize::try_from(members).is_ok_and(|members| members >= limits.members_per_room_max) {
        return Err(StoreError::Refused(Code::RoomFull));
    }
    check_room_count(tx, user, limits).await?;
    let role = if members == 0 { Role::Owner } else { Role::Member };
    let standing = admit(tx, &room, user, role, now_ms).await?;
    let mut drafts = vec![Draft::new(Kind::Joined, user)];
    if role == Role::Owner {
        drafts.push(Draft::about(Kind::Role, user, user).role(role));
    }
    record(tx, room, drafts, vec![Change::member(user, standing)], now_ms).await
}

/// Ends the user's membership. An owner who leaves hands the room on.
pub(super) async fn leave(
    tx: &mut dyn LifeTransaction,
    user: &User,
    id: Uuid,
    now_ms: i64,
) -> Result<Changed, StoreError> {
    let acting = Acting::enter(tx, user, id, now_ms).await?;
    if acting.room.kind == RoomKind::Direct {
        return Err(StoreError::Refused(Code::NotAllowed));
    }
    tx.remove_member(id, user).await?;
    let (mut drafts, mut changes) = (vec![Draft::new(Kind::Left, user)], vec![Change::gone(user, None)]);
    if acting.standing.role == Role::Owner
        && let Some((heir, standing)) = succeed(tx, id).await?
    {
        drafts.push(Draft::about(Kind::Role, user, &heir).role(Role::Owner));
        changes.push(Change::member(&heir, standing));
    }
    record(tx, acting.room, drafts, changes, now_ms).await
}

/// Finds or makes the direct room of two users.
pub(super) async fn direct(
    tx: &mut dyn LifeTransaction,
    user: &User,
    other: &User,
    now_ms: i64,
    limits: StoreLimits,
) -> Result<Changed, StoreError> {
    let key = direct_key(user, other);
    if let Some(found) = find_direct(tx, &key).await? {
        return Ok(found);
    }
    if !tx.user_exists(other).await? {
        return Err(StoreError::Refused(Code::UnknownUser));
    }
    check_count(tx.rooms_of(user).await?.opened, limits)?;
    if user != other {
        check_count(tx.rooms_of(other).await?.opened_by_others, limits)?;
    }
    let room = new_room(RoomKind::Direct, None, Some((user.clone(), other.clone())));
    if !tx.insert_room(&room, Some(&key), now_ms).await? {
        // The other one was faster; the insertion waited for that commit.
        return find_direct(tx, &key).await?.ok_or(StoreError::Refused(Code::Unavailable));
    }
    let both: &[&User] = if user == other { &[user] } else { &[user, other] };
    for member in both {
        tx.add_member(&room, member, Role::Member, now_ms).await?;
    }
    let changes = both.iter().map(|member| Change::member(member, Standing::default())).collect();
    record(tx, room, vec![Draft::new(Kind::Created, user)], changes, now_ms).await
}

async fn find_direct(tx: &mut dyn LifeTransaction, key: &str) -> Result<Option<Changed>, StoreError> {
    let Some(id) = tx.room_direct(key).await? else { return Ok(None) };
    let found = tx.room(id).await?;
    Ok(found.map(|(room, _)| unchanged(room)))
}

/// Whether the user may be in one more room.
pub(super) async fn check_room_count(
    tx: &mut dyn LifeTransaction,
    user: &str,
    limits: StoreLimits,
) -> Result<(), StoreError> {
    check_count(tx.rooms_of(user).await?.rooms, limits)
}

fn check_count(rooms: i64, limits: StoreLimits) -> Result<(), StoreError> {
    if usize::try_from(rooms).is_ok_and(|rooms| rooms >= limits.rooms_per_user_max) {
        return Err(StoreError::Refused(Code::TooManyRooms));
    }
    Ok(())
}

fn new_room(kind: RoomKind, name: Option<String>, pair: Option<(User, User)>) -> Room {
    Room { id: Uuid::now_v7(), kind, name, pair, topic: None, epoch: 1, head: 0 }
}

/// An event that has no place yet.
pub(super) struct Draft {
    pub kind: Kind,
    pub sender: User,
    pub text: Option<String>,
    pub details: Details,
}

impl Draft {
    /// An event that tells of nothing but its kind and sender.
    pub(super) fn new(kind: Kind, sender: &User) -> Draft {
        Draft { kind, sender: sender.clone(), text: None, details: Details::default() }
    }
}

/// Somebody's place in a room is another one now.
pub(super) struct Change {
    user: User,
    /// `None` for a member no more.
    standing: Option<Standing>,
    /// What ended the membership, when it was not the user.
    cause: Option<Kind>,
}

impl Change {
    /// The user is a member who stands so.
    pub(super) fn member(user: &User, standing: Standing) -> Change {
        Change { user: user.clone(), standing: Some(standing), cause: None }
    }

    /// The user is a member no more.
    pub(super) fn gone(user: &User, cause: Option<Kind>) -> Change {
        Change { user: user.clone(), standing: None, cause }
    }
}

/// Writes events to the log of a locked room, and tells of them.
pub(super) async fn record(
    tx: &mut dyn LifeTransaction,
    room: Room,
    drafts: Vec<Draft>,
    changes: Vec<Change>,
    now_ms: i64,
) -> Result<Changed, StoreError> {
    let mut events = Vec::with_capacity(drafts.len());
    for (seq, Draft { kind, sender, text, details }) in (room.head + 1..).zip(drafts) {
        let (id, time, details) = (Uuid::now_v7(), now_ms, details.boxed());
        let event = EventBody { room: room.id, epoch: room.epoch, seq, id, kind, sender, time, text, details };
        tx.log(&event).await?;
        events.push(event.encode());
    }
    let users: Vec<&User> = changes.iter().map(|change| &change.user).collect();
    tx.announce(&[Head { room: room.id, epoch: room.epoch, seq: room.head + events.len() as i64 }], &users).await?;
    let membership = |Change { user, standing, cause }| Membership {
        user,
        room: room.clone(),
        member: standing.is_some(),
        standing: standing.unwrap_or_default(),
        cause,
    };
    let memberships = changes.into_iter().map(membership).collect();
    Ok(Changed { room, events, memberships })
}

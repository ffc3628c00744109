//! Rooms and members: who may do what, and which events tell of it.
//!
//! Written once over the few statements that a store's transaction offers. The room's row is locked before its log or its
//! members change, so that the log has one order and no holes.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Changed, Head, StoreError, StoreLimits, direct_key};
use crate::{
    event::{EventBody, Kind, Membership, Room, RoomKind, User},
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
    async fn rooms_of(&mut self, user: &str) -> Result<i64, StoreError>;
    /// Adds a member. `false` when it was one.
    async fn add_member(&mut self, room: Uuid, user: &str) -> Result<bool, StoreError>;
    /// Removes a member. `false` when it was none.
    async fn remove_member(&mut self, room: Uuid, user: &str) -> Result<bool, StoreError>;
    /// Adds an event to the log and advances the head.
    async fn log(&mut self, event: &EventBody) -> Result<(), StoreError>;
    /// Tells other nodes, once this is committed.
    async fn announce(&mut self, heads: &[Head], users: &[&User]) -> Result<(), StoreError>;
}

/// Makes a public room with its first member.
pub(super) async fn create(
    tx: &mut dyn RoomTransaction,
    user: &User,
    name: &str,
    now_ms: i64,
    limits: StoreLimits,
) -> Result<Changed, StoreError> {
    check_room_count(tx, user, limits).await?;
    let room = new_room(RoomKind::Public, Some(name.to_owned()), None);
    if !tx.insert_room(&room, None, now_ms).await? {
        return Err(StoreError::Refused(Code::RoomExists));
    }
    tx.add_member(room.id, user).await?;
    record(tx, room, &[(Kind::Created, user), (Kind::Joined, user)], &[user], true, now_ms).await
}

/// Makes the user a member of a public room. For a member nothing changes.
pub(super) async fn join(
    tx: &mut dyn RoomTransaction,
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
    if let Some((first, second)) = &room.pair {
        // The two are members from the start, and for others the room does not exist.
        return if user == first || user == second {
            Ok(Changed { room, events: Vec::new(), memberships: Vec::new() })
        } else {
            Err(StoreError::Refused(Code::UnknownRoom))
        };
    }
    if !tx.add_member(id, user).await? {
        return Ok(Changed { room, events: Vec::new(), memberships: Vec::new() });
    }
    if usize::try_from(members).is_ok_and(|members| members >= limits.members_per_room_max) {
        return Err(StoreError::Refused(Code::RoomFull));
    }
    // Counted after the insertion, so one more than the limit is one too many.
    if usize::try_from(tx.rooms_of(user).await?).is_ok_and(|rooms| rooms > limits.rooms_per_user_max) {
        return Err(StoreError::Refused(Code::TooManyRooms));
    }
    record(tx, room, &[(Kind::Joined, user)], &[user], true, now_ms).await
}

/// Ends the user's membership of a public room.
pub(super) async fn leave(
    tx: &mut dyn RoomTransaction,
    user: &User,
    id: Uuid,
    now_ms: i64,
) -> Result<Changed, StoreError> {
    let (room, _) = tx.room(id).await?.ok_or(StoreError::Refused(Code::UnknownRoom))?;
    if room.kind == RoomKind::Direct || !tx.remove_member(id, user).await? {
        return Err(StoreError::Refused(Code::NotAMember));
    }
    record(tx, room, &[(Kind::Left, user)], &[user], false, now_ms).await
}

/// Finds or makes the direct room of two users.
pub(super) async fn direct(
    tx: &mut dyn RoomTransaction,
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
    check_room_count(tx, user, limits).await?;
    let room = new_room(RoomKind::Direct, None, Some((user.clone(), other.clone())));
    if !tx.insert_room(&room, Some(&key), now_ms).await? {
        // The other one was faster; the insertion waited for that commit.
        return find_direct(tx, &key).await?.ok_or(StoreError::Refused(Code::Unavailable));
    }
    let both: &[&User] = if user == other { &[user] } else { &[user, other] };
    for member in both {
        tx.add_member(room.id, member).await?;
    }
    record(tx, room, &[(Kind::Created, user)], both, true, now_ms).await
}

async fn find_direct(tx: &mut dyn RoomTransaction, key: &str) -> Result<Option<Changed>, StoreError> {
    let Some(id) = tx.room_direct(key).await? else { return Ok(None) };
    let found = tx.room(id).await?;
    Ok(found.map(|(room, _)| Changed { room, events: Vec::new(), memberships: Vec::new() }))
}

async fn check_room_count(tx: &mut dyn RoomTransaction, user: &str, limits: StoreLimits) -> Result<(), StoreError> {
    let rooms = tx.rooms_of(user).await?;
    if usize::try_from(rooms).is_ok_and(|rooms| rooms >= limits.rooms_per_user_max) {
        return Err(StoreError::Refused(Code::TooManyRooms));
    }
    Ok(())
}

fn new_room(kind: RoomKind, name: Option<String>, pair: Option<(User, User)>) -> Room {
    Room { id: Uuid::now_v7(), kind, name, pair, epoch: 1, head: 0 }
}

/// Writes events to the log of a locked room, and tells of them.
async fn record(
    tx: &mut dyn RoomTransaction,
    room: Room,
    kinds: &[(Kind, &User)],
    changed: &[&User],
    member: bool,
    now_ms: i64,
) -> Result<Changed, StoreError> {
    let mut events = Vec::with_capacity(kinds.len());
    for (seq, (kind, sender)) in (room.head + 1..).zip(kinds) {
        let event = EventBody {
            room: room.id,
            epoch: room.epoch,
            seq,
            id: Uuid::now_v7(),
            kind: *kind,
            sender: (*sender).clone(),
            time: now_ms,
            text: None,
        };
        tx.log(&event).await?;
        events.push(event.encode());
    }
    tx.announce(&[Head { room: room.id, seq: room.head + events.len() as i64 }], changed).await?;
    let memberships =
        changed.iter().map(|user| Membership { user: (*user).clone(), room: room.clone(), member }).collect();
    Ok(Changed { room, events, memberships })
}

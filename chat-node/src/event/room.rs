//! Rooms, and people's places in them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Kind, Seq, User};

/// Sort of a room. The numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[repr(i16)]
pub enum RoomKind {
    /// Anyone may join; the name is unique.
    #[default]
    Public = 1,
    /// Two people; there is one such room for each two.
    Direct = 2,
    /// A group: whoever is invited is in it, and for others it does not exist.
    Private = 3,
}

impl RoomKind {
    /// The kind of a stored number. A kind of a newer version of the node is one that nobody can join.
    pub fn from_number(number: i16) -> RoomKind {
        let known = [RoomKind::Public, RoomKind::Direct, RoomKind::Private];
        known.into_iter().find(|kind| *kind as i16 == number).unwrap_or(RoomKind::Private)
    }
}

/// What a member may do in a room; see [`crate::rights`]. The numbers are stored, and the order is that of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[repr(i16)]
pub enum Role {
    /// Talks.
    #[default]
    Member = 1,
    /// Keeps order.
    Moderator = 2,
    /// The one whom the room belongs to.
    Owner = 3,
}

impl Role {
    /// The role of a stored number; one of a newer version of the node counts as a member.
    pub fn from_number(number: i16) -> Role {
        let known = [Role::Member, Role::Moderator, Role::Owner];
        known.into_iter().find(|role| *role as i16 == number).unwrap_or_default()
    }
}

/// Until when something holds that holds until it is lifted.
pub const FOREVER: i64 = i64::MAX;

/// How a member stands in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The role.
    pub role: Role,
    /// Until when the member may not write, in milliseconds since 1970 UTC; 0 for never, or [`FOREVER`].
    pub muted_until: i64,
}

impl Standing {
    /// Whether the member may not write at this time.
    pub fn is_muted(&self, now_ms: i64) -> bool {
        now_ms < self.muted_until
    }
}

/// A room, as its members see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its id.
    pub id: Uuid,
    /// Its sort.
    pub kind: RoomKind,
    /// The name; a direct room has none.
    pub name: Option<String>,
    /// The two people of a direct room.
    pub pair: Option<(User, User)>,
    /// What it is about.
    #[serde(default)]
    pub topic: Option<String>,
    /// The epoch of its log.
    pub epoch: i32,
    /// The position of its latest event.
    pub head: Seq,
}

impl Room {
    /// The other person of a direct room.
    pub fn with(&self, user: &str) -> Option<&User> {
        let (first, second) = self.pair.as_ref()?;
        Some(if &**first == user { second } else { first })
    }
}

/// A room with a user's place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The room.
    pub room: Room,
    /// How the user stands.
    pub standing: Standing,
    /// How far the user has read.
    pub read: Seq,
    /// The position of the first event that is kept.
    pub first: Seq,
}

/// Someone became a member, is one no more, or stands otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Who.
    pub user: User,
    /// The room; its head is the position just before the change.
    pub room: Room,
    /// Whether the user is a member now.
    pub member: bool,
    /// How the user stands, as a member.
    #[serde(default)]
    pub standing: Standing,
    /// What ended the membership, when it was somebody else's doing.
    #[serde(default)]
    pub cause: Option<Kind>,
}

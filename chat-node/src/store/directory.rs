//! What is read in pages: a user's rooms, a room's members, the public rooms.
//!
//! A page begins behind the last row of the one before, so that what changes meanwhile neither repeats nor hides a row. No page
//! takes a lock.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Member, StoreError};
use crate::event::Seat;

/// A public room, as whoever looks for one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// How many members it has.
    pub members: i32,
}

/// Reads in pages. `limit` is at least 1.
#[async_trait]
pub trait Directory {
    /// Notes that the user was here, so that others can find the user.
    async fn note_user(&self, user: &str, now_ms: i64) -> Result<(), StoreError>;

    /// The room, if the user is a member of it.
    async fn room_of(&self, user: &str, room: Uuid) -> Result<Option<Seat>, StoreError>;

    /// The user's rooms by their ids, from behind `after` on.
    async fn rooms_of(&self, user: &str, after: Option<Uuid>, limit: usize) -> Result<Vec<Seat>, StoreError>;

    /// A room's members by their names, from behind `after` on.
    async fn members(&self, room: Uuid, after: &str, limit: usize) -> Result<Vec<Member>, StoreError>;

    /// The public rooms whose names begin with `prefix`, by their names, from behind `after` on.
    async fn directory(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, StoreError>;
}

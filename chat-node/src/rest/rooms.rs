//! Rooms and their members.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Rest,
    ask::{ask, ask_in},
    caller::Caller,
    input::{At, Body, Name, Parameters},
    page::{self, Limit},
    problem::{Problem, Reason},
};
use crate::{
    event::{RoomKind, Seat},
    gateway::{Gateway, now_ms},
    protocol::{ClientFrame, Code, MemberFrame, RoomFrame, RoomReference},
    store,
};

/// Which page of the rooms.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RoomsPage {
    /// `next` of the page before. Without it: the first page.
    cursor: Option<Uuid>,
    /// Rooms in the page, at most.
    #[serde(default)]
    limit: Limit,
}

/// A page of the caller's rooms, by their ids.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Rooms {
    /// The rooms.
    rooms: Vec<RoomFrame>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

/// `GET /rooms`
pub(super) async fn mine(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    Parameters(asked): Parameters<RoomsPage>,
) -> Result<Json<Rooms>, Problem> {
    let read = rest.gateway.store.rooms_of(&claims.user, asked.cursor, asked.limit.rows()).await?;
    let (rooms, next) = page::cut(read, asked.limit, |seat| seat.room.id);
    Ok(Json(Rooms { rooms: rooms.iter().map(|seat| seen_by(&claims.user, seat)).collect(), next }))
}

/// Which page of the directory.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct DirectoryPage {
    /// What the rooms' names begin with.
    #[serde(default)]
    prefix: Name,
    /// `next` of the page before. Without it: the first page.
    #[serde(default)]
    cursor: Name,
    /// Rooms in the page, at most.
    #[serde(default)]
    limit: Limit,
}

/// A page of the public rooms, by their names.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Directory {
    /// The rooms.
    rooms: Vec<Listed>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A public room, as whoever looks for one sees it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Listed {
    /// Its id.
    id: Uuid,
    /// Its name.
    name: String,
    /// How many members it has.
    members: i32,
}

/// `GET /directory`
pub(super) async fn directory(
    State(rest): State<Arc<Rest>>,
    _: Caller,
    Parameters(asked): Parameters<DirectoryPage>,
) -> Result<Json<Directory>, Problem> {
    let read = rest.gateway.store.directory(&asked.prefix, &asked.cursor, asked.limit.rows()).await?;
    let (rooms, next) = page::cut(read, asked.limit, |room| room.name.clone());
    let rooms = rooms.into_iter().map(|store::Listed { id, name, members }| Listed { id, name, members }).collect();
    Ok(Json(Directory { rooms, next }))
}

/// A room to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewRoom {
    /// Its name, which no other public room has: 1 to 80 characters, one that shows, and no control characters.
    #[cfg_attr(test, schemars(extend("pattern" = super::document::LINE, "maxLength" = 80)))]
    name: String,
    /// `public`, which anyone may join, or `private`, which exists only for whoever is invited.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "NewRoomKind"))]
    kind: RoomKind,
}

/// What sort of room can be made by its name.
#[cfg(test)]
#[derive(Default, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is of use")]
enum NewRoomKind {
    /// Anyone may join.
    #[default]
    Public,
    /// Whoever is invited.
    Private,
}

/// A room within the frame that tells of it.
#[derive(Deserialize)]
struct RoomAnswer {
    room: Box<RawValue>,
}

/// `POST /rooms`
pub(super) async fn create(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    Body(NewRoom { name, kind }): Body<NewRoom>,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Id {
        id: Uuid,
    }
    if kind == RoomKind::Direct {
        return Err(Problem::from(Reason::BadRequest)
            .because("kind is public or private: for two people there is POST /direct"));
    }
    arrive(&rest.gateway, &claims.user).await?;
    let frame = ClientFrame::CreateRoom { id: None, name, kind };
    let RoomAnswer { room } = ask(&rest.gateway, &claims, None, Vec::new(), frame).await?;
    let Id { id } = serde_json::from_str(room.get()).map_err(|error| Problem::internal(&error))?;
    let location = HeaderValue::from_str(&format!("/api/v1/rooms/{id}")).map_err(|error| Problem::internal(&error))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(room)).into_response())
}

/// Someone to talk to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Other {
    /// The other user.
    #[cfg_attr(test, schemars(extend("pattern" = super::document::NO_CONTROL, "maxLength" = 128)))]
    user: String,
}

/// `POST /direct`
pub(super) async fn direct(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    Body(Other { user }): Body<Other>,
) -> Result<Json<Box<RawValue>>, Problem> {
    arrive(&rest.gateway, &claims.user).await?;
    let RoomAnswer { room } =
        ask(&rest.gateway, &claims, None, Vec::new(), ClientFrame::Direct { id: None, user }).await?;
    Ok(Json(room))
}

/// `GET /rooms/{room}`
pub(super) async fn one(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(room): At<Uuid>,
) -> Result<Json<RoomFrame>, Problem> {
    let seat = rest.gateway.store.room_of(&claims.user, room).await?.ok_or(Code::NotAMember)?;
    Ok(Json(seen_by(&claims.user, &seat)))
}

/// A room as its member sees it.
fn seen_by(user: &str, seat: &Seat) -> RoomFrame {
    RoomFrame::new(&seat.room, user, seat.standing, None).read(seat.read)
}

/// `PUT /rooms/{room}/members/me`
pub(super) async fn join(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(room): At<Uuid>,
) -> Result<Json<Box<RawValue>>, Problem> {
    arrive(&rest.gateway, &claims.user).await?;
    let frame = ClientFrame::Join { id: None, room: RoomReference::Id(room) };
    let RoomAnswer { room } = ask(&rest.gateway, &claims, None, Vec::new(), frame).await?;
    Ok(Json(room))
}

/// `DELETE /rooms/{room}/members/me`
pub(super) async fn leave(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(room): At<Uuid>,
) -> Result<StatusCode, Problem> {
    #[derive(Deserialize)]
    struct Left {}
    let Left {} = ask_in(&rest.gateway, &claims, room, ClientFrame::Leave { id: None, room }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which page of the members.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct MembersPage {
    /// `next` of the page before. Without it: the first page.
    #[serde(default)]
    cursor: Name,
    /// Members in the page, at most.
    #[serde(default)]
    limit: Limit,
}

/// A page of a room's members, by their names.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Members {
    /// The members.
    members: Vec<MemberFrame>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /rooms/{room}/members`
pub(super) async fn members(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(room): At<Uuid>,
    Parameters(asked): Parameters<MembersPage>,
) -> Result<Json<Members>, Problem> {
    let store = &rest.gateway.store;
    store.room_of(&claims.user, room).await?.ok_or(Code::NotAMember)?;
    let read = store.members(room, &asked.cursor, asked.limit.rows()).await?;
    let (members, next) = page::cut(read, asked.limit, |member| member.user.to_string());
    let now_ms = now_ms();
    Ok(Json(Members { members: members.iter().map(|member| MemberFrame::new(member, now_ms)).collect(), next }))
}

/// Notes that the user was here, so that others can find whoever only ever used REST.
async fn arrive(gateway: &Gateway, user: &str) -> Result<(), Problem> {
    gateway.store.note_user(user, now_ms()).await?;
    Ok(())
}

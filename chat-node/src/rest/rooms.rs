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
    ask::ask,
    caller::Caller,
    input::{At, Body, Name, Parameters},
    page::{self, Limit},
    problem::Problem,
};
use crate::{
    event::{Role, RoomKind, Seat},
    gateway::Gateway,
    protocol::{ClientFrame, Code, RoomFrame, RoomReference},
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
    let rooms = rooms.iter().map(|seat| RoomFrame::new(&seat.room, &claims.user, seat.standing, None)).collect();
    Ok(Json(Rooms { rooms, next }))
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
    Body(NewRoom { name }): Body<NewRoom>,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Id {
        id: Uuid,
    }
    arrive(&rest.gateway, &claims.user).await?;
    let RoomAnswer { room } = ask(
        &rest.gateway,
        &claims,
        None,
        Vec::new(),
        ClientFrame::CreateRoom { id: None, name, kind: RoomKind::Public },
    )
    .await?;
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
    let Seat { room, standing, .. } = rest.gateway.store.room_of(&claims.user, room).await?.ok_or(Code::NotAMember)?;
    Ok(Json(RoomFrame::new(&room, &claims.user, standing, None)))
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
    let rooms = rest.gateway.store.room_of(&claims.user, room).await?.into_iter().collect();
    let Left {} = ask(&rest.gateway, &claims, None, rooms, ClientFrame::Leave { id: None, room }).await?;
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
    members: Vec<Member>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A member.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Member {
    /// Who.
    user: String,
    /// As what.
    role: Role,
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
    Ok(Json(Members {
        members: members.iter().map(|member| Member { user: member.user.to_string(), role: member.role }).collect(),
        next,
    }))
}

/// Notes that the user was here, so that others can find whoever only ever used REST.
async fn arrive(gateway: &Gateway, user: &str) -> Result<(), Problem> {
    gateway.store.note_user(user, crate::gateway::now_ms()).await?;
    Ok(())
}

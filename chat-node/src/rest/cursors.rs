//! How far the caller has read, and what is left.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Rest,
    ask::{ask, ask_in},
    caller::Caller,
    input::{At, Body, whole},
    problem::Problem,
};
use crate::{event::Seq, protocol::ClientFrame};

/// How far a room was read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Position {
    /// The position of the last event that was read.
    #[serde(deserialize_with = "whole")]
    seq: Seq,
}

/// What is not read, of all rooms where there is something.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct UnreadRooms {
    /// The rooms, by their ids.
    #[cfg_attr(test, schemars(with = "Vec<crate::protocol::UnreadFrame>"))]
    rooms: Vec<Box<RawValue>>,
}

/// `PUT /rooms/{room}/read`
pub(super) async fn read(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(room): At<Uuid>,
    Body(Position { seq }): Body<Position>,
) -> Result<Json<Position>, Problem> {
    #[derive(Deserialize)]
    struct Read {
        seq: Seq,
    }
    let Read { seq } = ask_in(&rest.gateway, &claims, room, ClientFrame::Read { id: None, room, seq }).await?;
    Ok(Json(Position { seq }))
}

/// `GET /unread`
pub(super) async fn unread(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
) -> Result<Json<UnreadRooms>, Problem> {
    Ok(Json(ask(&rest.gateway, &claims, None, Vec::new(), ClientFrame::Unread { id: None }).await?))
}

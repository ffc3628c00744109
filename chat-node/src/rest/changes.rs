//! What changes a room, and enters its log beside messages: the life of a message, the topic, and keeping order among members.
//!
//! Each operation is one of the protocol's commands, and is carried out as that.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Rest,
    ask::ask_in,
    caller::Caller,
    input::{At, Body, Parameters, maybe_whole},
    problem::Problem,
};
use crate::{
    auth::Claims,
    event::{Reference, Role, Seq},
    protocol::{ClientFrame, Command},
};

/// A change that was made.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Changed {
    /// The position of the event that tells of it. Absent when it was so already.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
}

/// The other half of a message's name. A `seq` alone could lead to another message, once a database was set back; and it is no
/// precondition, such as `if-match`, because an edit does not change it.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Target {
    /// The message's event id, as it came with its `seq`.
    event: Uuid,
}

/// Another text of a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewText {
    /// What the message says from now on.
    #[cfg_attr(test, schemars(extend("pattern" = super::document::TEXT)))]
    text: String,
}

/// What a room is about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewTopic {
    /// At most 1,024 bytes; empty for nothing.
    #[cfg_attr(test, schemars(extend("pattern" = super::document::NO_NUL, "maxLength" = 1_024)))]
    topic: String,
}

/// How long a ban or a mute holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Term {
    /// In seconds, at most a hundred years. Without it: until it is lifted.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[cfg_attr(test, schemars(range(min = 1, max = crate::protocol::SANCTION_SECONDS_MAX)))]
    seconds: Option<u64>,
}

/// A role that is to be given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewRole {
    /// The role. Whoever gives `owner` away stays as a moderator.
    role: Role,
}

/// `PATCH /rooms/{room}/messages/{seq}`
pub(super) async fn edit(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, seq)): At<(Uuid, Seq)>,
    Parameters(Target { event }): Parameters<Target>,
    Body(NewText { text }): Body<NewText>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Edit { room, target: Reference { seq, event }, text }).await
}

/// `DELETE /rooms/{room}/messages/{seq}`
pub(super) async fn delete(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, seq)): At<(Uuid, Seq)>,
    Parameters(Target { event }): Parameters<Target>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Delete { room, target: Reference { seq, event } }).await
}

/// `PUT /rooms/{room}/messages/{seq}/reactions/{reaction}`
pub(super) async fn react(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, seq, reaction)): At<(Uuid, Seq, String)>,
    Parameters(Target { event }): Parameters<Target>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::React { room, target: Reference { seq, event }, reaction }).await
}

/// `DELETE /rooms/{room}/messages/{seq}/reactions/{reaction}`
pub(super) async fn unreact(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, seq, reaction)): At<(Uuid, Seq, String)>,
    Parameters(Target { event }): Parameters<Target>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Unreact { room, target: Reference { seq, event }, reaction }).await
}

/// `PUT /rooms/{room}/topic`
pub(super) async fn set_topic(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(room): At<Uuid>,
    Body(NewTopic { topic }): Body<NewTopic>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::SetTopic { room, topic }).await
}

/// `PUT /rooms/{room}/members/{user}`
pub(super) async fn invite(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, user)): At<(Uuid, String)>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Invite { room, user }).await
}

/// `DELETE /rooms/{room}/members/{user}`
pub(super) async fn kick(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, user)): At<(Uuid, String)>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Kick { room, user }).await
}

/// `PUT /rooms/{room}/members/{user}/role`
pub(super) async fn set_role(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, user)): At<(Uuid, String)>,
    Body(NewRole { role }): Body<NewRole>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::SetRole { room, user, role }).await
}

/// `PUT /rooms/{room}/bans/{user}`
pub(super) async fn ban(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, user)): At<(Uuid, String)>,
    Body(Term { seconds }): Body<Term>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Ban { room, user, seconds }).await
}

/// `DELETE /rooms/{room}/bans/{user}`
pub(super) async fn unban(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, user)): At<(Uuid, String)>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Unban { room, user }).await
}

/// `PUT /rooms/{room}/mutes/{user}`
pub(super) async fn mute(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, user)): At<(Uuid, String)>,
    Body(Term { seconds }): Body<Term>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Mute { room, user, seconds }).await
}

/// `DELETE /rooms/{room}/mutes/{user}`
pub(super) async fn unmute(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((room, user)): At<(Uuid, String)>,
) -> Result<Json<Changed>, Problem> {
    carry_out(&rest, &claims, Command::Unmute { room, user }).await
}

async fn carry_out(rest: &Rest, claims: &Claims, command: Command) -> Result<Json<Changed>, Problem> {
    let room = command.room();
    Ok(Json(ask_in(&rest.gateway, claims, room, ClientFrame::Command { id: None, command }).await?))
}

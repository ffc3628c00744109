//! A room's history, and sending to it.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Rest,
    ask::{ask, ask_in},
    caller::Caller,
    idempotency::key,
    input::{At, Body, Parameters},
    page::Limit,
    problem::Problem,
};
use crate::{
    auth::Scope,
    event::{Event, EventBody, Reference, Seq, User},
    gateway::now_ms,
    protocol::{ClientFrame, Code, HistoryRange},
    store::{Answer, SendKey},
};

/// Which page of the history.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct HistoryPage {
    /// The latest events before this position. With neither this nor `after`: the latest of all.
    before: Option<Seq>,
    /// The first events after this position. Together with `before`: those of them that are before that one.
    after: Option<Seq>,
    /// Events in the page, at most; no page is longer than the service's limit.
    #[serde(default)]
    limit: Limit,
}

/// A page of a room's history, by rising position.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct History {
    /// The epoch of the room's log.
    epoch: i32,
    /// The events, as in docs/protocol.md §5.
    #[cfg_attr(test, schemars(with = "Vec<crate::event::EventFrame<'static>>"))]
    events: Vec<Box<RawValue>>,
    /// How often the page's messages have which reactions; absent when they have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<crate::protocol::TallyFrame>"))]
    reactions: Vec<Box<RawValue>>,
    /// Whether there are further ones in that direction: give the last `seq` as `after`, or the first as `before`.
    more: bool,
}

impl History {
    /// Leaves out the events from this position on.
    fn end_before(&mut self, before: Seq) {
        let is_before = |frame: &str| Event::from_frame(frame).is_ok_and(|event| event.seq < before);
        let within = self.events.iter().take_while(|event| is_before(event.get())).count();
        if within < self.events.len() {
            self.events.truncate(within);
            self.more = false;
        }
    }
}

/// `GET /rooms/{room}/events`
pub(super) async fn history(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(room): At<Uuid>,
    Parameters(asked): Parameters<HistoryPage>,
) -> Result<Json<History>, Problem> {
    let range = match asked.after {
        Some(_) => HistoryRange { before: None, after: asked.after },
        None => HistoryRange { before: asked.before, after: None },
    };
    let frame = ClientFrame::History { id: None, room, range, limit: Some(asked.limit.shown()) };
    let mut history: History = ask_in(&rest.gateway, &claims, room, frame).await?;
    if let (Some(before), Some(_)) = (asked.before, asked.after) {
        history.end_before(before);
    }
    Ok(Json(history))
}

/// A message to be sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewMessage {
    /// Its text.
    #[cfg_attr(test, schemars(extend("pattern" = super::document::TEXT)))]
    text: String,
    /// The message of the room that it replies to.
    reply: Option<Reference>,
    /// The users whom it names, at most `limits.mentions`.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("maxItems" = crate::protocol::MENTIONS_MAX, "items" = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": super::document::NO_CONTROL})))]
    mentions: Vec<String>,
}

/// What became of a send: its place in the room's log, or only that it is durable.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Sent {
    /// The room's epoch. Absent while the message has no place yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<i32>,
    /// Its position. Absent while the message has no place yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
    /// The event's id. Absent while the message has no place yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Uuid>,
    /// When it was taken, in milliseconds since 1970 UTC. Absent while the message has no place yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
}

/// `POST /rooms/{room}/messages`
pub(super) async fn send(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(room): At<Uuid>,
    headers: HeaderMap,
    Body(NewMessage { text, reply, mentions }): Body<NewMessage>,
) -> Result<(StatusCode, Json<Sent>), Problem> {
    // Each key has an outbox of its own, whose only send is number 1. So a repetition finds what the first did, on any node and for as
    // long as results are kept.
    let key = key(&headers)?;
    if let Some(answer) = first_answer(&rest, &claims.user, key).await? {
        return answer;
    }
    let outbox = key.unwrap_or_else(Uuid::new_v4);
    if !claims.rights.allows(Scope::Send) {
        return Err(Code::Forbidden.into());
    }
    let member = rest.gateway.store.room_of(&claims.user, room).await?;
    // Without these a refusal would be stored under the key, and hold after the user has joined, may write or has a better token.
    let member = member.ok_or(Code::NotAMember)?;
    if member.standing.is_muted(now_ms()) {
        return Err(Code::Muted.into());
    }
    let frame = ClientFrame::Send { id: None, n: 1, room, text, reply, mentions };
    let sent: Sent = ask(&rest.gateway, &claims, Some(outbox), vec![member], frame).await?;
    Ok((if sent.seq.is_some() { StatusCode::CREATED } else { StatusCode::ACCEPTED }, Json(sent)))
}

/// What a send under this key was answered with, if there was one. It holds whatever its user may by now: the message is there.
async fn first_answer(
    rest: &Rest,
    user: &User,
    key: Option<Uuid>,
) -> Result<Option<Result<(StatusCode, Json<Sent>), Problem>>, Problem> {
    let Some(outbox) = key else { return Ok(None) };
    let first = SendKey { sender: user.clone(), outbox, n: 1 };
    let answer = rest.gateway.store.outcomes(&[first]).await?.into_iter().flatten().next();
    Ok(answer.map(|answer| match answer {
        Answer::Committed { event: EventBody { epoch, seq, id, time, .. }, .. } => {
            let sent = Sent { epoch: Some(epoch), seq: Some(seq), event: Some(id), time: Some(time) };
            Ok((StatusCode::CREATED, Json(sent)))
        }
        Answer::Refused(code) => Err(code.into()),
        Answer::Gap { .. } | Answer::Forgotten => Err(Code::OutboxForgotten.into()),
    }))
}

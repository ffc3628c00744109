//! Asks on behalf of a user as a connection would that lives for one request: the same [session](crate::session) decides, so a
//! request over REST may what a frame may, no more and no less.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

use super::problem::Problem;
use crate::{
    auth::Claims,
    event::Seat,
    gateway::{Gateway, now_ms},
    protocol::{ClientFrame, Code, Hello},
    session::{Effect, Input, Now, Session},
    store::Arrival,
};

/// A request needs as many turns of its session as it has effects that bring something back: one.
const TURNS_MAX: usize = 4;

/// Asks as `claims.user`, who is known to be in `rooms`, and gives the frame that answers.
///
/// # Errors
/// What an error frame would have told.
pub(super) async fn ask<T: DeserializeOwned>(
    gateway: &Arc<Gateway>,
    claims: &Claims,
    outbox: Option<Uuid>,
    rooms: Vec<Seat>,
    frame: ClientFrame,
) -> Result<T, Problem> {
    let mut session = Session::new(&gateway.node, gateway.session_limits(), None);
    let now = || Now { ms: now_ms() };
    let hello = ClientFrame::Hello(Hello { outbox, ..Hello::default() });
    session.handle(Input::Frame(Ok(hello)), now());
    session.handle(Input::Verified(Ok(claims.clone())), now());
    session.handle(Input::Arrived(Ok(Arrival { rooms, outbox_last: 0, contradicted: Vec::new() })), now());
    let mut effects = session.handle(Input::Frame(Ok(frame)), now());
    for _ in 0..TURNS_MAX {
        let mut next = None;
        for effect in effects {
            match effect {
                Effect::Reply(frame) => return read(&frame.encode()),
                Effect::Append { id, append } => next = Some(gateway.append(id, append).await),
                Effect::Ask(request) => next = Some(gateway.ask(request).await),
                // What would go on after the answer has nobody to go on for.
                _ => {}
            }
        }
        let Some(input) = next else { break };
        effects = session.handle(input, now());
    }
    Err(Problem::internal(&"a session gave no answer"))
}

/// The same, about one room, which the user may be in.
///
/// # Errors
/// Likewise, and when the store is away.
pub(super) async fn ask_in<T: DeserializeOwned>(
    gateway: &Arc<Gateway>,
    claims: &Claims,
    room: Uuid,
    frame: ClientFrame,
) -> Result<T, Problem> {
    let seat = gateway.store.room_of(&claims.user, room).await?;
    ask(gateway, claims, None, seat.into_iter().collect(), frame).await
}

/// What is looked at first in a frame.
#[derive(Deserialize)]
struct Envelope {
    code: Option<String>,
    retry_after_ms: Option<u64>,
}

fn read<T: DeserializeOwned>(frame: &Utf8Bytes) -> Result<T, Problem> {
    let unexpected = |error: serde_json::Error| Problem::internal(&error);
    let Envelope { code, retry_after_ms } = serde_json::from_str(frame).map_err(unexpected)?;
    match code {
        Some(code) => {
            let problem = Problem::from(Code::from_name(&code).unwrap_or(Code::Internal));
            Err(match retry_after_ms {
                Some(ms) => problem.retry_after(Duration::from_millis(ms)),
                None => problem,
            })
        }
        None => serde_json::from_str(frame).map_err(unexpected),
    }
}

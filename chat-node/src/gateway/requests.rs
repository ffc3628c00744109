//! Carries out what a session asks of the store, for connections and for REST alike.

use std::{collections::HashMap, future::Future, panic::resume_unwind, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{Gateway, now_ms};
use crate::{
    event::{Kind, Seq},
    hub::ConnectionId,
    intake::{Awaited, Taken},
    metric::Metric,
    protocol::{Code, PresenceFrame},
    session::{Input, Outcome, Request},
    store::{self, Answer, Append, Changed, Member, StoreError},
};

/// How long the store may take for a request.
const REQUEST_SECONDS_MAX: Duration = Duration::from_secs(10);

/// How long it may take to tell how memberships ended. Meanwhile the rooms' events still come.
const ENDINGS_SECONDS_MAX: Duration = Duration::from_secs(2);

impl Gateway {
    /// Puts a send into the log, and brings back what became of it. It is in the queue, in the order of the calls, when this returns.
    pub(crate) fn append(&self, id: Option<u64>, append: Append) -> impl Future<Output = Input> + Send + use<> {
        self.stats.send();
        let n = append.n;
        let arrived = Instant::now();
        let (event, room) = (Uuid::now_v7(), append.room);
        let began = self.traces.begin(event);
        let may = self.sending.lock().take(&append.sender, arrived.into_std());
        let taken = may.map(|()| self.intake.append(Append { event, ..append }));
        let (stats, traces) = (self.stats.clone(), self.traces.clone());
        async move {
            let taken = match taken {
                Err(wait) => {
                    Metric::Refusals.count_for("user_sends");
                    let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
                    return Input::Done(Outcome::TooFast { id, n, retry_after_ms });
                }
                Ok(Ok(taken)) => taken.await.unwrap_or(Taken::Done(Err(Code::Unavailable))),
                Ok(Err(code)) => Taken::Done(Err(code)),
            };
            let answer = match taken {
                Taken::Done(answer) => answer,
                Taken::Accepted(fate) => {
                    stats.accepted(arrived.elapsed());
                    traces.sent(event, room, began, "accepted");
                    return Input::Done(Outcome::Accepted { id, n, fate });
                }
            };
            match &answer {
                Ok(Answer::Committed { .. }) => stats.committed(arrived.elapsed()),
                Err(_) => stats.failed(),
                Ok(_) => {}
            }
            traces.sent(event, room, began, outcome(&answer));
            Input::Done(Outcome::Sent { id, n, answer })
        }
    }

    /// Brings back the fate of an accepted send; never, when this node ends before it is known.
    pub(super) fn settled(&self, id: Option<u64>, n: i64, fate: Awaited) -> impl Future<Output = Input> + Send + use<> {
        let stats = self.stats.clone();
        async move {
            let Some(answer) = fate.fate().await else { return std::future::pending().await };
            if let Ok(Answer::Committed { .. }) = &answer {
                stats.settled();
            }
            Input::Done(Outcome::Settled { id, n, answer })
        }
    }

    /// Asks the store, publishes what changed, and brings back what came of it. What changes something begins with this call and goes on
    /// when whoever asked is gone: else a membership could end in the store and nobody be told of it.
    pub(crate) fn ask(self: &Arc<Self>, request: Request) -> BoxFuture<'static, Input> {
        let gateway = self.clone();
        let changes = request.changes();
        let answer = async move { gateway.answer(request).await };
        if !changes {
            return answer.boxed();
        }
        let task = tokio::spawn(answer);
        async move {
            match task.await {
                Ok(input) => input,
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                // Only with the runtime, and then nobody waits for long.
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }

    async fn answer(&self, request: Request) -> Input {
        let (store, began) = (&self.store, self.traces.now());
        let publish = |result: Result<Changed, StoreError>| match result {
            Ok(changed) => {
                self.publish(&changed);
                self.traces.requested(began, &changed.events);
                Ok(changed)
            }
            Err(error) => Err(code(&error)),
        };
        Input::Done(match request {
            Request::CreateRoom { id, user, name, kind } => {
                Outcome::Entered { id, result: publish(within(store.create_room(&user, &name, kind, now_ms())).await) }
            }
            Request::CarryOut { id, user, command } => {
                let result = publish(within(store.carry_out(&user, &command, now_ms())).await);
                Outcome::CarriedOut { id, room: command.room(), result }
            }
            Request::Read { id, user, room, seq } => {
                let result = within(store.read(&user, room, seq)).await.map_err(|error| code(&error));
                if let Ok((seq, true)) = result {
                    self.signals.read(&user, room, seq);
                }
                Outcome::Marked { id, room, result: result.map(|(seq, _)| seq) }
            }
            Request::Unread { id, user } => {
                Outcome::Counted { id, result: within(store.unread(&user)).await.map_err(|error| code(&error)) }
            }
            Request::Seen { id, users } => Outcome::Seen { id, result: self.seen(&users).await },
            Request::Members { id, room, after, limit } => {
                let result = within(store.members(room, &after, limit + 1)).await.map_err(|error| code(&error));
                let page = |mut members: Vec<Member>| {
                    let more = members.len() > limit;
                    members.truncate(limit);
                    (members, more)
                };
                Outcome::Listed { id, room, result: result.map(page) }
            }
            Request::Seat { user, send } => {
                let seat = within(store.room_of(&user, send.room)).await.map_err(|error| code(&error));
                Outcome::Seated { send, seat }
            }
            Request::Explain { user, seats, lost } => {
                Outcome::Explained { seats, endings: self.endings(&user, lost).await }
            }
            Request::Join { id, user, room } => {
                Outcome::Entered { id, result: publish(within(store.join(&user, &room, now_ms())).await) }
            }
            Request::Direct { id, user, other } => {
                Outcome::Entered { id, result: publish(within(store.direct(&user, &other, now_ms())).await) }
            }
            Request::Leave { id, user, room } => {
                Outcome::Left { id, room, result: publish(within(store.leave(&user, room, now_ms())).await) }
            }
            Request::History { id, user, room, range, limit } => {
                let read = async {
                    let page = store.page(room, range, limit).await?;
                    let tallies = match (page.events.first(), page.events.last()) {
                        (Some(first), Some(last)) => store.tallies(room, &user, first.seq, last.seq).await?,
                        _ => Vec::new(),
                    };
                    Ok((page, tallies))
                };
                Outcome::Read { id, room, result: within(read).await.map_err(|error| code(&error)) }
            }
        })
    }
}

/// How a send ended, in a word of a closed set.
fn outcome(answer: &Result<Answer, Code>) -> &'static str {
    match answer {
        Ok(Answer::Committed { new: true, .. }) => "committed",
        Ok(Answer::Committed { new: false, .. }) => "repeated",
        Ok(Answer::Gap { .. }) => "gap",
        Ok(Answer::Forgotten) => "forgotten",
        Ok(Answer::Refused(code)) | Err(code) => code.as_str(),
    }
}

pub(super) async fn within<T>(request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    store::within(REQUEST_SECONDS_MAX, request).await
}

impl Gateway {
    /// Lets a connection watch the presence of a room's members.
    pub(crate) async fn watch(self: Arc<Self>, id: Option<u64>, room: Uuid, connection: ConnectionId) -> Input {
        let result = within(self.signals.watch(room, connection)).await.map_err(|error| code(&error));
        Input::Done(Outcome::Watched { id, room, result })
    }

    /// How a user's memberships of these rooms have ended after these positions, as far as it can be read.
    async fn endings(&self, user: &str, lost: Vec<(Uuid, Seq)>) -> HashMap<Uuid, (Kind, Seq)> {
        let mut endings = HashMap::new();
        let read = async {
            for (room, after) in lost {
                match self.store.ending(user, room, after).await {
                    Ok(ending) => endings.extend(ending.map(|ending| (room, ending))),
                    Err(error) => return tracing::debug!(%error, "how a membership ended cannot be read"),
                }
            }
        };
        // Where a list says that they have ended, it is so all the same.
        let _ = timeout(ENDINGS_SECONDS_MAX, read).await;
        endings
    }

    /// How users are present, and when those who are not were last seen.
    async fn seen(&self, users: &[String]) -> Result<Vec<PresenceFrame>, Code> {
        let last: HashMap<String, i64> =
            within(self.sessions.last_seen(users)).await.map_err(|error| code(&error))?.into_iter().collect();
        let frame =
            |user: &String| PresenceFrame::new(user, self.signals.summary(user)).last_seen(last.get(user).copied());
        Ok(users.iter().map(frame).collect())
    }
}

/// What the client is told, after the log was told the rest.
pub(super) fn code(error: &StoreError) -> Code {
    if !matches!(error, StoreError::Refused(_)) {
        tracing::warn!(%error, "a request failed");
    }
    error.code()
}

//! Carries out what a session asks of the store, for connections and for REST alike.

use std::future::Future;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Gateway, now_ms};
use crate::{
    protocol::Code,
    session::{Input, Outcome, Request},
    store::{Answer, Append, Changed, StoreError},
};

impl Gateway {
    /// Puts a send into the log, and brings back what became of it. It is in the queue, in the order of the calls, when this returns.
    pub(crate) fn append(&self, id: Option<u64>, append: Append) -> impl Future<Output = Input> + Send + use<> {
        self.stats.send();
        let n = append.n;
        let arrived = Instant::now();
        let answer = self.writer.append(Append { event: Uuid::now_v7(), ..append });
        let stats = self.stats.clone();
        async move {
            let answer = match answer {
                Ok(answer) => answer.await.unwrap_or(Err(Code::Unavailable)),
                Err(code) => Err(code),
            };
            match &answer {
                Ok(Answer::Committed { .. }) => stats.committed(arrived.elapsed()),
                Err(_) => stats.failed(),
                Ok(_) => {}
            }
            Input::Done(Outcome::Sent { id, n, answer })
        }
    }

    /// Asks the store, publishes what changed, and brings back what came of it.
    pub(crate) async fn ask(&self, request: Request) -> Input {
        let store = &self.store;
        let publish = |result: Result<Changed, StoreError>| match result {
            Ok(changed) => {
                self.publish(&changed);
                Ok(changed)
            }
            Err(error) => Err(code(&error)),
        };
        Input::Done(match request {
            Request::CreateRoom { id, user, name } => {
                Outcome::Entered { id, result: publish(store.create_room(&user, &name, now_ms()).await) }
            }
            Request::Join { id, user, room } => {
                Outcome::Entered { id, result: publish(store.join(&user, &room, now_ms()).await) }
            }
            Request::Direct { id, user, other } => {
                Outcome::Entered { id, result: publish(store.direct(&user, &other, now_ms()).await) }
            }
            Request::Leave { id, user, room } => {
                Outcome::Left { id, room, result: publish(store.leave(&user, room, now_ms()).await) }
            }
            Request::History { id, room, range, limit } => {
                let result = store.page(room, range, limit).await.map_err(|error| code(&error));
                Outcome::Read { id, room, result }
            }
        })
    }
}

/// What the client is told, after the log was told the rest.
pub(super) fn code(error: &StoreError) -> Code {
    if !matches!(error, StoreError::Refused(_)) {
        tracing::warn!(%error, "a request failed");
    }
    error.code()
}

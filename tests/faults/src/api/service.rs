//! The server as a service that a client stands on: requests in, answers out, with the faults of a plan between them.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Server,
    call::{Call, Verb},
    refusal::Refusal,
    store::Who,
    watch,
};
use crate::plan::{Fate, Plan};

/// Time that a request or an answer takes.
const WAY: Duration = Duration::from_millis(2);

/// After so long a client gives a request up.
const TIMEOUT: Duration = Duration::from_secs(10);

/// After so long a connection that says nothing is given up, as the operator has it (`SILENCE_MAX` in its `run`).
const SILENCE: Duration = Duration::from_secs(300);

type Error = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, std::convert::Infallible>>;

/// The calls of one client.
#[derive(Clone)]
pub(super) struct Calls {
    server: Server,
    who: Who,
    plan: Arc<Plan>,
}

impl Calls {
    /// Calls in the name of `who`.
    pub(super) fn new(server: Server, who: Who, plan: Arc<Plan>) -> Self {
        Calls { server, who, plan }
    }

    async fn answer(self, request: Request<Body>) -> Result<Answer, Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let Some(call) = Call::read(&parts, &body) else {
            return Ok(sent(404, &Refusal::not_found("path", parts.uri.path()).status()));
        };
        sleep(WAY).await;
        let answer = self.meet(call).await;
        sleep(WAY).await;
        answer
    }

    /// What comes of a call by the plan.
    async fn meet(&self, call: Call) -> Result<Answer, Error> {
        match self.plan.fate(&call) {
            Fate::Served => Ok(self.serve(call)),
            Fate::Refused(refusal) => Ok(sent(refusal.code, &refusal.status())),
            Fate::TimedOut => {
                sleep(TIMEOUT).await;
                Err("the request timed out".into())
            }
            Fate::AnswerLost => {
                drop(self.serve(call));
                sleep(TIMEOUT).await;
                Err("the request timed out".into())
            }
            Fate::Silent => {
                drop(self.serve(call));
                sleep(SILENCE).await;
                Err("nothing was heard for too long".into())
            }
            Fate::Arrives { after } => {
                self.arrive_later(call, after);
                sleep(TIMEOUT).await;
                Err("the request timed out".into())
            }
            Fate::CrashBefore => self.crash().await,
            Fate::CrashAfter => {
                drop(self.serve(call));
                self.crash().await
            }
            Fate::CrashAndArrives { after } => {
                self.arrive_later(call, after);
                self.crash().await
            }
        }
    }

    /// A request that is under way for long, and arrives all the same.
    fn arrive_later(&self, call: Call, after: Duration) {
        let (server, who) = (self.server.clone(), self.who);
        tokio::spawn(async move {
            sleep(after).await;
            // Nobody waits for the answer any more.
            drop(server.serve(&call, who));
        });
    }

    /// The process that called ends here, and never hears an answer.
    async fn crash(&self) -> Result<Answer, Error> {
        self.plan.crash();
        std::future::pending().await
    }

    fn serve(&self, call: Call) -> Answer {
        if call.verb == Verb::Watch {
            let lines = watch::open(self.server.clone(), call, self.plan.clone());
            let frames = lines.map(|line| line.map(http_body::Frame::data));
            return response(200).body(StreamBody::new(frames).boxed_unsync()).unwrap_or_default();
        }
        match self.server.serve(&call, self.who) {
            Ok((code, object)) => sent(code, &object),
            Err(refusal) => sent(refusal.code, &refusal.status()),
        }
    }
}

fn response(code: u16) -> http::response::Builder {
    Response::builder().status(code).header("content-type", "application/json")
}

fn sent(code: u16, object: &Value) -> Answer {
    let body = Full::new(Bytes::from(json!(object).to_string()));
    response(code).body(body.boxed_unsync()).unwrap_or_default()
}

impl tower::Service<Request<Body>> for Calls {
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

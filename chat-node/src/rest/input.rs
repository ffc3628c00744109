//! What a request carries, read with a problem document for whatever cannot be.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};

use tokio::time::timeout;

use super::{
    Rest,
    problem::{Problem, Reason},
};
use crate::metric::Metric;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

/// The parameters after `?`.
pub(super) struct Parameters<T>(pub(super) T);

/// The parameter within the path.
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Rest>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<Rest>) -> Result<Self, Problem> {
        let time = Duration::from_secs(state.gateway.config.limits.request_seconds);
        match timeout(time, Json::from_request(request, state)).await {
            Ok(Ok(Json(body))) => Ok(Body(body)),
            Ok(Err(rejection)) => Err(unreadable(&rejection)),
            Err(_) => {
                Metric::Refusals.count_for("slow_request");
                Err(Reason::SlowRequest.into())
            }
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::from_request_parts(parts, state).await;
        read.map(|Query(parameters)| Parameters(parameters)).map_err(|rejection| bad_request(&rejection.body_text()))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::from_request_parts(parts, state).await;
        read.map(|Path(parameter)| At(parameter)).map_err(|rejection| bad_request(&rejection.body_text()))
    }
}

/// A parameter that is part of a name: it has no control characters, as no name has.
#[derive(Default, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Name(String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        if name.chars().any(char::is_control) { Err("a name has no control characters") } else { Ok(Name(name)) }
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": super::document::NO_CONTROL})
    }
}

fn unreadable(rejection: &JsonRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Reason::TooLarge.into(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Reason::NotJson.into(),
        _ => bad_request(&rejection.body_text()),
    }
}

/// What the decoder says, unless it quotes the request at length: an error must not become an echo.
fn bad_request(sentence: &str) -> Problem {
    const SENTENCE_BYTES_MAX: usize = 200;
    let problem = Problem::from(Reason::BadRequest);
    if sentence.len() <= SENTENCE_BYTES_MAX { problem.because(sentence) } else { problem }
}

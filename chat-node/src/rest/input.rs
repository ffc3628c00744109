//! What a request carries, read with a problem document for whatever cannot be.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Number;
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

/// A whole number in whatever form it comes: `60`, `60.0` and `6e1` are one number in JSON, and an integer to JSON Schema.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(from: D) -> Result<T, D::Error> {
    integer(&Number::deserialize(from)?)
}

/// The same, where there may be none.
pub(super) fn maybe_whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(from: D) -> Result<Option<T>, D::Error> {
    Option::<Number>::deserialize(from)?.map(|number| integer(&number)).transpose()
}

/// Up to here each whole number is a float of its own, 2^53. Beyond, one that is out of bounds could be rounded to one that is not.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

fn integer<T: TryFrom<i128>, E: Error>(number: &Number) -> Result<T, E> {
    let exact = |float: &f64| float.fract() == 0.0 && float.abs() <= EXACT_MAX;
    let float = || number.as_f64().filter(exact).map(|float| float as i128);
    let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)).or_else(float);
    whole.and_then(|whole| T::try_from(whole).ok()).ok_or_else(|| E::custom("not a whole number in its bounds"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Numbers {
        #[serde(deserialize_with = "whole")]
        seq: i64,
        #[serde(default, deserialize_with = "maybe_whole")]
        seconds: Option<u64>,
    }

    #[test]
    fn a_whole_number_is_one_in_whatever_form_it_comes() {
        let read = |text: &str| serde_json::from_str::<Numbers>(text).ok().map(|read| (read.seq, read.seconds));
        assert_eq!(read(r#"{"seq": -5}"#), Some((-5, None)));
        assert_eq!(read(r#"{"seq": -5.0, "seconds": 6e1}"#), Some((-5, Some(60))));
        assert_eq!(
            read(r#"{"seq": 9223372036854775807, "seconds": 18446744073709551615}"#),
            Some((i64::MAX, Some(u64::MAX)))
        );
        assert_eq!(read(r#"{"seq": 0, "seconds": null}"#), Some((0, None)));
        for bad in [
            r#"{}"#,
            r#"{"seq": null}"#,
            r#"{"seq": 0.5}"#,
            r#"{"seq": "5"}"#,
            r#"{"seq": 1e300}"#,
            r#"{"seq": 9223372036854775808}"#,
            r#"{"seq": -9223372036854775809}"#,
            r#"{"seq": 0, "seconds": -1}"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

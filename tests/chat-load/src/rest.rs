//! REST: any request, and the two that give a client its token.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dial::Dial;

/// A request has an answer by then, or has failed. A password's hash takes the server a while on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Why a REST request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The server refused it.
    #[error("refused with {code} (HTTP {status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Stable name of the reason.
        code: String,
        /// The reason for a person.
        detail: String,
    },
    /// There was no usable answer.
    #[error("no answer from the node: {0}")]
    NoAnswer(String),
}

/// Makes an account. Gives the user's name.
///
/// # Errors
/// See [`RestError`]; `username_taken` when there is such an account.
pub async fn register(dial: &dyn Dial, username: &str, password: &str) -> Result<String, RestError> {
    let answer = post(dial, "/api/v1/accounts", &json!({"username": username, "password": password})).await?;
    text(&answer, "user")
}

/// What a sign-in gives, and each refresh after it.
#[derive(Clone, Debug, Deserialize)]
pub struct SignedIn {
    /// The token.
    pub token: String,
    /// How long it holds, in seconds.
    pub expires_in: u64,
    /// What gives the next ones, once.
    pub refresh_token: String,
    /// The session.
    pub session: Uuid,
}

/// Signs in.
///
/// # Errors
/// See [`RestError`]; `bad_credentials` when name and password do not match.
pub async fn sign_in(dial: &dyn Dial, username: &str, password: &str) -> Result<SignedIn, RestError> {
    signed_in(post(dial, "/api/v1/login", &json!({"username": username, "password": password})).await?)
}

/// Goes on.
///
/// # Errors
/// See [`RestError`]; `bad_refresh_token` when the session is over.
pub async fn refresh(dial: &dyn Dial, refresh_token: &str) -> Result<SignedIn, RestError> {
    signed_in(post(dial, "/api/v1/refresh", &json!({"refresh_token": refresh_token})).await?)
}

fn signed_in(answer: Value) -> Result<SignedIn, RestError> {
    serde_json::from_value(answer).map_err(|error| RestError::NoAnswer(error.to_string()))
}

/// Gives a token for an account.
///
/// # Errors
/// See [`RestError`]; `bad_credentials` when name and password do not match.
pub async fn login(dial: &dyn Dial, username: &str, password: &str) -> Result<String, RestError> {
    Ok(sign_in(dial, username, password).await?.token)
}

fn text(answer: &Value, field: &str) -> Result<String, RestError> {
    let value = answer[field].as_str().map(str::to_owned);
    value.ok_or_else(|| RestError::NoAnswer(format!("it has no field {field:?}: {answer}")))
}

async fn post(dial: &dyn Dial, path: &str, body: &Value) -> Result<Value, RestError> {
    let Answer { status, body: answer, .. } =
        call(dial, &Call { method: Method::POST, path, body: Some(body), ..Call::default() }).await?;
    if status.is_success() {
        return Ok(answer);
    }
    let field = |name: &str| answer[name].as_str().unwrap_or("?").to_owned();
    Err(RestError::Refused { status: status.as_u16(), code: field("code"), detail: field("detail") })
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Call<'a> {
    /// Its method.
    pub method: Method,
    /// Its path, with what stands behind `?`.
    pub path: &'a str,
    /// The token.
    pub token: Option<&'a str>,
    /// The key by which it can be repeated.
    pub idempotency_key: Option<&'a str>,
    /// What it carries.
    pub body: Option<&'a Value>,
}

/// An answer, of whatever status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; null when there is none.
    pub body: Value,
}

/// Asks.
///
/// # Errors
/// Only [`RestError::NoAnswer`]: a refusal is an answer.
pub async fn call(dial: &dyn Dial, call: &Call<'_>) -> Result<Answer, RestError> {
    let exchange = tokio::time::timeout(ANSWER_WITHIN, exchange(dial, call)).await;
    let exchange = exchange.map_err(|_| RestError::NoAnswer(format!("nothing within {ANSWER_WITHIN:?}")))?;
    exchange.map_err(|error| RestError::NoAnswer(error.to_string()))
}

async fn exchange(dial: &dyn Dial, call: &Call<'_>) -> anyhow::Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(dial.dial().await?)).await?;
    let mut request = Request::builder().method(&call.method).uri(call.path).header(header::HOST, "chatcluster");
    if let Some(token) = call.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if let Some(key) = call.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let request = match call.body {
        Some(body) => {
            request.header(header::CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body.to_string())))?
        }
        None => request.body(Full::default())?,
    };
    let answer = async {
        let response = sender.send_request(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await?.to_bytes();
        let body = match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(_) if bytes.is_empty() => Value::Null,
            Err(_) => json!({"detail": String::from_utf8_lossy(&bytes)}),
        };
        anyhow::Ok(Answer { status, headers, body })
    };
    // The connection has to be driven for the answer to come, and may be over as soon as it has.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        driven = connection => {
            driven?;
            answer.await
        }
    }
}

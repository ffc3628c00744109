//! Accounts: the two REST requests that give a client its token.

use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

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

/// Gives a token for an account.
///
/// # Errors
/// See [`RestError`]; `bad_credentials` when name and password do not match.
pub async fn login(dial: &dyn Dial, username: &str, password: &str) -> Result<String, RestError> {
    let answer = post(dial, "/api/v1/login", &json!({"username": username, "password": password})).await?;
    text(&answer, "token")
}

fn text(answer: &Value, field: &str) -> Result<String, RestError> {
    let value = answer[field].as_str().map(str::to_owned);
    value.ok_or_else(|| RestError::NoAnswer(format!("it has no field {field:?}: {answer}")))
}

async fn post(dial: &dyn Dial, path: &str, body: &Value) -> Result<Value, RestError> {
    let exchange = tokio::time::timeout(ANSWER_WITHIN, exchange(dial, path, body)).await;
    let exchange = exchange.map_err(|_| RestError::NoAnswer(format!("nothing within {ANSWER_WITHIN:?}")))?;
    let (status, answer) = exchange.map_err(|error| RestError::NoAnswer(error.to_string()))?;
    if status.is_success() {
        return Ok(answer);
    }
    let field = |name: &str| answer[name].as_str().unwrap_or("?").to_owned();
    Err(RestError::Refused { status: status.as_u16(), code: field("code"), detail: field("detail") })
}

async fn exchange(dial: &dyn Dial, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(dial.dial().await?)).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, "chatcluster")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let answer =
            serde_json::from_slice(&body).unwrap_or_else(|_| json!({"detail": String::from_utf8_lossy(&body)}));
        anyhow::Ok((status, answer))
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

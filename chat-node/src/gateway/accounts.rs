//! Built-in accounts over REST: register and log in.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::Gateway;
use crate::{
    auth::{check_password, check_username},
    store::StoreError,
};

/// What both requests carry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    username: String,
    password: String,
}

/// Why a request failed: a problem document (RFC 9457) with a stable code.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, code, detail: detail.into() }
    }

    fn unavailable(error: &StoreError) -> Self {
        tracing::warn!(%error, "an account could not be read or written");
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the database cannot be reached: try again a little later",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Document<'a> {
            #[serde(rename = "type")]
            type_: &'static str,
            title: &'a str,
            status: u16,
            code: &'static str,
            detail: &'a str,
        }
        let document = Document {
            type_: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], Json(document).into_response().into_body())
            .into_response()
    }
}

#[derive(Serialize)]
pub(super) struct Registered {
    user: String,
}

/// `POST /api/v1/accounts`
pub(super) async fn register(
    State(gateway): State<Arc<Gateway>>,
    body: Result<Json<Credentials>, JsonRejection>,
) -> Result<(StatusCode, Json<Registered>), Problem> {
    let Credentials { username, password } = gateway.credentials(body)?;
    let broken = |code| move |rule: crate::auth::PasswordRule| Problem::new(StatusCode::BAD_REQUEST, code, rule.0);
    check_username(&username).map_err(broken("bad_username"))?;
    check_password(&password).map_err(broken("bad_password"))?;
    let hash = gateway.passwords.hash(password).await.map_err(|error| {
        tracing::error!(%error, "a password could not be hashed");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in the server")
    })?;
    match gateway.store.create_account(&username, &hash, super::now_ms()).await {
        Ok(true) => Ok((StatusCode::CREATED, Json(Registered { user: username }))),
        Ok(false) => Err(Problem::new(StatusCode::CONFLICT, "username_taken", "choose another username")),
        Err(error) => Err(Problem::unavailable(&error)),
    }
}

#[derive(Serialize)]
pub(super) struct LoggedIn {
    token: String,
    expires_in: u64,
}

/// `POST /api/v1/login`
pub(super) async fn login(
    State(gateway): State<Arc<Gateway>>,
    body: Result<Json<Credentials>, JsonRejection>,
) -> Result<Json<LoggedIn>, Problem> {
    let Credentials { username, password } = gateway.credentials(body)?;
    // A name that no account can have, such as one with a NUL, is not looked up.
    let hash = match check_username(&username) {
        Ok(()) => gateway.store.password_hash(&username).await.map_err(|error| Problem::unavailable(&error))?,
        Err(_) => None,
    };
    if !gateway.passwords.verify(password, hash).await {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "bad_credentials", "the username or the password is wrong"));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (token, expires_in) = gateway.tokens.sign(&username, now).map_err(|error| {
        tracing::error!(%error, "a token could not be signed");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in the server")
    })?;
    Ok(Json(LoggedIn { token, expires_in }))
}

impl Gateway {
    fn credentials(&self, body: Result<Json<Credentials>, JsonRejection>) -> Result<Credentials, Problem> {
        if !self.config.auth.accounts {
            let detail = "this service has no accounts of its own: get a token from its issuer";
            return Err(Problem::new(StatusCode::FORBIDDEN, "accounts_off", detail));
        }
        let Json(credentials) =
            body.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_request", error.body_text()))?;
        Ok(credentials)
    }
}

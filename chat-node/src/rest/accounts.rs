//! Built-in accounts over REST: register and log in.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::{
    auth::{PasswordRule, check_password, check_username},
    gateway::{Gateway, now_ms},
};

/// What both requests carry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    username: String,
    password: String,
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
    let Credentials { username, password } = credentials(&gateway, body)?;
    let broken = |code| move |rule: PasswordRule| Problem::new(StatusCode::BAD_REQUEST, code, rule.0);
    check_username(&username).map_err(broken("bad_username"))?;
    check_password(&password).map_err(broken("bad_password"))?;
    let hash = gateway.passwords.hash(password).await.map_err(|error| Problem::internal(&error))?;
    if !gateway.store.create_account(&username, &hash, now_ms()).await? {
        return Err(Problem::new(StatusCode::CONFLICT, "username_taken", "choose another username"));
    }
    Ok((StatusCode::CREATED, Json(Registered { user: username })))
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
    let Credentials { username, password } = credentials(&gateway, body)?;
    // A name that no account can have, such as one with a NUL, is not looked up.
    let hash = match check_username(&username) {
        Ok(()) => gateway.store.password_hash(&username).await?,
        Err(_) => None,
    };
    if !gateway.passwords.verify(password, hash).await {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "bad_credentials", "the username or the password is wrong"));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (token, expires_in) = gateway.tokens.sign(&username, now).map_err(|error| Problem::internal(&error))?;
    Ok(Json(LoggedIn { token, expires_in }))
}

fn credentials(gateway: &Gateway, body: Result<Json<Credentials>, JsonRejection>) -> Result<Credentials, Problem> {
    if !gateway.config.auth.accounts {
        let detail = "this service has no accounts of its own: get a token from its issuer";
        return Err(Problem::new(StatusCode::FORBIDDEN, "accounts_off", detail));
    }
    let Json(credentials) =
        body.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_request", error.body_text()))?;
    Ok(credentials)
}

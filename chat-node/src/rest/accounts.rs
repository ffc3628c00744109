//! Built-in accounts over REST: register, log in, and change the password.

use std::{net::IpAddr, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::{
    Rest,
    caller::{Address, Caller},
    input::Body,
    problem::{Problem, Reason},
    proof::prove,
    sessions::{self, SignedIn},
};
use crate::{
    auth::{PasswordRule, check_password, check_username},
    gateway::{Gateway, now_ms},
    logins::Ending,
};

/// What registering and logging in carry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Credentials {
    /// 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`, beginning with a letter or digit.
    #[cfg_attr(test, schemars(extend("pattern" = "^[a-z0-9][a-z0-9._-]{0,63}$")))]
    username: String,
    /// 8 to 1024 characters.
    #[cfg_attr(test, schemars(length(min = 8, max = 1024)))]
    password: String,
}

/// Another password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewPassword {
    /// The present one.
    #[cfg_attr(test, schemars(length(min = 8, max = 1024)))]
    password: String,
    /// The next one: 8 to 1024 characters.
    #[cfg_attr(test, schemars(length(min = 8, max = 1024)))]
    new_password: String,
}

/// An account that was made.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Registered {
    /// The user's name.
    user: String,
}

/// `POST /api/v1/accounts`
pub(super) async fn register(
    State(rest): State<Arc<Rest>>,
    Body(Credentials { username, password }): Body<Credentials>,
) -> Result<(StatusCode, Json<Registered>), Problem> {
    let gateway = with_accounts(&rest)?;
    check_username(&username).map_err(broken(Reason::BadUsername))?;
    check_password(&password, &username).map_err(broken(Reason::BadPassword))?;
    // Before the hash, which is dear.
    if gateway.store.password_hash(&username).await?.is_some() {
        return Err(Reason::UsernameTaken.into());
    }
    let hash = gateway.passwords.hash(password).await?.map_err(|error| Problem::internal(&error))?;
    if !gateway.store.create_account(&username, &hash, now_ms()).await? {
        return Err(Reason::UsernameTaken.into());
    }
    Ok((StatusCode::CREATED, Json(Registered { user: username })))
}

/// `POST /api/v1/login`
pub(super) async fn login(
    State(rest): State<Arc<Rest>>,
    Address(address): Address,
    Body(Credentials { username, password }): Body<Credentials>,
) -> Result<Json<SignedIn>, Problem> {
    let gateway = with_accounts(&rest)?;
    let hash = proven(gateway, &username, password, address).await?.ok_or(Reason::BadCredentials)?;
    sessions::begin(gateway, username, hash, address).await
}

/// `PUT /api/v1/me/password`
pub(super) async fn change_password(
    State(rest): State<Arc<Rest>>,
    Address(address): Address,
    Caller(claims): Caller,
    Body(NewPassword { password, new_password }): Body<NewPassword>,
) -> Result<StatusCode, Problem> {
    let gateway = with_accounts(&rest)?;
    sessions::whole(&claims)?;
    check_password(&new_password, &claims.user).map_err(broken(Reason::BadPassword))?;
    let old = proven(gateway, &claims.user, password, address).await?.ok_or(Reason::WrongPassword)?;
    let new = gateway.passwords.hash(new_password).await?.map_err(|error| Problem::internal(&error))?;
    let ended = gateway.sessions.change_password(&claims.user, &old, &new, claims.login).await?;
    gateway.logins.ended(&ended.ok_or(Reason::WrongPassword)?, Ending::PasswordChanged);
    Ok(StatusCode::NO_CONTENT)
}

/// The hash of the account's password, if this is the password.
async fn proven(
    gateway: &Gateway,
    username: &str,
    password: String,
    address: Option<IpAddr>,
) -> Result<Option<String>, Problem> {
    prove(&gateway.store, &gateway.sessions, &gateway.passwords, username, password, address).await
}

/// What a broken rule is told as.
fn broken(reason: Reason) -> impl Fn(PasswordRule) -> Problem {
    move |rule| Problem::from(reason).because(rule.0)
}

/// The gateway of a service that has accounts of its own.
pub(super) fn with_accounts(rest: &Rest) -> Result<&Gateway, Problem> {
    if rest.gateway.config.auth.accounts { Ok(&rest.gateway) } else { Err(Reason::AccountsOff.into()) }
}

//! Built-in accounts over REST: register and log in.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::{
    Rest,
    caller::Address,
    input::Body,
    problem::{Problem, Reason},
    sessions::{self, SignedIn},
};
use crate::{
    auth::{PasswordRule, check_password, check_username},
    gateway::{Gateway, now_ms},
    metric::Metric,
};

/// What both requests carry.
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
    let broken = |reason| move |rule: PasswordRule| Problem::from(reason).because(rule.0);
    check_username(&username).map_err(broken(Reason::BadUsername))?;
    check_password(&password, &username).map_err(broken(Reason::BadPassword))?;
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
    // A name that no account can have, such as one with a NUL, is not looked up.
    let account = check_username(&username).is_ok().then_some(&*username);
    let wait = gateway.store.attempt(account, address, now_ms()).await?;
    if !wait.is_zero() {
        Metric::Logins.count_for("too_many_attempts");
        return Err(Problem::from(Reason::TooManyAttempts).retry_after(wait));
    }
    let hash = match account {
        Some(account) => gateway.store.password_hash(account).await?,
        None => None,
    };
    if !gateway.passwords.verify(password, hash).await? {
        Metric::Logins.count_for("bad_credentials");
        if let Some(address) = address {
            gateway.store.failed(address, now_ms()).await?;
        }
        return Err(Reason::BadCredentials.into());
    }
    Metric::Logins.count_for("ok");
    gateway.store.forgive(&username, address).await?;
    sessions::begin(gateway, username, address).await
}

/// The gateway of a service that has accounts of its own.
pub(super) fn with_accounts(rest: &Rest) -> Result<&Gateway, Problem> {
    if rest.gateway.config.auth.accounts { Ok(&rest.gateway) } else { Err(Reason::AccountsOff.into()) }
}

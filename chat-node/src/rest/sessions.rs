//! Sessions over REST: what a sign-in gives, how it goes on, where one is signed in, and signing out.

use std::{net::IpAddr, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Rest,
    accounts::with_accounts,
    caller::{Address, Caller},
    input::{At, Body},
    problem::{Problem, Reason},
};
use crate::{
    auth::{Claims, Grant, RefreshRules, RefreshToken},
    gateway::{Gateway, now_ms},
    logins::Ending,
    metric::Metric,
    protocol::Code,
    store::{Login, NewLogin, Refreshed, Seen},
};

/// Someone who is signed in.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct SignedIn {
    /// The token.
    token: String,
    /// How long it holds, in seconds.
    expires_in: u64,
    /// What gives the next token, once.
    refresh_token: String,
    /// How long that holds, in seconds.
    refresh_expires_in: u64,
    /// The session that both belong to.
    session: Uuid,
}

/// What is shown to go on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Refresh {
    /// The latest refresh token.
    refresh_token: String,
}

/// Where a user is signed in.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Sessions {
    /// Those that were seen last first; at most 100.
    sessions: Vec<Session>,
}

/// One sign-in on one device.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Session {
    /// Its id.
    id: Uuid,
    /// When it began, in milliseconds since 1970 UTC.
    created: i64,
    /// When it was last seen: signing in, refreshing, connecting or disconnecting.
    seen: i64,
    /// When it is over, unless it is refreshed.
    expires: i64,
    /// What its latest connection called itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// The address that it was last seen from.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Whether it is the one that asks.
    current: bool,
}

/// Begins a session for someone whose password was right.
pub(super) async fn begin(
    gateway: &Gateway,
    user: String,
    password_hash: String,
    address: Option<IpAddr>,
) -> Result<Json<SignedIn>, Problem> {
    let (id, now_ms) = (Uuid::now_v7(), now_ms());
    let token = RefreshToken::new(Uuid::new_v4(), rand::rng().random());
    let expires_ms = now_ms.saturating_add(rules(gateway).life_ms);
    let address = address.map(|address| address.to_string());
    let login = NewLogin { id, user, address, expires_ms, token, password_hash: Some(password_hash) };
    let displaced = gateway.sessions.begin_login(&login, now_ms).await?.ok_or(Reason::BadCredentials)?;
    gateway.logins.ended(&displaced, Ending::Displaced);
    signed_in(gateway, &login.user, id, &login.token, now_ms)
}

/// `POST /api/v1/refresh`
pub(super) async fn refresh(
    State(rest): State<Arc<Rest>>,
    Address(address): Address,
    Body(Refresh { refresh_token }): Body<Refresh>,
) -> Result<Json<SignedIn>, Problem> {
    let (gateway, now_ms) = (with_accounts(&rest)?, now_ms());
    let (shown, salt) = (RefreshToken::parse(&refresh_token), rand::rng().random());
    let refreshed = match &shown {
        Some(shown) => gateway.sessions.refresh(shown, salt, now_ms, rules(gateway)).await?,
        None => Refreshed::Unknown,
    };
    let refuse = |outcome| {
        Metric::Refreshes.count_for(outcome);
        Err(Reason::BadRefreshToken.into())
    };
    match refreshed {
        Refreshed::Renewed { login, user, token, again } => {
            Metric::Refreshes.count_for(if again { "repeated" } else { "rotated" });
            gateway
                .logins
                .note(login, Seen { ms: now_ms, client: None, address: address.map(|address| address.to_string()) });
            signed_in(gateway, &user, login, &token, now_ms)
        }
        Refreshed::Reused { login } => {
            tracing::warn!(%login, "a refresh token was used twice: its session was ended");
            gateway.logins.ended(&[login], Ending::Reused);
            refuse("reused")
        }
        Refreshed::Unknown => refuse("unknown"),
    }
}

/// `GET /api/v1/sessions`
pub(super) async fn mine(State(rest): State<Arc<Rest>>, Caller(claims): Caller) -> Result<Json<Sessions>, Problem> {
    whole(&claims)?;
    let logins = rest.gateway.sessions.logins_of(&claims.user, now_ms()).await?;
    let session = |login: Login| Session {
        id: login.id,
        created: login.created_ms,
        seen: login.seen_ms,
        expires: login.expires_ms,
        client: login.client,
        address: login.address,
        current: claims.login == Some(login.id),
    };
    Ok(Json(Sessions { sessions: logins.into_iter().map(session).collect() }))
}

/// `DELETE /api/v1/sessions/{session}`
pub(super) async fn end(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(session): At<Uuid>,
) -> Result<StatusCode, Problem> {
    match sign_out(&rest.gateway, &claims, Some(session)).await? {
        0 => Err(Reason::UnknownSession.into()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// `DELETE /api/v1/sessions`
pub(super) async fn end_all(State(rest): State<Arc<Rest>>, Caller(claims): Caller) -> Result<StatusCode, Problem> {
    sign_out(&rest.gateway, &claims, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn sign_out(gateway: &Gateway, claims: &Claims, login: Option<Uuid>) -> Result<usize, Problem> {
    whole(claims)?;
    let ended = gateway.sessions.end_logins(&claims.user, login).await?;
    gateway.logins.ended(&ended, Ending::SignedOut);
    Ok(ended.len())
}

/// A narrowed token, of a bot say, has no business with the sessions of its user.
pub(super) fn whole(claims: &Claims) -> Result<(), Problem> {
    if claims.rights.is_narrowed() { Err(Code::Forbidden.into()) } else { Ok(()) }
}

fn signed_in(
    gateway: &Gateway,
    user: &str,
    session: Uuid,
    token: &RefreshToken,
    now_ms: i64,
) -> Result<Json<SignedIn>, Problem> {
    let auth = &gateway.config.auth;
    let grant = Grant { user, login: Some(session), scope: None, seconds: auth.token_seconds };
    let now = u64::try_from(now_ms / 1000).unwrap_or(0);
    Ok(Json(SignedIn {
        token: gateway.tokens.grant(&grant, now).map_err(|error| Problem::internal(&error))?,
        expires_in: auth.token_seconds,
        refresh_token: token.encode(),
        refresh_expires_in: auth.refresh_seconds,
        session,
    }))
}

fn rules(gateway: &Gateway) -> RefreshRules {
    let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    let auth = &gateway.config.auth;
    RefreshRules { life_ms: ms(auth.refresh_seconds), grace_ms: ms(auth.refresh_grace_seconds) }
}

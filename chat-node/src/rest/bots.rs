//! Bots over REST, for administrators: accounts that no person logs in to, and their tokens.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Rest,
    caller::{Caller, admin},
    input::{At, Body, Name, Parameters, whole},
    page::{self, Limit},
    problem::{Problem, Reason},
};
use crate::{
    auth::{Grant, PasswordRule, Scope, check_username},
    gateway::now_ms,
    logins::Ending,
    store::{BotToken, Given, NewBotToken},
};

/// A scope that allows nothing more than every token may.
const READ: &str = "chat:read";

/// Life of a token unless asked for otherwise, and the longest, in seconds: 90 and 366 days.
const SECONDS_DEFAULT: u64 = 90 * 24 * 60 * 60;
const SECONDS_MAX: u64 = 366 * 24 * 60 * 60;

/// Characters of a label.
const LABEL_CHARACTERS_MAX: usize = 80;

/// A bot to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewBot {
    /// Its name, as of an account: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`, beginning with a letter or digit.
    #[cfg_attr(test, schemars(extend("pattern" = "^[a-z0-9][a-z0-9._-]{0,63}$")))]
    username: String,
}

/// A bot.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Bot {
    /// Its name.
    user: String,
    /// When it was made, in milliseconds since 1970 UTC.
    created: i64,
}

/// Which page of the bots.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BotsPage {
    /// `next` of the page before. Without it: the first page.
    #[serde(default)]
    cursor: Name,
    /// Bots in the page, at most.
    #[serde(default)]
    limit: Limit,
}

/// A page of the bots, by their names.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Bots {
    /// The bots.
    bots: Vec<Bot>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A token to be given to a bot.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewToken {
    /// What it is for: 1 to 80 characters, one that shows, and no control characters.
    #[cfg_attr(test, schemars(extend("pattern" = super::document::LINE, "maxLength" = LABEL_CHARACTERS_MAX)))]
    label: String,
    /// What it allows, at least one. `chat:read` allows nothing more than every token may.
    #[cfg_attr(test, schemars(extend("minItems" = 1, "maxItems" = 3, "items" = {"type": "string", "enum": ["chat:read", "chat:send", "chat:rooms"]})))]
    scopes: Vec<String>,
    /// How long it holds, in seconds: at most 366 days.
    #[serde(default = "seconds_default", deserialize_with = "whole")]
    #[cfg_attr(test, schemars(range(min = 1, max = SECONDS_MAX)))]
    seconds: u64,
}

fn seconds_default() -> u64 {
    SECONDS_DEFAULT
}

/// A token that was given just now: it is told once.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct GivenToken {
    /// Its id, by which it can be ended.
    id: Uuid,
    /// The token.
    token: String,
    /// When it expires, in milliseconds since 1970 UTC.
    expires: i64,
}

/// A bot's tokens.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Tokens {
    /// The latest first; at most 100.
    tokens: Vec<Token>,
}

/// What is known of a token.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Token {
    /// Its id.
    id: Uuid,
    /// What it is for.
    label: String,
    /// What it allows.
    scopes: Vec<String>,
    /// When it was given, in milliseconds since 1970 UTC.
    created: i64,
    /// When it last connected or disconnected.
    seen: i64,
    /// When it expires.
    expires: i64,
    /// Where it was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

impl From<BotToken> for Token {
    fn from(token: BotToken) -> Self {
        Token {
            id: token.id,
            label: token.label,
            scopes: token.scopes.split(' ').map(str::to_owned).collect(),
            created: token.created_ms,
            seen: token.seen_ms,
            expires: token.expires_ms,
            address: token.address,
        }
    }
}

/// `POST /bots`
pub(super) async fn create(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    Body(NewBot { username }): Body<NewBot>,
) -> Result<(StatusCode, Json<Bot>), Problem> {
    admin(&claims)?;
    let broken = |rule: PasswordRule| Problem::from(Reason::BadUsername).because(rule.0);
    check_username(&username).map_err(broken)?;
    let created = now_ms();
    match rest.gateway.store.create_bot(&username, created).await? {
        true => Ok((StatusCode::CREATED, Json(Bot { user: username, created }))),
        false => Err(Reason::UsernameTaken.into()),
    }
}

/// `GET /bots`
pub(super) async fn list(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    Parameters(asked): Parameters<BotsPage>,
) -> Result<Json<Bots>, Problem> {
    admin(&claims)?;
    let read = rest.gateway.store.bots(&asked.cursor, asked.limit.rows()).await?;
    let (bots, next) = page::cut(read, asked.limit, |(name, _)| name.clone());
    Ok(Json(Bots { bots: bots.into_iter().map(|(user, created)| Bot { user, created }).collect(), next }))
}

/// `DELETE /bots/{bot}`
pub(super) async fn remove(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(bot): At<Name>,
) -> Result<StatusCode, Problem> {
    admin(&claims)?;
    let ended = rest.gateway.store.delete_bot(&bot).await?.ok_or(Reason::UnknownBot)?;
    rest.gateway.logins.ended(&ended, Ending::Revoked);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /bots/{bot}/tokens`
pub(super) async fn give(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(bot): At<Name>,
    Body(wish): Body<NewToken>,
) -> Result<(StatusCode, Json<GivenToken>), Problem> {
    admin(&claims)?;
    let scopes = checked(&wish).map_err(|why| Problem::from(Reason::BadRequest).because(why))?;
    let (id, now_ms) = (Uuid::now_v7(), now_ms());
    let expires_ms = now_ms.saturating_add(i64::try_from(wish.seconds.saturating_mul(1000)).unwrap_or(i64::MAX));
    let token = NewBotToken { id, bot: bot.to_string(), label: wish.label, scopes, expires_ms };
    match rest.gateway.store.give_token(&token, now_ms).await? {
        Given::Token => {}
        Given::NoBot => return Err(Reason::UnknownBot.into()),
        Given::TooMany => return Err(Reason::TooManyTokens.into()),
    }
    let grant = Grant { user: &token.bot, login: Some(id), scope: Some(&token.scopes), seconds: wish.seconds };
    let signed = rest.gateway.tokens.grant(&grant, u64::try_from(now_ms / 1000).unwrap_or(0));
    let token = signed.map_err(|error| Problem::internal(&error))?;
    Ok((StatusCode::CREATED, Json(GivenToken { id, token, expires: expires_ms })))
}

/// `GET /bots/{bot}/tokens`
pub(super) async fn tokens(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At(bot): At<Name>,
) -> Result<Json<Tokens>, Problem> {
    admin(&claims)?;
    let tokens = rest.gateway.store.bot_tokens(&bot, now_ms()).await?;
    Ok(Json(Tokens { tokens: tokens.into_iter().map(Token::from).collect() }))
}

/// `DELETE /bots/{bot}/tokens/{token}`
pub(super) async fn end(
    State(rest): State<Arc<Rest>>,
    Caller(claims): Caller,
    At((bot, token)): At<(Name, Uuid)>,
) -> Result<StatusCode, Problem> {
    admin(&claims)?;
    match rest.gateway.store.end_bot_token(&bot, token).await? {
        true => {
            rest.gateway.logins.ended(&[token], Ending::Revoked);
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(Reason::UnknownToken.into()),
    }
}

/// The scopes of a wish in the form of the claim, each once.
fn checked(wish: &NewToken) -> Result<String, &'static str> {
    let label = wish.label.trim();
    if label.is_empty() || label.chars().any(char::is_control) || wish.label.chars().count() > LABEL_CHARACTERS_MAX {
        return Err("a label has 1 to 80 characters, one that shows, and no control characters");
    }
    if !(1..=SECONDS_MAX).contains(&wish.seconds) {
        return Err("seconds is at least 1, and at most 31622400: 366 days");
    }
    let known: Vec<&str> = [READ].into_iter().chain(Scope::ALL.map(Scope::as_str)).collect();
    // A token without a scope of ours would not be narrowed at all.
    if !(1..=known.len()).contains(&wish.scopes.len())
        || wish.scopes.iter().any(|scope| !known.contains(&scope.as_str()))
    {
        return Err("scopes are one to three of chat:read, chat:send and chat:rooms");
    }
    let wished = |scope: &&str| wish.scopes.iter().any(|wished| wished == scope);
    Ok(known.into_iter().filter(wished).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(label: &str, scopes: &[&str], seconds: u64, expected: Result<&str, &str>) {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let checked = checked(&NewToken { label: label.into(), scopes, seconds });
        match expected {
            Ok(scopes) => assert_eq!(checked.as_deref(), Ok(scopes)),
            Err(says) => assert!(checked.unwrap_err().starts_with(says), "{label:?}"),
        }
    }

    #[test]
    fn a_token_is_always_narrowed_and_always_ends() {
        check("ci", &["chat:send"], 1, Ok("chat:send"));
        check("ci", &["chat:rooms", "chat:send", "chat:rooms"], SECONDS_MAX, Ok("chat:send chat:rooms"));
        check("ci", &["chat:read"], 1, Ok("chat:read"));
        check("ci", &[], 1, Err("scopes"));
        check("ci", &["openid"], 1, Err("scopes"));
        check("ci", &["chat:read"; 4], 1, Err("scopes"));
        check("ci", &["chat:send chat:rooms"], 1, Err("scopes"));
        check("ci", &["chat:send"], 0, Err("seconds"));
        check("ci", &["chat:send"], SECONDS_MAX + 1, Err("seconds"));
        for label in ["", " \t", "a\u{7}b", &"x".repeat(81)] {
            check(label, &["chat:send"], 1, Err("a label"));
        }
    }
}

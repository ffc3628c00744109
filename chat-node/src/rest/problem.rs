//! Why a REST request failed: a problem document (RFC 9457) with a stable code.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{auth::Busy, metric::Metric, protocol::Code, store::StoreError};

/// The reasons: those of the protocol, and those that only a request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// A reason that a frame can have as well.
    Protocol(Code),
    /// The request cannot be understood.
    BadRequest,
    /// The body is larger than a frame may be.
    TooLarge,
    /// The body is not said to be JSON.
    NotJson,
    /// There is no such path.
    UnknownPath,
    /// The path does not take that method.
    BadMethod,
    /// The request did not arrive in time.
    SlowRequest,
    /// The user asks too often.
    TooManyRequests,
    /// A username that breaks a rule.
    BadUsername,
    /// A password that breaks a rule.
    BadPassword,
    /// A username that somebody has.
    UsernameTaken,
    /// The username or the password is wrong.
    BadCredentials,
    /// The password that is to be changed is another one.
    WrongPassword,
    /// The service has no accounts of its own.
    AccountsOff,
    /// A refresh token that will never do.
    BadRefreshToken,
    /// The user has no such session.
    UnknownSession,
    /// Too many wrong passwords.
    TooManyAttempts,
    /// There is no such bot.
    UnknownBot,
    /// The bot has no such token.
    UnknownToken,
    /// The bot has as many tokens as it may.
    TooManyTokens,
    /// There is no such announcement in force.
    UnknownAnnouncement,
    /// As many announcements are in force as may be.
    TooManyAnnouncements,
}

impl Reason {
    /// The reasons that are REST's own.
    #[cfg(test)]
    pub(super) const OWN: [Reason; 21] = [
        Reason::BadRequest,
        Reason::TooLarge,
        Reason::NotJson,
        Reason::UnknownPath,
        Reason::BadMethod,
        Reason::SlowRequest,
        Reason::TooManyRequests,
        Reason::BadUsername,
        Reason::BadPassword,
        Reason::UsernameTaken,
        Reason::BadCredentials,
        Reason::WrongPassword,
        Reason::AccountsOff,
        Reason::BadRefreshToken,
        Reason::UnknownSession,
        Reason::TooManyAttempts,
        Reason::UnknownBot,
        Reason::UnknownToken,
        Reason::TooManyTokens,
        Reason::UnknownAnnouncement,
        Reason::TooManyAnnouncements,
    ];

    /// The HTTP status, the stable code, and a sentence for a person.
    pub(super) fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Reason::Protocol(code) => (status(code), code.as_str(), code.message()),
            Reason::BadRequest => (S::BAD_REQUEST, "bad_request", "a field or a parameter has a wrong value"),
            Reason::TooLarge => (S::PAYLOAD_TOO_LARGE, "too_large", "the body is too large: send less at once"),
            Reason::NotJson => {
                (S::UNSUPPORTED_MEDIA_TYPE, "not_json", "send JSON, with the header content-type: application/json")
            }
            Reason::UnknownPath => (S::NOT_FOUND, "unknown_path", "there is nothing here: see /api/v1/openapi.json"),
            Reason::BadMethod => (S::METHOD_NOT_ALLOWED, "bad_method", "use a method that the header allow names"),
            Reason::SlowRequest => {
                (S::REQUEST_TIMEOUT, "slow_request", "the body did not arrive in time: send it at once")
            }
            Reason::TooManyRequests => {
                (S::TOO_MANY_REQUESTS, "too_many_requests", "you ask too often: wait as long as retry-after says")
            }
            Reason::BadUsername => (S::BAD_REQUEST, "bad_username", "the username breaks a rule"),
            Reason::BadPassword => (S::BAD_REQUEST, "bad_password", "the password breaks a rule"),
            Reason::UsernameTaken => (S::CONFLICT, "username_taken", "choose another username"),
            Reason::BadRefreshToken => (
                S::UNAUTHORIZED,
                "bad_refresh_token",
                "the refresh token is unknown, too old or was used before: log in again",
            ),
            Reason::TooManyAttempts => (
                S::TOO_MANY_REQUESTS,
                "too_many_attempts",
                "too many wrong passwords: wait as long as retry-after says",
            ),
            Reason::UnknownBot => (S::NOT_FOUND, "unknown_bot", "there is no bot of that name: make it first"),
            Reason::UnknownToken => (S::NOT_FOUND, "unknown_token", "the bot has no such token: it may have ended"),
            Reason::TooManyTokens => (S::CONFLICT, "too_many_tokens", "the bot has 100 tokens: end one first"),
            Reason::UnknownAnnouncement => {
                (S::NOT_FOUND, "unknown_announcement", "no such announcement is in force: it may have ended")
            }
            Reason::TooManyAnnouncements => {
                (S::CONFLICT, "too_many_announcements", "20 announcements are in force: end one first")
            }
            Reason::UnknownSession => (S::NOT_FOUND, "unknown_session", "you have no such session: it may have ended"),
            Reason::BadCredentials => (S::UNAUTHORIZED, "bad_credentials", "the username or the password is wrong"),
            // Not 401: the token does, and another one would not help.
            Reason::WrongPassword => (S::FORBIDDEN, "wrong_password", "the present password is another one"),
            Reason::AccountsOff => {
                (S::FORBIDDEN, "accounts_off", "this service has no accounts of its own: get a token from its issuer")
            }
        }
    }
}

/// The status under which a code of the protocol is told.
fn status(code: Code) -> StatusCode {
    match code {
        Code::BadFrame
        | Code::EmptyText
        | Code::TextTooLong
        | Code::BadText
        | Code::BadName
        | Code::BadReaction
        | Code::BadDuration
        | Code::TooManyMentions => StatusCode::BAD_REQUEST,
        Code::BadToken | Code::TokenExpired | Code::NotIdentified => StatusCode::UNAUTHORIZED,
        Code::NotAMember | Code::NotAllowed | Code::Forbidden | Code::Muted | Code::Banned => StatusCode::FORBIDDEN,
        Code::UnknownRoom | Code::UnknownUser | Code::UnknownMember | Code::UnknownEvent => StatusCode::NOT_FOUND,
        Code::RoomExists | Code::RoomFull | Code::TooManyRooms | Code::TooManyReactions | Code::OutboxForgotten => {
            StatusCode::CONFLICT
        }
        Code::TooFast => StatusCode::TOO_MANY_REQUESTS,
        Code::Overloaded | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // These speak of a connection, which a request does not have.
        Code::AlreadyIdentified | Code::TooManyWatched | Code::OutboxMissing | Code::OutboxGap | Code::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct Problem {
    reason: Reason,
    detail: Cow<'static, str>,
    retry_after_seconds: Option<u64>,
}

impl Problem {
    /// The stable code.
    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.reason.parts().1
    }

    /// With a sentence of its own.
    pub(super) fn because(self, detail: impl Into<String>) -> Self {
        Problem { detail: Cow::Owned(detail.into()), ..self }
    }

    /// Worth another try after so long. The header has whole seconds (RFC 9110 §10.2.3), so it is rounded up.
    pub(super) fn retry_after(self, wait: Duration) -> Self {
        Problem { retry_after_seconds: Some(wait.as_secs() + 1), ..self }
    }

    /// A failure that is the server's fault. The log says what it was, the answer does not.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Code::Internal.into()
    }
}

impl From<Reason> for Problem {
    fn from(reason: Reason) -> Self {
        let (status, _, detail) = reason.parts();
        let retry_after_seconds = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Problem { reason, detail: Cow::Borrowed(detail), retry_after_seconds }
    }
}

impl From<Busy> for Problem {
    fn from(_: Busy) -> Self {
        Code::Overloaded.into()
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Reason::Protocol(code).into()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if !matches!(error, StoreError::Refused(_)) {
            tracing::warn!(%error, "a request failed");
        }
        error.code().into()
    }
}

/// The document as it is sent.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Problem"))]
pub(super) struct ProblemDocument<'a> {
    /// Always `about:blank`: the code tells what it is.
    #[serde(rename = "type")]
    type_: &'static str,
    /// What the status means.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// The stable code.
    code: &'static str,
    /// A sentence for a person.
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, _) = self.reason.parts();
        Metric::Errors.count_for(code);
        let title = status.canonical_reason().unwrap_or("Error");
        let detail = &self.detail;
        let document = ProblemDocument { type_: "about:blank", title, status: status.as_u16(), code, detail };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_the_page_with_its_status() {
        let page = include_str!("../../../docs/rest.md");
        let (_, values) = Metric::Errors.about().label.unwrap();
        let told = Code::ALL.into_iter().map(Reason::Protocol).filter(|reason| {
            let (status, ..) = reason.parts();
            status != StatusCode::INTERNAL_SERVER_ERROR
        });
        for reason in told.chain(Reason::OWN) {
            let (status, code, _) = reason.parts();
            assert!(values.contains(&code), "{code}");
            let row = format!("| `{code}` | {} |", status.as_u16());
            assert!(page.lines().any(|line| line.starts_with(&row)), "docs/rest.md has no row {row}");
        }
    }
}

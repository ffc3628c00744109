//! Why a REST request failed: a problem document (RFC 9457) with a stable code.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{protocol::Code, store::StoreError};

/// A request that failed.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    /// A failure of REST's own.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, code, detail: detail.into() }
    }

    /// A failure that is the server's fault. The log says what it was, the answer does not.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Code::Internal.into()
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Problem::new(status(code), code.as_str(), code.message())
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

/// The status under which a code of the protocol is told.
fn status(code: Code) -> StatusCode {
    match code {
        Code::BadFrame | Code::EmptyText | Code::TextTooLong | Code::BadText | Code::BadName => StatusCode::BAD_REQUEST,
        Code::BadToken | Code::TokenExpired | Code::NotIdentified => StatusCode::UNAUTHORIZED,
        Code::NotAMember => StatusCode::FORBIDDEN,
        Code::UnknownRoom | Code::UnknownUser => StatusCode::NOT_FOUND,
        Code::RoomExists | Code::RoomFull | Code::TooManyRooms => StatusCode::CONFLICT,
        Code::Overloaded | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // These speak of a connection, which a request does not have.
        Code::AlreadyIdentified | Code::OutboxMissing | Code::OutboxGap | Code::OutboxForgotten | Code::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The document as it is sent.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    type_: &'static str,
    title: &'a str,
    status: u16,
    code: &'static str,
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            type_: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

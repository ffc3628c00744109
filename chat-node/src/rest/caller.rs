//! Who asks: the user of the bearer token (RFC 6750), as often as is allowed.

use std::{sync::Arc, time::Instant};

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{
    Rest,
    problem::{Problem, Reason},
};
use crate::{
    auth::{Claims, TokenError},
    gateway::{bearer, now_ms},
    protocol::Code,
};

/// A user whose token was checked.
pub(super) struct Caller(pub(super) Claims);

impl FromRequestParts<Arc<Rest>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, rest: &Arc<Rest>) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).unwrap_or_default();
        let seconds = u64::try_from(now_ms() / 1000).unwrap_or(0);
        let claims = rest.gateway.tokens.verify(&token, seconds).await.map_err(|error| match error {
            TokenError::Bad => Code::BadToken,
            TokenError::Expired => Code::TokenExpired,
            TokenError::Unavailable => Code::Unavailable,
        })?;
        match rest.rates.lock().take(&claims.user, Instant::now()) {
            Ok(()) => Ok(Caller(claims)),
            // Whole seconds (RFC 9110 §10.2.3), so rounded up.
            Err(wait) => Err(Problem::from(Reason::TooManyRequests).retry_after(wait.as_secs() + 1)),
        }
    }
}

//! Who the caller is, and what is allowed.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;

use super::{Rest, caller::Caller};
use crate::protocol::LimitsFrame;

/// The caller.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Me {
    /// Who the token names.
    user: String,
    /// When the token expires, in milliseconds since 1970 UTC.
    expires: u64,
    /// Bounds that a client should know.
    limits: LimitsFrame,
}

/// `GET /me`
pub(super) async fn me(State(rest): State<Arc<Rest>>, Caller(claims): Caller) -> Json<Me> {
    let limits = rest.gateway.session_limits().told;
    Json(Me { user: claims.user.to_string(), expires: claims.expires.saturating_mul(1000), limits })
}

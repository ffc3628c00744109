//! REST under `/api/v1`: everything that is not live.
//!
//! Owns the routes, their answers and their problem documents. It has no rules of its own: what may be asked, and what follows,
//! is decided where it is decided for a WebSocket.

mod accounts;
mod problem;

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, routing::post};

use crate::gateway::Gateway;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// The routes.
pub(crate) fn router() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/v1/accounts", post(accounts::register))
        .route("/api/v1/login", post(accounts::login))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

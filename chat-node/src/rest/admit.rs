//! Whether an address may ask at all, before anything of its request is looked at.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::{Problem, Reason};
use crate::gateway::Gateway;

/// Lets a request through, or refuses it as one too many of its address.
pub(super) async fn admit(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match gateway.admit_request(peer, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(wait) => Problem::from(Reason::TooManyRequests)
            .because("too many requests come from your address: wait as long as retry-after says")
            .retry_after(wait)
            .into_response(),
    }
}

//! Which pages may call REST from a browser (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>): those of the origins that may
//! open a WebSocket. Without cookies: a token is sent by the page itself, so no page can use one that it does not have.

use std::time::Duration;

use axum::http::{HeaderName, Method, header};
use crds::node_config::Origin;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::idempotency::IDEMPOTENCY_KEY;

/// How long a browser may remember what is allowed.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// Answers browsers; nothing where no further origin is allowed, because a page of the same host does not ask.
pub(super) fn layer(allowed: &[Origin]) -> Option<CorsLayer> {
    if allowed.is_empty() {
        return None;
    }
    let allowed = allowed.to_vec();
    let origin = AllowOrigin::predicate(move |origin, _| {
        let read = origin.to_str().ok().and_then(|origin| origin.parse::<Origin>().ok());
        allowed.iter().any(|allowed| allowed.is_any() || read.as_ref() == Some(allowed))
    });
    let layer = CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static(IDEMPOTENCY_KEY)])
        .expose_headers([header::LOCATION, header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(REMEMBERED);
    Some(layer)
}

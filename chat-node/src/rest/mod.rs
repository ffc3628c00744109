//! REST under `/api/v1`: everything that is not live.
//!
//! Owns the routes, their answers and their problem documents, and the OpenAPI document that tells of them. It has no rules of its
//! own: what may be asked, and what follows, is decided where it is decided for a WebSocket.

mod accounts;
mod admit;
mod announcements;
mod ask;
mod bots;
mod caller;
mod changes;
mod cors;
mod cursors;
#[cfg(test)]
mod document;
mod idempotency;
mod input;
mod me;
mod messages;
mod operations;
mod page;
mod problem;
mod proof;
mod rooms;
mod sessions;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::header,
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::time::timeout;

use self::{
    operations::OPERATIONS,
    problem::{Problem, Reason},
};
use crate::{gateway::Gateway, metric::Metric, protocol::Code};

/// The OpenAPI document, as `make generate` has written it.
const DOCUMENT: &str = include_str!("openapi.json");

/// What all requests share.
pub(crate) struct Rest {
    gateway: Arc<Gateway>,
}

/// The routes, below `/api/v1`.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let limits = &gateway.config.limits;
    let body_bytes_max = limits.frame_bytes_max;
    let document = get(|| async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT) });
    let routes = Router::new().route("/openapi.json", document);
    let routes = OPERATIONS.iter().fold(routes, |routes, operation| routes.route(operation.path, (operation.route)()));
    let cors = cors::layer(&gateway.config.allowed_origins);
    let routes = routes
        .fallback(|| async { Problem::from(Reason::UnknownPath) })
        .method_not_allowed_fallback(|| async { Problem::from(Reason::BadMethod) })
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(from_fn(|request: Request, next: Next| in_time(next.run(request))))
        .layer(from_fn_with_state(gateway.clone(), admit::admit))
        .layer(map_response(counted))
        .with_state(Arc::new(Rest { gateway }));
    match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    }
}

/// How long an answer may take. Longer than whatever bounds itself; a question to a database that has lost its power does not.
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(30);

/// Gives up what takes too long. What it was to change may have been changed, as after any answer that is lost.
async fn in_time(answer: impl Future<Output = Response>) -> Response {
    timeout(ANSWER_SECONDS_MAX, answer).await.unwrap_or_else(|_| Problem::from(Code::Unavailable).into_response())
}

/// Counts an answer by the class of its status.
async fn counted(response: Response) -> Response {
    let class = match response.status().as_u16() {
        ..400 => "2xx",
        400..500 => "4xx",
        500.. => "5xx",
    };
    Metric::RestRequests.count_for(class);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let response = in_time(std::future::pending()).await;
        assert_eq!(response.status(), axum::http::StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}

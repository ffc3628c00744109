//! Who asks: the user of the bearer token (RFC 6750), as often as is allowed.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};

use super::{
    Rest,
    problem::{Problem, Reason},
};
use crate::{
    auth::{Claims, Role},
    gateway::bearer,
    metric::Metric,
    protocol::Code,
};

/// A user whose token was checked.
pub(super) struct Caller(pub(super) Claims);

impl FromRequestParts<Arc<Rest>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, rest: &Arc<Rest>) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).unwrap_or_default();
        let claims = rest.gateway.verify(&token).await.map_err(Code::from)?;
        match rest.gateway.admit_user(&claims.user) {
            Ok(()) => Ok(Caller(claims)),
            Err(wait) => {
                Metric::Refusals.count_for("user_requests");
                Err(Problem::from(Reason::TooManyRequests).retry_after(wait))
            }
        }
    }
}

/// Whether the caller is an administrator, with a token that is not narrowed: so no bot is one.
pub(super) fn admin(claims: &Claims) -> Result<(), Problem> {
    let is_admin = claims.rights.role == Role::Admin && !claims.rights.is_narrowed();
    let refused = || Problem::from(Code::Forbidden).because("only an administrator may, with a token without scopes");
    if is_admin { Ok(()) } else { Err(refused()) }
}

/// Where a request comes from, if that is known: the address that the limits know it by.
pub(super) struct Address(pub(super) Option<IpAddr>);

impl FromRequestParts<Arc<Rest>> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, rest: &Arc<Rest>) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Address(peer.and_then(|ConnectInfo(peer)| rest.gateway.known_address(*peer, &parts.headers))))
    }
}

//! The gateway: the edge where clients arrive.
//!
//! Owns the WebSocket's route, admission and the list of open connections. It decides nothing about chat: that is the
//! [session](crate::session)'s.

mod admission;
mod connection;
mod forwarded;
mod origin;
mod places;
mod requests;
mod server;
mod websocket;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use crds::{NodeConfig, node_config::Limits};
use parking_lot::Mutex;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

use self::{
    admission::Admission,
    connection::Connection,
    forwarded::{client_address, counted_address, limited_address},
    server::ServerLimits,
    websocket::Upgrade,
};
use crate::{
    announcements::Announcements,
    auth::{Claims, Passwords, TokenError, Tokens},
    bus::Bus,
    event::User,
    hub::{ConnectionId, Hub, Outbound},
    intake::Intake,
    logins::Logins,
    metric::Metric,
    protocol::{LimitsFrame, MENTIONS_MAX},
    rate::Rates,
    rest,
    session::SessionLimits,
    signals::Signals,
    stats::Stats,
    store::{Changed, SharedSessions, SharedStore},
    trace::Traces,
};

/// So many frames more than the largest may have are read before the connection is closed for it: closing a socket that has unread
/// bytes resets it, and the client would not hear why.
const FRAME_SIZES_READ: usize = 4;

/// Bytes of a position in `hello`, at most, with some spaces.
const POSITION_BYTES_MAX: usize = 160;

/// Sorts of rooms of which a user may be in as many each: direct rooms that the user has opened, those that others have, and all others.
const SORTS_OF_ROOMS: usize = 3;

/// How long a client may take to read an answer over REST.
const READ_SECONDS_MAX: Duration = Duration::from_secs(60);

/// How long ahead a user's turns are given. Turns of connections that are gone are not given back, so there must not be many.
const TURN_SECONDS_MAX: Duration = Duration::from_secs(10);

/// What all connections of a node share: the parts that it is made of, and its own state.
pub struct Gateway {
    parts: Parts,
    /// Passwords.
    pub passwords: Passwords,
    /// How fast each user sends.
    sending: Mutex<Rates<User>>,
    /// How fast each user asks over REST, where nobody waits.
    requesting: Mutex<Rates<User>>,
    /// How fast each user asks over connections. Apart, or those that wait for a turn would leave REST none.
    asking: Mutex<Rates<User>>,
    admission: Mutex<Admission>,
    open: Mutex<HashMap<ConnectionId, Arc<Outbound>>>,
    next: AtomicU64,
    closed_to_new: AtomicBool,
}

/// The parts that a gateway is made of.
pub struct Parts {
    /// The node's name.
    pub node: String,
    /// The configuration.
    pub config: NodeConfig,
    /// Room logs.
    pub store: SharedStore,
    /// What is kept of those who are signed in.
    pub sessions: SharedSessions,
    /// Takes sends.
    pub intake: Intake,
    /// Delivery.
    pub hub: Arc<Hub>,
    /// What is told and never stored.
    pub signals: Arc<Signals>,
    /// What everybody is told.
    pub announcements: Arc<Announcements>,
    /// Other nodes.
    pub bus: Bus,
    /// Tokens.
    pub tokens: Tokens,
    /// Who is signed in where.
    pub logins: Arc<Logins>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Follows some messages.
    pub traces: Traces,
}

impl Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Gateway {
    /// A gateway without connections.
    pub fn new(parts: Parts) -> Arc<Gateway> {
        let admission = Mutex::new(Admission::new(parts.config.addresses.clone()));
        let limits = &parts.config.limits;
        let sending = Mutex::new(Rates::new(limits.sends_per_second_max, limits.sends_burst_max));
        let requests = || Mutex::new(Rates::new(limits.requests_per_second_max, limits.requests_burst_max));
        let (requesting, asking) = (requests(), requests());
        Arc::new(Gateway {
            parts,
            passwords: Passwords::default(),
            sending,
            requesting,
            asking,
            admission,
            open: Mutex::default(),
            next: AtomicU64::new(1),
            closed_to_new: AtomicBool::new(false),
        })
    }

    /// The routes for clients.
    fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/ws", any(upgrade)).with_state(self.clone()).nest("/api/v1", rest::router(self.clone()))
    }

    /// Serves clients until `stop` is cancelled, and then answers what they have asked.
    ///
    /// # Errors
    /// When the listening socket fails.
    pub async fn serve(self: Arc<Self>, clients: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let NodeConfig { limits, addresses, .. } = &self.config;
        let bounds = ServerLimits {
            header: Duration::from_secs(limits.request_seconds),
            read: READ_SECONDS_MAX,
            sockets_max: limits.connections_max,
            address_sockets_max: addresses.web_connections_max,
        };
        let key = {
            let gateway = self.clone();
            move |peer| counted_address(peer, &gateway.config.addresses)
        };
        server::serve(clients, self.router(), bounds, key, stop).await
    }

    /// Refuses new connections from now on.
    pub fn close_to_new(&self) {
        self.closed_to_new.store(true, Ordering::Relaxed);
    }

    /// The queues of all open connections.
    pub fn connections(&self) -> Vec<Arc<Outbound>> {
        self.open.lock().values().cloned().collect()
    }

    /// Tells this node and others of changed memberships.
    pub fn publish(&self, changed: &Changed) {
        let mut events = changed.events.clone();
        self.traces.mark(&mut events);
        self.bus.publish_memberships(&changed.memberships);
        self.bus.publish_events(&events);
        for membership in &changed.memberships {
            self.hub.change(membership);
        }
        self.signals.change(&changed.memberships);
        self.hub.deliver(events);
    }

    /// Checks a token, and that its login was not ended.
    ///
    /// # Errors
    /// As [`Tokens::verify`].
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let now_ms = now_ms();
        let claims = self.tokens.verify(token, u64::try_from(now_ms / 1000).unwrap_or(0)).await?;
        let Some(login) = claims.login else { return Ok(claims) };
        match self.logins.is_good(login, now_ms).await {
            Ok(true) => Ok(claims),
            Ok(false) => Err(TokenError::Bad),
            // Said once for all who asked together.
            Err(_) => Err(TokenError::Unavailable),
        }
    }

    /// The address of whoever asks, as far as it is known.
    pub(crate) fn client_address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        client_address(peer.ip(), headers, &self.config.addresses)
    }

    /// The same, unless it is that of a proxy which nobody has named.
    pub(crate) fn known_address(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<IpAddr> {
        self.known(self.client_address(peer, headers))
    }

    /// What is kept of a client's address: an IPv6 host is known by its network, wherever it signs in or connects.
    fn known(&self, address: IpAddr) -> Option<IpAddr> {
        self.config.addresses.enforced.then(|| limited_address(address))
    }

    /// Takes a REST request of an address.
    ///
    /// # Errors
    /// How long to wait before the next has a chance.
    pub(crate) fn admit_request(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Duration> {
        let address = self.client_address(peer, headers);
        self.admission.lock().request(address, Instant::now()).map_err(|(refusal, wait)| {
            Metric::Refusals.count_for(refusal.as_str());
            wait
        })
    }

    /// Takes a REST request of a user.
    ///
    /// # Errors
    /// How long to wait before the next has a chance.
    pub(crate) fn admit_user(&self, user: &User) -> Result<(), Duration> {
        self.requesting.lock().take(user, Instant::now())
    }

    /// Takes a request of a user over a connection, if nothing of the user's has to wait.
    fn has_turn(&self, user: &User) -> bool {
        self.asking.lock().take(user, Instant::now()).is_ok()
    }

    /// Waits until a user may ask for something more over a connection. However many a user has, nobody else waits.
    async fn turn(&self, user: &User) {
        loop {
            let turn = self.asking.lock().reserve(user, Instant::now(), TURN_SECONDS_MAX);
            match turn {
                Ok(wait) => return sleep(wait).await,
                Err(wait) => sleep(wait).await,
            }
        }
    }

    /// What sessions need of the configuration.
    pub(crate) fn session_limits(&self) -> SessionLimits {
        let limits = &self.config.limits;
        let told = LimitsFrame {
            text_bytes: limits.text_bytes_max,
            outstanding: limits.requests_outstanding_max,
            history_events: limits.history_events_max,
            mentions: MENTIONS_MAX,
            outbox_days: self.config.retention.outbox_days,
        };
        SessionLimits { told, replay_events_max: limits.replay_events_max }
    }
}

/// `GET /ws`
async fn upgrade(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    let upgrade = match Upgrade::new(&mut request) {
        Ok(upgrade) => upgrade,
        Err(bad) => return bad.into_response(),
    };
    if gateway.closed_to_new.load(Ordering::Relaxed) {
        return refuse("the node is leaving");
    }
    if !origin::is_allowed(request.headers(), &gateway.config.allowed_origins) {
        Metric::Refusals.count_for("origin");
        return (StatusCode::FORBIDDEN, "a page of this origin may not connect: its operator has to allow it\n")
            .into_response();
    }
    if gateway.open.lock().len() >= gateway.config.limits.connections_max {
        Metric::Refusals.count_for("node_connections");
        return refuse("the node has as many connections as it may");
    }
    let ip = gateway.client_address(peer, request.headers());
    if let Err(refusal) = gateway.admission.lock().admit(ip, Instant::now()) {
        Metric::Refusals.count_for(refusal.as_str());
        return (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, "10")],
            "too many connections from your address\n",
        )
            .into_response();
    }
    let admitted = Admitted { gateway: gateway.clone(), ip, client: None };
    let token = bearer(request.headers());
    let limits = &gateway.config.limits;
    let message_bytes_max = hello_bytes_max(limits) + FRAME_SIZES_READ * limits.frame_bytes_max;
    upgrade.accept(move |stream| async move {
        let (socket, mut websocket) = stream.split(message_bytes_max);
        Connection::new(gateway, admitted, token, socket).run(&mut websocket).await;
    })
}

fn refuse(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{why}\n")).into_response()
}

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// A place among the connections of an address, given back when dropped.
struct Admitted {
    gateway: Arc<Gateway>,
    ip: IpAddr,
    client: Option<crate::protocol::ClientType>,
}

impl Admitted {
    /// The client has named its type.
    fn identify(&mut self, client: crate::protocol::ClientType) -> Result<(), admission::Refusal> {
        self.gateway.admission.lock().identify(self.ip, client, Instant::now())?;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.gateway.admission.lock().leave(self.ip, self.client);
    }
}

/// Bytes of `hello`, at most: whoever is in as many rooms as one may be names a position in each of them.
fn hello_bytes_max(limits: &Limits) -> usize {
    limits.frame_bytes_max + POSITION_BYTES_MAX * SORTS_OF_ROOMS * limits.rooms_per_user_max
}

/// Milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

//! The HTTP server: takes sockets and gives their requests to the router, with a limit on what a socket may do before it has asked
//! for anything.
//!
//! A WebSocket leaves it with its upgrade. It decides nothing about requests.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::metric::Metric;

/// Time to wait when the system has no socket to give: accepting again at once would fail again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerLimits {
    /// Time in which the header of a request has to be there; a socket that is silent for so long is closed.
    pub header: Duration,
    /// Sockets that are not WebSockets (yet).
    pub sockets_max: usize,
}

/// Serves until `stop` is cancelled, then answers what was asked and ends.
pub(crate) async fn serve(
    clients: TcpListener,
    router: Router,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.sockets_max));
    let mut sockets = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = sockets.join_next() => {}
            accepted = clients.accept() => match accepted {
                Ok((socket, peer)) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let talk = talk(socket, peer, router.clone(), limits.header, stop.clone());
                        sockets.spawn(async move {
                            talk.await;
                            drop(place);
                        });
                    }
                    Err(_) => Metric::Refusals.count_for("node_sockets"),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
    // Whoever comes now goes elsewhere at once.
    drop(clients);
    while sockets.join_next().await.is_some() {}
    Ok(())
}

/// The requests of one socket.
async fn talk(socket: TcpStream, peer: SocketAddr, router: Router, header: Duration, stop: CancellationToken) {
    // A frame is written whole, so waiting for more of it would only delay it.
    let _ = socket.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let has_asked = Arc::new(AtomicBool::new(false));
    let asks = has_asked.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(header);
    let connection = http.serve_connection(TokioIo::new(socket), service).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        // Whoever asked before and then is silent has only kept the connection for later.
        Err(error) if error.is_timeout() && !has_asked.load(Ordering::Relaxed) => {
            Metric::Refusals.count_for("slow_request")
        }
        Err(error) => tracing::trace!(%error, "a connection ended"),
        Ok(()) => {}
    }
}

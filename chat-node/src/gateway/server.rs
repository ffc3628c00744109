//! The HTTP server: takes sockets and gives their requests to the router, with a limit on what a socket may do before it has asked
//! for anything.
//!
//! A WebSocket leaves it with its upgrade. It decides nothing about requests.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
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
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::places::Places;
use crate::metric::Metric;

/// Time to wait when the system has no socket to give: accepting again at once would fail again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerLimits {
    /// Time in which the header of a request has to be there; a socket that is silent for so long is closed.
    pub header: Duration,
    /// Time in which an answer has to be read; who takes longer keeps the socket from others.
    pub read: Duration,
    /// Sockets that are not WebSockets (yet).
    pub sockets_max: usize,
    /// Those of one address.
    pub address_sockets_max: usize,
}

/// Serves until `stop` is cancelled, then answers what was asked and ends. `key` tells the address that a peer counts for, if any.
pub(crate) async fn serve(
    clients: TcpListener,
    router: Router,
    limits: ServerLimits,
    key: impl Fn(IpAddr) -> Option<IpAddr>,
    stop: CancellationToken,
) -> io::Result<()> {
    let places = Places::new(limits.sockets_max, limits.address_sockets_max);
    let mut sockets = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = sockets.join_next() => {}
            accepted = clients.accept() => match accepted {
                Ok((socket, peer)) => match places.take(key(peer.ip())) {
                    Ok(place) => {
                        let talk = talk(socket, peer, router.clone(), limits, stop.clone());
                        sockets.spawn(async move {
                            talk.await;
                            drop(place);
                        });
                    }
                    Err(refusal) => Metric::Refusals.count_for(refusal),
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

/// Where a socket is between two requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has not asked yet.
    New,
    /// It waits for an answer.
    Asking,
    /// It has had the beginning of one since then.
    Answered(Instant),
}

/// The requests of one socket.
async fn talk(socket: TcpStream, peer: SocketAddr, router: Router, limits: ServerLimits, stop: CancellationToken) {
    // A frame is written whole, so waiting for more of it would only delay it.
    let _ = socket.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let (stage, mut stages) = watch::channel(Stage::New);
    let stage = Arc::new(stage);
    let tells = stage.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let tells = tells.clone();
        tells.send_replace(Stage::Asking);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            tells.send_replace(Stage::Answered(Instant::now()));
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header);
    let connection = http.serve_connection(TokioIo::new(socket), service).with_upgrades();
    tokio::pin!(connection);
    let served = async {
        tokio::select! {
            ended = &mut connection => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = tokio::select! {
        ended = served => ended,
        // An answer that was read is followed by the header of another request, or by the end.
        () = unread(&mut stages, limits.read + limits.header) => return Metric::Refusals.count_for("slow_reader"),
    };
    match ended {
        // Whoever asked before and then is silent has only kept the connection for later.
        Err(error) if error.is_timeout() && *stage.borrow() == Stage::New => Metric::Refusals.count_for("slow_request"),
        Err(error) => tracing::trace!(%error, "a connection ended"),
        Ok(()) => {}
    }
}

/// Waits until an answer is not read for so long.
async fn unread(stages: &mut watch::Receiver<Stage>, patience: Duration) {
    loop {
        let stage = *stages.borrow_and_update();
        let overdue = async {
            match stage {
                Stage::Answered(since) => sleep_until(since + patience).await,
                Stage::New | Stage::Asking => pending().await,
            }
        };
        tokio::select! {
            () = overdue => return,
            changed = stages.changed() => if changed.is_err() {
                // Nobody answers any more.
                return pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    const ENOUGH: Duration = Duration::from_secs(30);

    /// A server whose only answer no socket takes in one go.
    async fn server(stop: &CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<io::Result<()>>) {
        let clients = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = clients.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { vec![b'.'; 64 << 20] }));
        let moment = Duration::from_millis(300);
        let limits = ServerLimits { header: moment, read: moment, sockets_max: 2, address_sockets_max: 1 };
        (address, tokio::spawn(serve(clients, router, limits, Some, stop.clone())))
    }

    async fn ask(address: SocketAddr) -> TcpStream {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nhost: chat\r\n\r\n").await.unwrap();
        socket
    }

    #[tokio::test]
    async fn who_does_not_read_an_answer_keeps_no_place() {
        let stop = CancellationToken::new();
        let (address, _) = server(&stop).await;
        let _silent = ask(address).await;
        // Its address has no other place: somebody else is answered when the server has given up on it.
        let answered = async {
            loop {
                let mut first = [0];
                if let Ok(1) = ask(address).await.read(&mut first).await {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(ENOUGH, answered).await.expect("the place was given back");
    }

    #[tokio::test]
    async fn who_does_not_read_an_answer_does_not_hold_up_the_end() {
        let stop = CancellationToken::new();
        let (address, served) = server(&stop).await;
        let mut silent = ask(address).await;
        silent.read_exact(&mut [0; 16]).await.unwrap();
        stop.cancel();
        timeout(ENOUGH, served).await.expect("it ends").unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_reads_slowly_but_steadily_gets_the_whole_answer() {
        let stop = CancellationToken::new();
        let (address, _) = server(&stop).await;
        let mut all = Vec::new();
        let read = async { ask(address).await.take(64 << 20).read_to_end(&mut all).await };
        timeout(ENOUGH, read).await.expect("in time").unwrap();
        assert_eq!(all.len(), 64 << 20);
    }
}

//! The WebSocket below a connection: the upgrade, and reading.
//!
//! The raw stream is taken out of the HTTP server after the upgrade, so that nothing but small buffers is kept for an idle connection
//! and others may write to its socket. Reading is tungstenite's; what it answers by itself goes out through the connection's queue.

use std::{
    future::poll_fn,
    io::{self, IoSlice, Read, Write},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use axum_tungstenite::{
    Error, Message,
    error::ProtocolError,
    handshake::derive_accept_key,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext},
};
use futures::{FutureExt, future::BoxFuture};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    hub::{Outbound, Socket},
    protocol::{Frames, SUBPROTOCOL},
};

/// Bytes that one read asks for. Small, because most connections are idle; a larger frame grows the buffer for its time.
const READ_BUFFER_BYTES: usize = 512;

/// An upgrade that was accepted: the answer to give, and the socket that there will be.
pub(super) struct Upgrade {
    on_upgrade: OnUpgrade,
    accept: HeaderValue,
    subprotocol: bool,
}

impl Upgrade {
    /// Checks the request (RFC 6455 §4.2.1).
    ///
    /// # Errors
    /// What is wrong, to be answered.
    pub(super) fn new(request: &mut Request) -> Result<Self, BadUpgrade> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return Err(BadUpgrade::Method);
        }
        if !lists(headers, header::CONNECTION, "upgrade") || !lists(headers, header::UPGRADE, "websocket") {
            return Err(BadUpgrade::NoWebSocket);
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(BadUpgrade::Version);
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
        let accept = key.and_then(|key| HeaderValue::from_str(&key).ok()).ok_or(BadUpgrade::Key)?;
        let subprotocol = lists(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or(BadUpgrade::NoWebSocket)?;
        Ok(Upgrade { on_upgrade, accept, subprotocol })
    }

    /// Answers, and runs the connection once the answer is out.
    pub(super) fn accept<F: Future<Output = ()> + Send>(
        self,
        run: impl FnOnce(Stream) -> F + Send + 'static,
    ) -> Response {
        let Upgrade { on_upgrade, accept, subprotocol } = self;
        tokio::spawn(async move {
            let stream = match on_upgrade.await {
                Ok(upgraded) => Stream::take(upgraded),
                Err(error) => return tracing::debug!(%error, "an upgrade failed"),
            };
            match stream {
                Ok(stream) => Box::pin(run(stream)).await,
                Err(error) => tracing::debug!(%error, "an upgraded connection is gone"),
            }
        });
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        response
    }
}

/// What is wrong with a request for an upgrade.
#[derive(Clone, Copy, Debug)]
pub(super) enum BadUpgrade {
    Method,
    NoWebSocket,
    Version,
    Key,
}

impl IntoResponse for BadUpgrade {
    fn into_response(self) -> Response {
        let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
        let (status, why) = match self {
            BadUpgrade::Method => (StatusCode::METHOD_NOT_ALLOWED, "a WebSocket begins with GET\n"),
            BadUpgrade::NoWebSocket => {
                (StatusCode::UPGRADE_REQUIRED, "ask for a WebSocket: Connection: Upgrade, Upgrade: websocket\n")
            }
            BadUpgrade::Version => (StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13\n"),
            BadUpgrade::Key => (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing\n"),
        };
        (status, version, why).into_response()
    }
}

/// Whether a comma-separated header lists this token, in whatever case.
fn lists(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// An upgraded stream, and what was read of it already.
pub(super) struct Stream {
    tcp: TcpStream,
    begun: Vec<u8>,
}

impl Stream {
    /// Takes the stream out of the HTTP server, and leaves nothing of that behind: even an empty rest of what it read would keep its
    /// whole buffer.
    fn take(upgraded: Upgraded) -> io::Result<Self> {
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| io::Error::other("no TCP stream"))?;
        let tcp = parts.io.into_inner();
        tcp.set_nodelay(true)?;
        Ok(Stream { tcp, begun: parts.read_buf.to_vec() })
    }

    /// Divides it: the way out for everybody, the way in for the connection's task.
    pub(super) fn split(self, message_bytes_max: usize) -> (Arc<dyn Socket>, WebSocket) {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            // What tungstenite answers is handed on at once.
            .write_buffer_size(0)
            .max_frame_size(Some(message_bytes_max))
            .max_message_size(Some(message_bytes_max));
        let tcp = Arc::new(self.tcp);
        let context = WebSocketContext::from_partially_read(self.begun, Role::Server, Some(config));
        (tcp.clone(), WebSocket { context, tcp })
    }
}

/// The way in.
pub(super) struct WebSocket {
    context: WebSocketContext,
    tcp: Arc<TcpStream>,
}

impl WebSocket {
    /// The next message. Pings are answered on the way.
    pub(super) async fn next(&mut self, outbound: &Outbound) -> Result<Message, Error> {
        poll_fn(|task| {
            let mut io = Io { tcp: &self.tcp, outbound, task };
            match self.context.read(&mut io) {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            }
        })
        .await
    }

    /// Says why the connection ends, or answers the peer that said so; then waits until the peer has heard it.
    pub(super) async fn close(&mut self, frame: Option<CloseFrame>, outbound: &Outbound) -> Result<(), Error> {
        let closing = poll_fn(|task| {
            let mut io = Io { tcp: &self.tcp, outbound, task };
            Poll::Ready(self.context.close(&mut io, frame.clone()))
        });
        match closing.await {
            Ok(()) => {}
            // The peer closed first, and now has its answer.
            Err(Error::ConnectionClosed) => return Ok(outbound.written().await?),
            Err(error) => return Err(error),
        }
        outbound.written().await?;
        loop {
            match self.next(outbound).await {
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What tungstenite reads from and writes to, within one poll.
struct Io<'a, 'b> {
    tcp: &'a TcpStream,
    outbound: &'a Outbound,
    task: &'a mut Context<'b>,
}

impl Read for Io<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tcp.poll_read_ready(self.task) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            }
            match self.tcp.try_read(buffer) {
                // It was not ready after all; the next look has the task woken.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

impl Write for Io<'_, '_> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        let frames = Frames::encoded(frame);
        // Whoever goes on pinging would else keep a connection that is to be closed.
        if frames.is_pong() {
            self.outbound.send(frames)
        } else {
            self.outbound.push_last(frames)
        }
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for TcpStream {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [one] => self.try_write(one),
            pieces => self.try_write_vectored(pieces),
        }
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        self.writable().boxed()
    }
}

//! One WebSocket connection: the upgrade, frames out, frames in. Knows no meaning of a frame.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::End;
use crate::{
    dial::{Dial, Stream},
    frame::{Frame, Request, SUBPROTOCOL},
};

/// A connection is made by then, or the attempt has failed.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A frame is written by then, or the connection is dead.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// The server answers a close by then, or is left without.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// A client among many needs no more.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// An open WebSocket.
pub(super) struct Link {
    socket: WebSocketStream<Box<dyn Stream>>,
    /// When the other side is given up unless something is heard, and how long that is after the last sign of life.
    silence: (Instant, Duration),
}

impl Link {
    /// Connects. A server that sends nothing at all, not even a ping, for `silence` counts as gone.
    pub(super) async fn open(dial: &dyn Dial, silence: Duration) -> Result<Self, End> {
        let opened = timeout(CONNECT_WITHIN, Self::upgrade(dial)).await;
        let socket = opened.map_err(|_| End::Lost(format!("no upgrade within {CONNECT_WITHIN:?}")))??;
        Ok(Link { socket, silence: (Instant::now() + silence, silence) })
    }

    async fn upgrade(dial: &dyn Dial) -> Result<WebSocketStream<Box<dyn Stream>>, End> {
        let stream = dial.dial().await.map_err(|error| End::Lost(error.to_string()))?;
        let mut request = "ws://chatcluster/ws".into_client_request().map_err(end)?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(SUBPROTOCOL));
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(end)?;
        Ok(socket)
    }

    /// Writes frames; all have left when it returns.
    pub(super) async fn write(&mut self, requests: impl Iterator<Item = Request>) -> Result<(), End> {
        let written = timeout(WRITE_WITHIN, async {
            for request in requests {
                let text = serde_json::to_string(&request).map_err(|error| End::Lost(error.to_string()))?;
                self.socket.feed(Message::text(text)).await.map_err(end)?;
            }
            self.socket.flush().await.map_err(end)
        });
        written.await.map_err(|_| End::Lost(format!("could not write for {WRITE_WITHIN:?}")))?
    }

    /// The next frame. May be dropped and called again.
    pub(super) async fn read(&mut self) -> Result<Frame, End> {
        loop {
            let (deadline, allowed) = self.silence;
            let message = timeout_at(deadline, self.socket.next()).await.map_err(|_| End::Silent)?;
            self.silence.0 = Instant::now() + allowed;
            match message {
                None => return Err(End::Lost("the connection ended without a close".into())),
                Some(Err(error)) => return Err(end(error)),
                Some(Ok(Message::Close(close))) => {
                    let (code, reason) =
                        close.map_or((1005, String::new()), |close| (close.code.into(), close.reason.to_string()));
                    return Err(End::Closed { code, reason, after_ms: None });
                }
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text)
                        .map_err(|error| End::Lost(format!("unreadable frame: {error}: {text}")));
                }
                // Pings are answered by the library; a binary frame is of a later version of the protocol.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
            }
        }
    }

    /// Says goodbye and waits a moment for the answer.
    pub(super) async fn close(mut self) {
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let closing = async {
            self.socket.close(Some(goodbye)).await?;
            while self.socket.next().await.transpose()?.is_some() {}
            Ok::<_, Error>(())
        };
        // Whether the server answers in time does not matter: the stream is dropped next.
        let _ = timeout(CLOSE_WITHIN, closing).await;
    }

    /// Breaks the connection without a word, as a lost network does.
    pub(super) fn cut(self) {
        drop(self.socket);
    }
}

fn end(error: Error) -> End {
    match error {
        Error::Http(response) => End::Refused(response.status().as_u16()),
        error => End::Lost(error.to_string()),
    }
}

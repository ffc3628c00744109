//! A client as short as the protocol's page allows: a WebSocket and JSON, nothing of the client library.

use std::{net::SocketAddr, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

/// What is to come comes within this time.
const WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Wire {
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
}

impl Wire {
    /// Upgrades, with an `Authorization` header if there is a token for it.
    pub(crate) async fn upgrade(address: SocketAddr, bearer: Option<&str>) -> Result<Self, Error> {
        Self::over(TcpStream::connect(address).await.map_err(Error::Io)?, address, bearer).await
    }

    /// The same over a connection that is there.
    pub(crate) async fn over(stream: TcpStream, address: SocketAddr, bearer: Option<&str>) -> Result<Self, Error> {
        let mut request = format!("ws://{address}/ws").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chatcluster.v1"));
        if let Some(bearer) = bearer {
            request.headers_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        }
        let (socket, _) = client_async(request, stream).await?;
        Ok(Wire { socket, last_id: 0 })
    }

    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::upgrade(address, None).await.unwrap()
    }

    /// Connects, says hello with these further fields, and gives the welcome too.
    pub(crate) async fn hello(address: SocketAddr, token: &str, further: Value) -> (Self, Value) {
        let mut wire = Self::open(address).await;
        let mut hello = json!({"type": "hello", "token": token});
        hello.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        wire.say(hello).await;
        let welcome = wire.hear().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        (wire, welcome)
    }

    pub(crate) async fn say(&mut self, frame: Value) {
        self.say_raw(Message::text(frame.to_string())).await;
    }

    pub(crate) async fn say_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next frame.
    pub(crate) async fn hear(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?} came instead of a frame"),
        }
    }

    /// The next frame of this type; others are passed over.
    pub(crate) async fn hear_a(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.hear().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Says a request under the next `id`, and gives the frame that answers it. Others are passed over.
    pub(crate) async fn ask(&mut self, mut request: Value) -> Value {
        self.last_id += 1;
        request["id"] = self.last_id.into();
        self.say(request).await;
        loop {
            let frame = self.hear().await;
            if frame["id"] == self.last_id {
                return frame;
            }
        }
    }

    /// The code that the server closes with. Frames before it are passed over.
    pub(crate) async fn hear_close(&mut self) -> u16 {
        loop {
            if let Message::Close(close) = self.next().await {
                return close.map_or(1005, |close| close.code.into());
            }
        }
    }

    /// All frames that come before the server closes, and the code that it closes with.
    pub(crate) async fn hear_out(&mut self) -> (Vec<Value>, u16) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Message::Text(text) => frames.push(serde_json::from_str(&text).unwrap()),
                Message::Close(close) => return (frames, close.map_or(1005, |close| close.code.into())),
                other => panic!("{other:?} came instead of a frame"),
            }
        }
    }

    /// Gives up the WebSocket for the bare bytes below it.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.socket.into_inner()
    }

    async fn next(&mut self) -> Message {
        loop {
            let next = timeout(WITHIN, self.socket.next()).await;
            let message = next.expect("nothing came in time").expect("the connection ended").unwrap();
            if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                return message;
            }
        }
    }
}

//! A node on SQLite, and clients that need not behave.

use std::time::Duration;

use axum::http::Method;
use axum_tungstenite::{Error, Message, client::IntoClientRequest};
use chat_load::{
    dial::Tcp,
    rest::{self, Call, SignedIn},
};
use crds::{NodeConfig, node_config::Store};
use futures::{SinkExt, StreamExt};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::WebSocketStream;
use uuid::Uuid;

use crate::running::{PATIENCE, Running, loopback};

/// Bytes that the system keeps for a client that does not read.
const UNREAD_BYTES: u32 = 4_096;

/// A node with a database of its own.
pub(crate) struct Ground {
    pub(crate) node: Running,
    folder: tempfile::TempDir,
}

impl Ground {
    pub(crate) async fn start(change: impl FnOnce(&mut NodeConfig)) -> Ground {
        let folder = tempfile::tempdir().unwrap();
        let mut config = loopback();
        config.store = Store::Sqlite { path: folder.path().join("chat.db") };
        let key = folder.path().join("key");
        std::fs::write(&key, "a secret for the only node of a test").unwrap();
        config.auth.key_file = Some(key);
        change(&mut config);
        let node = Running::start(0, config, PrometheusBuilder::new().build_recorder().handle()).await;
        Ground { node, folder }
    }

    /// Keeps the node from writing to its database until it is committed.
    pub(crate) async fn lock(&self) -> sqlx::SqliteTransaction<'static> {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join("chat.db"));
        let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
        pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    pub(crate) fn address(&self) -> &str {
        self.node.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn dial(&self) -> Tcp {
        Tcp::new(&[&self.node.url], 0).unwrap()
    }

    /// Makes an account and signs in.
    pub(crate) async fn sign_in(&self, user: &str) -> SignedIn {
        let dial = self.dial();
        let registered = async {
            // The node may still be making its database.
            while rest::register(&dial, user, "correct horse").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, registered).await.unwrap();
        rest::sign_in(&dial, user, "correct horse").await.unwrap()
    }

    /// Ends all sessions of whoever has the token.
    pub(crate) async fn sign_out(&self, token: &str) {
        let call = Call { method: Method::DELETE, path: "/api/v1/sessions", token: Some(token), ..Call::default() };
        assert_eq!(rest::call(&self.dial(), &call).await.unwrap().status, 204);
    }

    /// A connection of whoever has the token.
    pub(crate) async fn hello(&self, token: &str) -> Wire {
        self.resume(token, json!([])).await
    }

    /// Likewise, with positions in rooms.
    pub(crate) async fn resume(&self, token: &str, resume: Value) -> Wire {
        self.connect(token, resume, None).await
    }

    /// Likewise, through a proxy that speaks for an address.
    pub(crate) async fn connect(&self, token: &str, resume: Value, forwarded_for: Option<&str>) -> Wire {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(UNREAD_BYTES).unwrap();
        let address = self.address();
        let stream = socket.connect(address.parse().unwrap()).await.unwrap();
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "chatcluster.v1".parse().unwrap());
        if let Some(forwarded_for) = forwarded_for {
            request.headers_mut().insert("x-forwarded-for", forwarded_for.parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let mut wire = Wire { socket, last_id: 0, last_n: 0, read: Vec::new() };
        wire.say(json!({"type": "hello", "token": token, "outbox": Uuid::new_v4(), "resume": resume})).await;
        wire.until(|frame| frame["type"] == "welcome").await;
        wire
    }
}

/// A client that reads when it is told to.
pub(crate) struct Wire {
    pub(crate) socket: WebSocketStream<TcpStream>,
    last_id: u64,
    last_n: i64,
    /// All that was read.
    pub(crate) read: Vec<Value>,
}

impl Wire {
    pub(crate) async fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Asks and does not wait.
    pub(crate) async fn request(&mut self, mut request: Value) -> u64 {
        self.last_id += 1;
        request["id"] = self.last_id.into();
        self.say(request).await;
        self.last_id
    }

    pub(crate) async fn ask(&mut self, request: Value) -> Value {
        let id = self.request(request).await;
        self.until(|frame| frame["id"] == id).await
    }

    /// Sends a message and does not wait.
    pub(crate) async fn send(&mut self, room: &Value, text: &str) -> u64 {
        self.last_n += 1;
        self.request(json!({"type": "send", "n": self.last_n, "room": room, "text": text})).await
    }

    /// The next frame that is looked for.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    self.read.push(frame.clone());
                    if wanted(&frame) {
                        return frame;
                    }
                }
            }
        };
        timeout(PATIENCE, found).await.expect("nothing of that kind came in time")
    }

    /// Hears a message.
    pub(crate) async fn hears(&mut self, text: &str) {
        self.until(|frame| frame["text"] == text).await;
    }

    /// Closes, and waits until the node has closed too.
    pub(crate) async fn leave(mut self) {
        self.socket.close(None).await.unwrap();
        while self.socket.next().await.is_some_and(|read| read.is_ok()) {}
    }

    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        self.socket.send(Message::Ping(Default::default())).await
    }
}

//! The self-test: the node signs in at its own address, sends, receives and resumes, as two clients would.
//!
//! It goes through everything that a client's message goes through: the socket, the session, the store, the hub; and looks at whether the
//! bus carries. The operator asks for it before it leads a client here. It talks in a direct room of two reserved users, whose names no
//! built-in account can have, and it must never touch another room.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crds::node_status::SelfTest;
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};
use uuid::Uuid;

use crate::{gateway::Gateway, protocol::SUBPROTOCOL};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who talks to whom. The names begin as [`OWN_USERS`](crate::event::OWN_USERS) says.
const SENDER: &str = "self-test/sender";
const RECEIVER: &str = "self-test/receiver";

/// Has the node test itself, and remembers how it went.
pub struct SelfTester {
    gateway: Arc<Gateway>,
    address: SocketAddr,
    last: Mutex<Option<SelfTest>>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
}

/// The step that failed, and why.
type Failed = (&'static str, String);

impl SelfTester {
    /// Tests the node that listens for clients at this address.
    pub fn new(gateway: Arc<Gateway>, address: SocketAddr) -> Self {
        SelfTester { gateway, address: reachable(address), last: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// How the last one went.
    pub fn last(&self) -> Option<SelfTest> {
        self.last.lock().clone()
    }

    /// Runs one.
    pub async fn run(&self) -> SelfTest {
        let _turn = self.turn.lock().await;
        let began = Instant::now();
        let ended = timeout(PATIENCE, self.talk()).await;
        let ended = ended.unwrap_or_else(|_| Err(("time", format!("it took longer than {} s", PATIENCE.as_secs()))));
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut last = self.last.lock();
        let before = last.as_ref().map_or(0, |last| last.failures);
        let test = match ended {
            Ok(()) => SelfTest { passed: true, took_ms, ..SelfTest::default() },
            Err((step, error)) => {
                tracing::warn!(step, error, "the self-test has failed");
                SelfTest { passed: false, failures: before.saturating_add(1), step: step.into(), error, took_ms }
            }
        };
        *last = Some(test.clone());
        test
    }

    async fn talk(&self) -> Result<(), Failed> {
        let at = |step: &'static str| move |error: String| (step, error);
        let mut receiver = self.sign_in(RECEIVER, None).await.map_err(at("sign_in"))?;
        let mut sender = self.sign_in(SENDER, None).await.map_err(at("sign_in"))?;
        sender.say(json!({"type": "direct", "id": 1, "user": RECEIVER})).await.map_err(at("send"))?;
        let room = sender.hear(|frame| frame["type"] == "room" && frame["id"] == 1).await.map_err(at("send"))?;
        let room = room["room"]["id"].clone();

        let first = sender.send(1, &room).await.map_err(at("send"))?;
        receiver.hear_event(&first).await.map_err(at("delivery"))?;
        drop(receiver);
        let second = sender.send(2, &room).await.map_err(at("send"))?;
        let mut receiver = self.sign_in(RECEIVER, Some(&first)).await.map_err(at("resume"))?;
        receiver.hear_event(&second).await.map_err(at("resume"))?;

        while !self.gateway.bus.is_up() {
            // The time of the whole bounds this.
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// A client that has said hello and was welcomed.
    async fn sign_in(&self, user: &str, seen: Option<&Value>) -> Result<Talker, String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (token, _) = self.gateway.tokens.sign(user, now).map_err(|error| error.to_string())?;
        let mut request =
            format!("ws://{}/ws", self.address).into_client_request().map_err(|error| error.to_string())?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        let (socket, _) = client_async(request, stream).await.map_err(|error| error.to_string())?;
        let mut talker = Talker { socket };
        let position = |seen: &Value| json!([{"room": seen["room"], "epoch": seen["epoch"], "seq": seen["seq"], "event": seen["event"]}]);
        let resume = seen.map_or_else(|| json!([]), position);
        talker.say(json!({"type": "hello", "token": token, "outbox": Uuid::new_v4(), "resume": resume})).await?;
        talker.hear(|frame| frame["type"] == "welcome").await?;
        Ok(talker)
    }
}

/// One of the two.
struct Talker {
    socket: WebSocketStream<TcpStream>,
}

impl Talker {
    async fn say(&mut self, frame: Value) -> Result<(), String> {
        self.socket.send(Message::text(frame.to_string())).await.map_err(|error| error.to_string())
    }

    /// Says something in a room and waits until it is committed. Returns the `committed` frame.
    async fn send(&mut self, n: u64, room: &Value) -> Result<Value, String> {
        let text = format!("self-test {}", Uuid::new_v4());
        self.say(json!({"type": "send", "n": n, "room": room, "text": text})).await?;
        self.hear(|frame| frame["type"] == "committed" && frame["n"] == n).await
    }

    async fn hear_event(&mut self, committed: &Value) -> Result<Value, String> {
        self.hear(|frame| frame["type"] == "event" && frame["event"] == committed["event"]).await
    }

    /// Waits for a frame; an error frame or a close is not waited out.
    async fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, String> {
        loop {
            let message = self.socket.next().await.ok_or("the connection ended")?.map_err(|error| error.to_string())?;
            let text = match message {
                Message::Text(text) => text,
                Message::Close(frame) => return Err(format!("the connection was closed: {frame:?}")),
                _ => continue,
            };
            let frame: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            if frame["type"] == "error" {
                return Err(format!("{}: {}", frame["code"].as_str().unwrap_or_default(), frame["message"]));
            }
            if wanted(&frame) {
                return Ok(frame);
            }
        }
    }
}

/// Where a node that listens everywhere is reached from within.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

//! What is told and never stored, between two real nodes: presence, also when a node dies, typing, and read cursors.
//!
//! Each node has a runtime of its own, so that one can end as a killed process does: at once, with everything it was about to do.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use axum_tungstenite::{Message, WebSocket, client::IntoClientRequest};
use chat_node::{Identity, Node};
use crds::{
    NodeConfig,
    node_config::{Bus, Endpoint, Store},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use services::Services;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

const KEY: &str = "a secret for two nodes of one test, long enough for the longest of the hashes";

/// A node in a runtime of its own.
struct Running {
    address: SocketAddr,
    runtime: Runtime,
}

fn start(number: usize, postgres: &str, rabbitmq: &str, key: &Path) -> Running {
    let mut config = NodeConfig::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.listen.client, config.listen.admin) = (any, any);
    let endpoint: Endpoint = Endpoint::Url(postgres.into());
    config.store = Store::Postgres { endpoint, pool_connections_max: 3 };
    config.bus = Bus::Rabbitmq { endpoint: Endpoint::Url(rabbitmq.into()) };
    config.auth.key_file = Some(key.into());
    config.addresses.enforced = false;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let identity = Identity { node: format!("node-{number}"), revision: String::new() };
    let node = runtime.block_on(Node::start(config, identity, metrics)).unwrap();
    let address = node.client_address().unwrap();
    runtime.spawn(node.run(CancellationToken::new()));
    Running { address, runtime }
}

/// A client as short as the protocol's page allows.
struct Wire {
    socket: WebSocket<TcpStream>,
    last_id: u64,
}

impl Wire {
    /// Connects and says hello, again while the node waits for its database.
    fn hello(node: &Running, user: &str) -> Wire {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stream = TcpStream::connect(node.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut request = format!("ws://{}/ws", node.address).into_client_request().unwrap();
            request.headers_mut().insert("sec-websocket-protocol", "chatcluster.v1".parse().unwrap());
            let (socket, _) = axum_tungstenite::client(request, stream).unwrap();
            let mut wire = Wire { socket, last_id: 0 };
            wire.say(json!({"type": "hello", "token": token(user)}));
            if wire.until(|frame| frame["type"] == "welcome" || frame["type"] == "error")["type"] == "welcome" {
                return wire;
            }
            assert!(Instant::now() < deadline, "the node is not ready");
        }
    }

    fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).unwrap();
    }

    /// The answer to a request.
    fn ask(&mut self, mut request: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        request["id"] = id.into();
        self.say(request);
        self.until(|frame| frame["id"] == id)
    }

    /// The next frame that is looked for; others are passed over.
    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if wanted(&frame) {
                        return frame;
                    }
                }
                Ok(_) => {}
                Err(axum_tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("nothing of that kind came in time");
    }

    /// Waits until a presence frame tells this of a user.
    #[track_caller]
    fn sees(&mut self, user: &str, state: &str) -> Value {
        let of = |frame: &Value| -> Option<Value> {
            let users = frame["users"].as_array().filter(|_| frame["type"] == "presence")?;
            users.iter().find(|found| found["user"] == user && found["state"] == state).cloned()
        };
        of(&self.until(|frame| of(frame).is_some())).unwrap()
    }
}

fn token(user: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": user, "exp": now + 3_600});
    jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(KEY.as_bytes())).unwrap()
}

#[test]
fn presence_typing_and_cursors_cross_nodes_and_end_with_a_node() {
    let services = Services::new().unwrap();
    services.up().unwrap();
    let (postgres, rabbitmq) = (services.postgres.fresh_database().unwrap(), services.rabbitmq.fresh_vhost().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, KEY).unwrap();
    let [one, other] = [0, 1].map(|number| start(number, &postgres, &rabbitmq, &key));

    let mut alice = Wire::hello(&one, "alice");
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"}))["room"]["id"].clone();
    let whole = alice.ask(json!({"type": "watch", "room": room}));
    assert_eq!((&whole["type"], &whole["whole"], &whole["present"]), (&json!("presence"), &json!(true), &json!(1)));

    let mut bob = Wire::hello(&other, "bob");
    assert_eq!(bob.ask(json!({"type": "join", "room": room}))["type"], "room");
    assert_eq!(alice.sees("bob", "online")["devices"], json!(["web"]));
    assert_eq!(bob.ask(json!({"type": "status", "state": "away"}))["type"], "done");
    alice.sees("bob", "away");
    bob.say(json!({"type": "typing", "room": room}));
    assert_eq!(alice.until(|frame| frame["type"] == "typing")["users"], json!(["bob"]));

    let mut phone = Wire::hello(&other, "alice");
    let read = alice.ask(json!({"type": "read", "room": room, "seq": 3}));
    assert_eq!((&read["type"], &read["seq"]), (&json!("read"), &json!(3)));
    assert_eq!(phone.until(|frame| frame["type"] == "read")["seq"], 3, "the other device hears of it on its node");

    other.runtime.shutdown_background();
    alice.sees("bob", "offline");
    let seen = || json!({"type": "seen", "users": ["alice", "bob", "nobody"]});
    let deadline = Instant::now() + PATIENCE;
    let mut users = Value::Null;
    while users[1]["last_seen"].is_null() && Instant::now() < deadline {
        users = alice.ask(seen())["users"].clone();
    }
    assert_eq!(
        (&users[0]["state"], &users[1]["state"], &users[2]["state"]),
        (&json!("online"), &json!("offline"), &json!("offline"))
    );
    assert!(users[1]["last_seen"].is_i64() && users[2]["last_seen"].is_null(), "{users}");
    one.runtime.shutdown_background();
}

//! What is told and never stored as an event, between real nodes: presence, also when a node dies and while the bus is away, typing, and
//! read cursors.
//!
//! Each node has a runtime of its own, so that one can end as a killed process does: at once, with everything it was about to do.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use axum_tungstenite::{Message, WebSocket, client::IntoClientRequest};
use chat_node::{Identity, Node};
use crds::{
    NodeConfig,
    node_config::{Bus, Endpoint, Redis, Store},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use services::{Apart, Server, Services};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A bus that nobody reaches: nothing listens there.
const NOWHERE: &str = "amqp://guest:guest@127.0.0.1:9/%2f";

const KEY: &str = "a secret for two nodes of one test, long enough for the longest of the hashes";

/// A node in a runtime of its own.
struct Running {
    address: SocketAddr,
    runtime: Runtime,
}

/// What the nodes of a test share: an empty database, and where sessions live if it is elsewhere.
struct Ground {
    services: Services,
    postgres: String,
    redis: Option<String>,
    key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Ground {
    fn new(with_redis: bool) -> Ground {
        let services = Services::new().unwrap();
        services.postgres.start().unwrap();
        let postgres = services.postgres.fresh_database().unwrap();
        let redis = with_redis.then(|| {
            services.redis.start().unwrap();
            services.redis.fresh_database().unwrap()
        });
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, KEY).unwrap();
        Ground { services, postgres, redis, key, _folder: folder }
    }

    fn sql(&self, query: &str) -> String {
        let database = self.postgres.rsplit('/').next().unwrap();
        self.services.postgres.sql(database, query).unwrap().trim().to_owned()
    }
}

fn start(number: usize, ground: &Ground, rabbitmq: &str) -> Running {
    let mut config = NodeConfig::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.listen.client, config.listen.admin) = (any, any);
    let endpoint: Endpoint = Endpoint::Url(ground.postgres.clone());
    config.store = Store::Postgres { endpoint, pool_connections_max: 3 };
    config.redis = ground.redis.clone().map(|url| Redis { endpoint: Endpoint::Url(url) });
    config.bus = Bus::Rabbitmq { endpoint: Endpoint::Url(rabbitmq.into()) };
    config.auth.key_file = Some(ground.key.clone());
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
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut request = format!("ws://{}/ws", node.address).into_client_request().unwrap();
            request.headers_mut().insert("sec-websocket-protocol", "chatcluster.v1".parse().unwrap());
            let (socket, _) = axum_tungstenite::client(request, stream).unwrap();
            socket.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
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

    /// The next frame, if one comes in a moment.
    fn next(&mut self) -> Option<Value> {
        match self.socket.read() {
            Ok(Message::Text(text)) => Some(serde_json::from_str(&text).unwrap()),
            Ok(_) => None,
            Err(axum_tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next frame that is looked for; others are passed over.
    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(frame) = self.next().filter(|frame| wanted(frame)) {
                return frame;
            }
        }
        panic!("nothing of that kind came in time");
    }

    /// Waits until a presence frame tells this of a user.
    #[track_caller]
    fn sees(&mut self, user: &str, state: &str) -> Value {
        tells(&self.until(|frame| tells(frame, user, state).is_some()), user, state).unwrap()
    }

    /// Listens for so long, and hears nothing of the kind.
    #[track_caller]
    fn never_sees(&mut self, user: &str, state: &str, within: Duration) {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(frame) = self.next() {
                assert!(tells(&frame, user, state).is_none(), "{frame}");
            }
        }
    }

    /// Asks how a user is present until it is so; tells how long that took.
    #[track_caller]
    fn finds(&mut self, user: &str, state: &str) -> Duration {
        let began = Instant::now();
        while self.ask(json!({"type": "seen", "users": [user]}))["users"][0]["state"] != state {
            assert!(began.elapsed() < PATIENCE, "{user} does not become {state}");
        }
        began.elapsed()
    }
}

/// Whether a presence frame tells this of a user.
fn tells(frame: &Value, user: &str, state: &str) -> Option<Value> {
    let users = frame["users"].as_array().filter(|_| frame["type"] == "presence")?;
    users.iter().find(|found| found["user"] == user && found["state"] == state).cloned()
}

fn token(user: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": user, "exp": now + 3_600});
    jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(KEY.as_bytes())).unwrap()
}

#[test]
fn presence_typing_and_cursors_cross_nodes_and_end_with_a_node() {
    let ground = Ground::new(false);
    ground.services.rabbitmq.start().unwrap();
    let rabbitmq = ground.services.rabbitmq.fresh_vhost().unwrap();
    let [one, other] = [0, 1].map(|number| start(number, &ground, &rabbitmq));

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

/// Longer than a node is waited for that neither the bus nor the store tells of.
const LONG: Duration = Duration::from_secs(8);

/// A node that starts asks where sessions live before anybody asks it; a busy machine is given some time.
const AT_ONCE: Duration = Duration::from_secs(4);

#[test]
fn with_the_bus_away_presence_goes_on_through_the_database() {
    presence_goes_on_without_the_bus(false);
}

#[test]
fn with_the_bus_away_presence_goes_on_through_the_redis_that_has_the_sessions() {
    presence_goes_on_without_the_bus(true);
}

fn presence_goes_on_without_the_bus(with_redis: bool) {
    let apart = Apart::new().unwrap();
    apart.rabbitmq.start().unwrap();
    let ground = Ground::new(with_redis);
    let rabbitmq = apart.rabbitmq.fresh_vhost().unwrap();
    let [one, other] = [0, 1].map(|number| start(number, &ground, &rabbitmq));
    let mut alice = Wire::hello(&one, "alice");
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"}))["room"]["id"].clone();
    let join = |name: &str, node: &Running| {
        let mut wire = Wire::hello(node, name);
        assert_eq!(wire.ask(json!({"type": "join", "room": room}))["type"], "room");
        wire
    };
    alice.ask(json!({"type": "watch", "room": room}));
    let mut bob = join("bob", &other);
    alice.sees("bob", "online");

    apart.rabbitmq.kill().unwrap();
    alice.never_sees("bob", "offline", LONG);
    // Somebody comes, and is a member only from now on; is away; goes.
    let mut carol = join("carol", &other);
    assert_eq!(alice.sees("carol", "online")["devices"], json!(["web"]));
    assert_eq!(bob.ask(json!({"type": "status", "state": "away"}))["type"], "done");
    alice.sees("bob", "away");
    carol.finds("alice", "online");
    drop(carol);
    alice.sees("carol", "offline");
    // The database's hint of somebody who became a member is lost with the connection that it was for.
    let _erin = Wire::hello(&other, "erin");
    ground.sql(&format!("INSERT INTO members (member, room) VALUES ('erin', '{}')", room.as_str().unwrap()));
    ground.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^(LISTEN|SELECT pg_listening)'");
    alice.sees("erin", "online");
    // The bus has told this one nothing.
    let third = start(2, &ground, &rabbitmq);
    let mut dave = join("dave", &third);
    assert!(dave.finds("alice", "online") + dave.finds("bob", "away") < AT_ONCE);
    alice.sees("dave", "online");
    dave.ask(json!({"type": "watch", "room": room}));
    // A node dies.
    other.runtime.shutdown_background();
    alice.sees("bob", "offline");
    dave.finds("bob", "offline");

    apart.rabbitmq.start().unwrap();
    assert_eq!(dave.ask(json!({"type": "status", "state": "away"}))["type"], "done");
    alice.sees("dave", "away");
    one.runtime.shutdown_background();
    third.runtime.shutdown_background();
}

#[test]
fn a_node_that_is_cut_off_from_the_bus_sees_the_others_and_is_seen() {
    let ground = Ground::new(false);
    ground.services.rabbitmq.start().unwrap();
    let rabbitmq = ground.services.rabbitmq.fresh_vhost().unwrap();
    let [one, other] = [0, 1].map(|number| start(number, &ground, &rabbitmq));
    let cut_off = start(2, &ground, NOWHERE);
    let (mut alice, mut bob) = (Wire::hello(&one, "alice"), Wire::hello(&other, "bob"));
    let mut carol = Wire::hello(&cut_off, "carol");
    for wire in [&mut alice, &mut bob, &mut carol] {
        for name in ["alice", "bob", "carol"] {
            wire.finds(name, "online");
        }
    }
    assert_eq!(bob.ask(json!({"type": "status", "state": "away"}))["type"], "done");
    assert_eq!(carol.ask(json!({"type": "status", "state": "away"}))["type"], "done");
    carol.finds("bob", "away");
    alice.finds("carol", "away");
    cut_off.runtime.shutdown_background();
    alice.finds("carol", "offline");
    alice.finds("bob", "away");
    one.runtime.shutdown_background();
    other.runtime.shutdown_background();
}

#[test]
fn with_bus_and_database_away_a_node_knows_its_own_users_alone_until_one_is_back() {
    a_node_with_both_ways_away_knows_its_own_users_alone(false);
}

#[test]
fn with_bus_and_redis_away_a_node_knows_its_own_users_alone_until_one_is_back() {
    a_node_with_both_ways_away_knows_its_own_users_alone(true);
}

fn a_node_with_both_ways_away_knows_its_own_users_alone(with_redis: bool) {
    let apart = Apart::new().unwrap();
    let mut ground = Ground::new(false);
    let place: &Server = if with_redis {
        apart.redis.start().unwrap();
        ground.redis = Some(apart.redis.fresh_database().unwrap());
        &apart.redis
    } else {
        apart.postgres.start().unwrap();
        ground.postgres = apart.postgres.fresh_database().unwrap();
        &apart.postgres
    };
    let [one, other] = [0, 1].map(|number| start(number, &ground, NOWHERE));
    let mut alice = Wire::hello(&one, "alice");
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"}))["room"]["id"].clone();
    alice.ask(json!({"type": "watch", "room": room}));
    let mut bob = Wire::hello(&other, "bob");
    bob.ask(json!({"type": "join", "room": room}));
    alice.sees("bob", "online");

    place.kill().unwrap();
    alice.sees("bob", "offline");
    assert_eq!(bob.ask(json!({"type": "status", "state": "away"}))["type"], "done");
    if with_redis { apart.redis.start() } else { apart.postgres.start() }.unwrap();
    // A database that crashed has lost what it had of this, and it is written anew.
    alice.sees("bob", "away");
    one.runtime.shutdown_background();
    other.runtime.shutdown_background();
}

#[test]
fn a_crowd_that_comes_at_once_is_a_few_messages_and_costs_nothing_while_it_rests() {
    const CROWD: usize = 300;
    let ground = Ground::new(false);
    let node = start(0, &ground, NOWHERE);
    drop(Wire::hello(&node, "first"));
    let began = Instant::now();
    while ground.sql("SELECT count(*) FROM rolls") != "1" {
        assert!(began.elapsed() < PATIENCE, "the node gives no sign of life");
    }
    let (told, began) = (|| ground.sql("SELECT number FROM rolls").parse::<u64>().unwrap(), Instant::now());
    let before = told();
    let crowd: Vec<Wire> = (0..CROWD).map(|number| Wire::hello(&node, &format!("user{number}"))).collect();
    let all =
        "SELECT count(*) FROM (SELECT DISTINCT regexp_matches(message, 'user[0-9]+', 'g') FROM roll_messages) AS told";
    while ground.sql(all) != CROWD.to_string() {
        assert!(began.elapsed() < PATIENCE, "{} of {CROWD} are told of", ground.sql(all));
    }
    // One a second, one that was under way, and the first one's end.
    let most = began.elapsed().as_secs() + 3;
    assert!(told() - before <= most, "{} messages, although {most} beats are all there were", told() - before);
    let written =
        || ground.sql("SELECT string_agg(xmin::text || ' ' || number, ',' ORDER BY number) FROM roll_messages");
    // The first one's end may still be told.
    while ground.sql("SELECT count(*) FROM roll_messages WHERE message LIKE '%[\"first\",null]%'") == "0" {
        assert!(began.elapsed() < PATIENCE, "nobody tells that the first one went");
    }
    let (at_rest, beat) = (written(), "SELECT beat_ms FROM rolls");
    let since = ground.sql(beat);
    while ground.sql(beat) == since {
        assert!(began.elapsed() < PATIENCE, "there is no sign of life");
    }
    assert_eq!(written(), at_rest, "a crowd at rest is written again");
    drop(crowd);
    node.runtime.shutdown_background();
}

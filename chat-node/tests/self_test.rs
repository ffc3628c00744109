//! A node that is asked to test itself goes through its real store and bus, and says where it fails.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{net::SocketAddr, time::Duration};

use chat_node::{Identity, Node};
use crds::{
    NodeConfig, NodeStatus,
    node_config::{Bus, Endpoint, Jwks, Store},
    node_status::{Dependency, SelfTest},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde::de::DeserializeOwned;
use services::Services;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    admin: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Running {
    async fn start(change: impl FnOnce(&mut NodeConfig)) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut config = NodeConfig::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        (config.listen.client, config.listen.admin) = (any, any);
        config.store = Store::Sqlite { path: folder.path().join("chat.db") };
        let key = folder.path().join("key");
        std::fs::write(&key, "a secret for the only node of a test").unwrap();
        config.auth.key_file = Some(key);
        (config.drain.settle_seconds, config.drain.window_seconds) = (0, 0);
        change(&mut config);
        let identity = Identity { node: "demo-0".into(), revision: String::new() };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let node = Node::start(config, identity, metrics).await.unwrap();
        let admin = node.admin_address().unwrap();
        let stop = CancellationToken::new();
        let ended = tokio::spawn({
            let stop = stop.clone();
            async move { node.run(stop).await.unwrap() }
        });
        Running { admin, stop, ended, _folder: folder }
    }

    async fn ready(change: impl FnOnce(&mut NodeConfig)) -> Running {
        let running = Running::start(change).await;
        let deadline = Instant::now() + PATIENCE;
        while !running.ask("GET /readyz").await.contains("200 OK") {
            assert!(Instant::now() < deadline, "the node is not ready in time");
            sleep(Duration::from_millis(20)).await;
        }
        running
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("{request} HTTP/1.0\r\nhost: node\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn json<T: DeserializeOwned>(&self, request: &str) -> T {
        let answer = self.ask(request).await;
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.ended.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_postgres_and_rabbitmq_passes_and_remembers_it() {
    let services = Services::new().unwrap();
    services.up().unwrap();
    let (postgres, rabbitmq) = (services.postgres.fresh_database().unwrap(), services.rabbitmq.fresh_vhost().unwrap());
    let node = Running::ready(|config| {
        config.store = Store::Postgres { endpoint: Endpoint::Url(postgres.clone()), pool_connections_max: 5 };
        config.bus = Bus::Rabbitmq { endpoint: Endpoint::Url(rabbitmq) };
    })
    .await;
    let status = node.json::<NodeStatus>("GET /status").await;
    assert_eq!((status.self_test, status.redis), (None, None));
    for _ in 0..2 {
        let test: SelfTest = node.json("POST /self-test").await;
        assert!(test.passed && test.failures == 0, "{test:?}");
    }
    let status: NodeStatus = node.json("GET /status").await;
    assert!(status.self_test.unwrap().passed);
    assert!(status.recent.sends >= 4 && status.recent.ack_latency.samples >= 4, "{:?}", status.recent);
    node.end().await;
}

/// Tokens of clients come from an OpenID provider alone, which cannot even be reached: the node speaks for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clients_bring_tokens_of_others_passes() {
    let node = Running::ready(|config| {
        config.auth.accounts = false;
        (config.auth.issuer, config.auth.audience) = (Some("us".into()), Some("chat".into()));
        config.auth.jwks = Some(Jwks {
            url: "https://127.0.0.1:9/keys".into(),
            issuer: "https://login.example".into(),
            audience: "chat".into(),
            user_claim: "email".into(),
            ca_file: None,
        });
    })
    .await;
    let test: SelfTest = node.json("POST /self-test").await;
    assert!(test.passed, "{test:?}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_could_use_fails_and_says_where() {
    let node = Running::ready(|config| config.limits.text_bytes_max = 1).await;
    for failures in 1..=3 {
        let test: SelfTest = node.json("POST /self-test").await;
        assert_eq!((test.passed, test.failures, test.step.as_str()), (false, failures, "send"));
        assert!(test.error.contains("text_too_long"), "{}", test.error);
    }
    assert_eq!(node.json::<NodeStatus>("GET /status").await.self_test.unwrap().failures, 3);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_finds_nobody_at_its_address_tells_so() {
    // Nobody listens on port 1 of loopback.
    let nowhere = |scheme| Endpoint::Url(format!("{scheme}://u:p@127.0.0.1:1/x"));
    let node = Running::start(|config| {
        config.store = Store::Postgres { endpoint: nowhere("postgres"), pool_connections_max: 5 };
        config.bus = Bus::Rabbitmq { endpoint: nowhere("amqp") };
    })
    .await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = node.json::<NodeStatus>("GET /status").await;
        let is_told =
            |dependency: Dependency| dependency.error.is_some_and(|error| error.contains("Connection refused"));
        if is_told(status.store) && is_told(status.bus) {
            break;
        }
        assert!(Instant::now() < deadline, "the reason is not told in time");
        sleep(Duration::from_millis(20)).await;
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_let_in_nowhere_tells_why() {
    let services = Services::new().unwrap();
    services.up().unwrap();
    let strange = |url: String| {
        let (before, after) = url.split_once('@').unwrap();
        let (user, _) = before.rsplit_once(':').unwrap();
        Endpoint::Url(format!("{user}:a-guess@{after}"))
    };
    let postgres = strange(services.postgres.fresh_database().unwrap());
    let rabbitmq = strange(services.rabbitmq.fresh_vhost().unwrap());
    let node = Running::start(|config| {
        config.store = Store::Postgres { endpoint: postgres, pool_connections_max: 5 };
        config.bus = Bus::Rabbitmq { endpoint: rabbitmq };
    })
    .await;
    let deadline = Instant::now() + PATIENCE;
    let [store, bus, queue] = loop {
        let status = node.json::<NodeStatus>("GET /status").await;
        let all = [Some(status.store), Some(status.bus), status.queue].map(Option::unwrap);
        assert!(all.iter().all(|dependency| !dependency.up), "{all:?}");
        if let [Some(store), Some(bus), Some(queue)] = all.map(|dependency| dependency.error) {
            break [store, bus, queue];
        }
        assert!(Instant::now() < deadline, "a reason is not told in time");
        sleep(Duration::from_millis(20)).await;
    };
    assert!(store.contains("password authentication failed"), "{store}");
    assert!(bus.contains("ACCESS_REFUSED") && queue.contains("ACCESS_REFUSED"), "{bus} {queue}");
    assert!(![store, bus, queue].iter().any(|error| error.contains("a-guess")));
    node.end().await;
}

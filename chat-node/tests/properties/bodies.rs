//! Bodies of REST requests: whatever is sent, the node answers, and never with a fault of its own.

use std::net::SocketAddr;

use chat_node::{Identity, Node};
use crds::{NodeConfig, node_config::Store};
use metrics_exporter_prometheus::PrometheusBuilder;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::damage::damaged;

const PATHS: [&str; 16] = [
    "POST /api/v1/accounts",
    "POST /api/v1/login",
    "POST /api/v1/refresh",
    "PUT /api/v1/me/password",
    "POST /api/v1/announcements",
    "POST /api/v1/bots",
    "POST /api/v1/bots/deploy/tokens",
    "POST /api/v1/rooms",
    "POST /api/v1/direct",
    "POST /api/v1/rooms/00000000-0000-0000-0000-000000000007/messages",
    "PATCH /api/v1/rooms/00000000-0000-0000-0000-000000000007/messages/1?event=00000000-0000-0000-0000-000000000007",
    "PUT /api/v1/rooms/00000000-0000-0000-0000-000000000007/topic",
    "PUT /api/v1/rooms/00000000-0000-0000-0000-000000000007/bans/bob",
    "PUT /api/v1/rooms/00000000-0000-0000-0000-000000000007/mutes/bob",
    "PUT /api/v1/rooms/00000000-0000-0000-0000-000000000007/members/bob/role",
    "PUT /api/v1/rooms/00000000-0000-0000-0000-000000000007/read",
];

/// Bodies that are tried at each path.
const BODIES: usize = 60;

fn corpus() -> Vec<&'static str> {
    include_str!("corpus/bodies.txt").lines().collect()
}

async fn ask(address: SocketAddr, path: &str, token: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{path} HTTP/1.1\r\nhost: chat\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_body_is_answered_without_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = NodeConfig::default();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.listen.client, config.listen.admin) = (free, free);
    config.store = Store::Sqlite { path: folder.path().join("chat.db") };
    config.limits.requests_burst_max = 100_000;
    config.auth.admins = vec!["alice".into()];
    config.drain.settle_seconds = 0;
    let key = "a secret for this test and no other one";
    let path = folder.path().join("key");
    std::fs::write(&path, key).unwrap();
    config.auth.key_file = Some(path);
    let (token, _) = chat_node::auth::Tokens::new(key.as_bytes(), &config.auth).unwrap().sign("alice", now()).unwrap();
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let identity = Identity { node: "node".into(), revision: String::new() };
    let node = Node::start(config, identity, metrics).await.unwrap();
    let address = node.client_address().unwrap();
    let stop = CancellationToken::new();
    let ended = tokio::spawn(node.run(stop.clone()));
    // Until the schema is there, a 503 is right. This one is asked of the store, so it tells.
    while ask(address, "POST /api/v1/rooms", &token, br#"{"name":"first"}"#).await == 503 {
        tokio::task::yield_now().await;
    }
    let mut runner = TestRunner::deterministic();
    let bodies = prop_oneof![9 => damaged(corpus()), 1 => proptest::collection::vec(any::<u8>(), 0..100)];
    for path in PATHS {
        for _ in 0..BODIES {
            let body = bodies.new_tree(&mut runner).unwrap().current();
            let status = ask(address, path, &token, &body).await;
            assert!((200..500).contains(&status), "{path} answers {status} to {:?}", String::from_utf8_lossy(&body));
        }
    }
    stop.cancel();
    ended.await.unwrap().unwrap();
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

//! Bindings under TLS: nodes that are configured as the operator does it, on servers that speak nothing else, with a certificate authority
//! that is mounted. What is not proved is not spoken to.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use services::{Apart, Authority, Services, parts};
use standalone::Node;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Mounts a Secret as the kubelet does: the files are links into a folder that another one can take the place of.
fn mount(folder: &Path, entries: &BTreeMap<String, String>) {
    let version = folder.join("..2026_01_01");
    fs::create_dir_all(&version).unwrap();
    symlink("..2026_01_01", folder.join("..data")).unwrap();
    for (key, value) in entries {
        fs::write(version.join(key), value).unwrap();
        symlink(Path::new("..data").join(key), folder.join(key)).unwrap();
    }
}

/// Where the three services are, and what they are verified with.
struct Bindings {
    postgres: BTreeMap<String, String>,
    rabbitmq: BTreeMap<String, String>,
    redis: BTreeMap<String, String>,
}

impl Bindings {
    fn of(services: &Services, host: &str, ca: &str) -> Bindings {
        let with_ca = |url: String, last: &str| {
            let mut parts = parts(&url, last).unwrap();
            parts.extend([("host".into(), host.to_owned()), ("ca.crt".into(), ca.to_owned())]);
            parts
        };
        Bindings {
            postgres: with_ca(services.postgres.fresh_database().unwrap(), "database"),
            rabbitmq: with_ca(services.rabbitmq.fresh_vhost().unwrap(), "vhost"),
            redis: with_ca(services.redis.fresh_database().unwrap(), "database"),
        }
    }

    /// A node that is bound so; it may never be ready.
    fn node(&self) -> (Node, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let bound = |name: &str, entries| {
            let mounted = folder.path().join(name);
            mount(&mounted, entries);
            json!({"binding": mounted})
        };
        let node = Node::begin(json!({
            "store": {"sqlite": null, "postgres": {"endpoint": bound("postgres", &self.postgres)}},
            "bus": {"rabbitmq": {"endpoint": bound("rabbitmq", &self.rabbitmq)}},
            "redis": {"endpoint": bound("redis", &self.redis)},
            "log": {"format": "json"},
        }));
        (node, folder)
    }
}

/// The body of an answer, and its status.
fn ask(address: SocketAddr, request: &str, body: &Value) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head =
        format!("{request} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

fn status(node: &Node) -> Option<Value> {
    serde_json::from_str(&ask(node.admin(), "GET /status", &Value::Null)?.1).ok()
}

fn metric(node: &Node, name: &str) -> Option<f64> {
    let (_, page) = ask(node.admin(), "GET /metrics", &Value::Null)?;
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[track_caller]
fn until(what: &str, node: &Node, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}; the node says {}", node.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Servers of the test's own that speak TLS alone, with a certificate for `localhost`.
fn under_tls(authority: &Authority) -> Apart {
    let services = Apart::with_tls(&authority.sign("localhost").unwrap()).unwrap();
    services.up().unwrap();
    services.redis.start().unwrap();
    services
}

/// A line of the log that has all of these words.
fn says(node: &Node, words: &[&str]) -> bool {
    node.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn a_node_speaks_with_all_three_under_tls_and_with_none_that_it_cannot_prove() {
    let authority = Authority::new("ours").unwrap();
    let services = under_tls(&authority);

    let good = Bindings::of(&services, "localhost", &authority.certificate);
    let (node, _mounted) = good.node();
    until("it is ready", &node, || ask(node.admin(), "GET /readyz", &Value::Null).is_some_and(|(code, _)| code == 200));
    until("the bus is up", &node, || status(&node).is_some_and(|status| status["bus"]["up"] == true));
    until("Redis is up", &node, || status(&node).is_some_and(|status| status["redis"]["up"] == true));
    assert_eq!(metric(&node, "chat_redis_up"), Some(1.0));
    let account = json!({"username": "alice", "password": "correct horse"});
    assert_eq!(ask(node.address(), "POST /api/v1/accounts", &account).unwrap().0, 201);
    let (code, answer) = ask(node.address(), "POST /api/v1/login", &account).unwrap();
    assert_eq!(code, 200, "{answer}");

    // Each refuses for a reason of its own, and the log says which.
    let wrong = Bindings::of(&services, "localhost", &Authority::new("another").unwrap().certificate);
    refused(&wrong, &["certificate", "UnknownIssuer"], &["certificate", "UnknownIssuer"]);
    let elsewhere = Bindings::of(&services, "127.0.0.1", &authority.certificate);
    refused(&elsewhere, &["certificate", "not valid for name"], &["certificate", "not valid for name"]);
}

#[test]
fn what_is_to_be_under_tls_is_not_spoken_in_plain_text() {
    let services = Services::new().unwrap();
    services.up().unwrap();
    services.redis.start().unwrap();
    let plain = Bindings::of(&services, "127.0.0.1", &Authority::new("another").unwrap().certificate);
    // The bus and Redis take a greeting in plain text for a broken one.
    refused(&plain, &["TLS", "not support"], &[]);
}

/// A node that is bound so is connected to nothing, and says why.
#[track_caller]
fn refused(bindings: &Bindings, of_postgres: &[&str], of_others: &[&str]) {
    let (node, _mounted) = bindings.node();
    for (event, reason) in
        [("the database is not ready", of_postgres), ("the bus is away", of_others), ("Redis is away", of_others)]
    {
        until(event, &node, || says(&node, &[&[event], reason].concat()));
    }
    let (code, _) = ask(node.admin(), "GET /readyz", &Value::Null).unwrap();
    assert_eq!(code, 503);
    let status = status(&node).unwrap();
    for (server, reason) in [("store", of_postgres), ("bus", of_others), ("redis", of_others)] {
        assert_eq!(status[server]["up"], false, "{server}");
        let told = status[server]["error"].as_str().expect(server);
        assert!(reason.iter().all(|word| told.contains(word)), "of {server} the status says {told:?}");
    }
    assert_eq!(metric(&node, "chat_redis_up"), Some(0.0));
    for secret in [&bindings.postgres, &bindings.rabbitmq, &bindings.redis] {
        assert!(!node.log().contains(&secret["password"]), "a log has a password");
    }
}

//! What keeps a node and its users from others: limits per address, and for whom a proxy may speak.

use std::net::SocketAddr;

use serde_json::json;
use standalone::{Node, refusal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, timeout},
};

/// What is to come comes within this time.
const WITHIN: Duration = Duration::from_secs(10);

/// What a request with these further header lines is answered with, and the connection that it came over.
async fn ask(address: SocketAddr, path: &str, lines: &[&str]) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let lines = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{lines}\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    };
    timeout(WITHIN, read).await.expect("no answer in time");
    (String::from_utf8(head).unwrap(), stream)
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The status of an upgrade with these further header lines.
async fn upgrade(node: &Node, lines: &[&str]) -> u16 {
    let upgrade = [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    status(&ask(node.address(), "/ws", &[&upgrade, lines].concat()).await.0)
}

/// How often a limit has refused for this reason.
async fn refused(node: &Node, reason: &str) -> u64 {
    let (_, mut stream) = ask(node.admin(), "/metrics", &["connection: close"]).await;
    let mut metrics = String::new();
    timeout(WITHIN, stream.read_to_string(&mut metrics)).await.expect("no metrics in time").unwrap();
    let name = format!("chat_refusals_total{{reason=\"{reason}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap_or_else(|| panic!("there is no {name}")).parse().unwrap()
}

#[tokio::test]
async fn connections_are_counted_for_whom_a_trusted_proxy_names() {
    let node = Node::start(json!({"addresses": {
        "enforced": true, "trustedProxies": ["127.0.0.0/8", "10.0.0.0/8"], "newConnectionsMax": 2, "refusalsMax": 1_000,
    }}));
    let named = async |value: &str| upgrade(&node, &[&format!("x-forwarded-for: {value}")]).await;
    for (made_up_or_proxy, expected) in
        [("6.6.6.6, 198.51.100.1", 101), ("198.51.100.1, 10.0.0.9", 101), ("198.51.100.1", 429)]
    {
        assert_eq!(named(made_up_or_proxy).await, expected, "{made_up_or_proxy}");
    }
    assert_eq!(named("198.51.100.2").await, 101, "addresses do not share");
    assert_eq!(named("2001:db8:1:2::1").await, 101);
    assert_eq!(named("2001:db8:1:2::2").await, 101);
    assert_eq!(named("[2001:db8:1:2:ffff::3]:99").await, 429, "a /64 is one");
    assert_eq!(named("2001:db8:1:3::1").await, 101);
    assert_eq!(upgrade(&node, &["forwarded: for=198.51.100.9"]).await, 101, "the proxy itself");
    assert_eq!(upgrade(&node, &["forwarded: for=198.51.100.10"]).await, 101, "likewise");
    assert_eq!(upgrade(&node, &["forwarded: for=198.51.100.11"]).await, 429, "the other header is not believed");
    assert_eq!(refused(&node, "address_rate").await, 3);
}

#[tokio::test]
async fn an_address_that_keeps_coming_is_shut_out_and_nobody_else_speaks_for_it() {
    let node = Node::start(json!({"addresses": {
        "enforced": true, "newConnectionsMax": 1, "refusalsMax": 1, "requestsPerSecondMax": 1, "requestsBurstMax": 1_000,
    }}));
    let named = async |value: &str| upgrade(&node, &[&format!("x-forwarded-for: {value}")]).await;
    assert_eq!(status(&ask(node.address(), "/api/v1/openapi.json", &[]).await.0), 200);
    assert_eq!(named("198.51.100.1").await, 101);
    for other in ["198.51.100.2", "198.51.100.3", "198.51.100.4"] {
        assert_eq!(named(other).await, 429, "the header of a stranger is not believed");
    }
    assert_eq!((refused(&node, "address_rate").await, refused(&node, "address_shut_out").await), (2, 1));
    let (head, _) = ask(node.address(), "/api/v1/openapi.json", &[]).await;
    assert_eq!(status(&head), 429, "REST is shut as well");
    let wait = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap().parse::<u64>().unwrap();
    assert!((290..=300).contains(&wait), "{head}");
}

#[tokio::test]
async fn requests_of_one_address_have_a_rate() {
    let node = Node::start(json!({"addresses": {
        "enforced": true, "forwardedHeader": "Forwarded", "trustedProxies": ["127.0.0.1"],
        "requestsPerSecondMax": 1, "requestsBurstMax": 3, "refusalsMax": 1_000,
    }}));
    let asked = async |host: u8| {
        let line = format!("forwarded: for=\"198.51.100.{host}:4711\";proto=https");
        status(&ask(node.address(), "/api/v1/openapi.json", &[&line]).await.0)
    };
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) && statuses.len() < 1_000 {
        statuses.push(asked(1).await);
    }
    assert!(statuses.len() > 3 && statuses[..statuses.len() - 1].iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(asked(2).await, 200, "addresses do not share");
    assert_eq!(refused(&node, "address_requests").await, 1);
}

#[test]
fn a_range_that_cannot_be_understood_is_told_with_what_to_write() {
    let said = refusal("addresses: {trustedProxies: [10.0.0.1/8]}");
    for part in ["node.yaml", "addresses.trustedProxies", "\"10.0.0.1/8\" has bits behind its prefix: write 10.0.0.0/8"]
    {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
}

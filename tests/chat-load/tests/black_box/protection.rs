//! What keeps a node and its users from others: limits per address, and for whom a proxy may speak.

use std::{net::SocketAddr, sync::Arc};

use chat_load::{
    client::Identity,
    crowd::Crowd,
    dial::{Dial, Tcp},
};
use serde_json::{Value, json};
use standalone::{Node, refusal, token};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, Instant, sleep, timeout},
};
use uuid::Uuid;

use crate::wire::Wire;

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

#[tokio::test]
async fn a_page_of_another_origin_may_not_connect_unless_it_is_allowed() {
    let node = Node::start(json!({"allowedOrigins": ["https://app.example.org"]}));
    let from = async |origin: &str| upgrade(&node, &[&format!("origin: {origin}")]).await;
    assert_eq!(upgrade(&node, &[]).await, 101, "no browser");
    assert_eq!(from(&node.url()).await, 101, "a page of the node itself");
    assert_eq!(from("https://app.example.org").await, 101);
    for other in ["https://evil.example.org", "http://app.example.org", "null"] {
        assert_eq!(from(other).await, 403, "{other}");
    }
    assert_eq!(refused(&node, "origin").await, 3);

    // REST: a browser asks first, and shows the page the answer only when it may see it.
    let shown = async |origin: &str| {
        let (head, _) = ask(node.address(), "/api/v1/nothing", &[&format!("origin: {origin}")]).await;
        assert_eq!(status(&head), 404);
        head.lines().find_map(|line| line.strip_prefix("access-control-allow-origin: ").map(str::to_owned))
    };
    assert_eq!(shown("https://app.example.org").await.as_deref(), Some("https://app.example.org"));
    assert_eq!(shown("https://evil.example.org").await, None);
}

#[tokio::test]
async fn a_browser_asks_before_it_sends_a_token() {
    let node = Node::start(json!({"allowedOrigins": ["https://app.example.org"]}));
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    let question = "OPTIONS /api/v1/me HTTP/1.1\r\nhost: x\r\norigin: https://app.example.org\r\nconnection: close\r\n\
                    access-control-request-method: GET\r\naccess-control-request-headers: authorization\r\n\r\n";
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(WITHIN, stream.read_to_string(&mut answer)).await.expect("no answer in time").unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
    for line in ["access-control-allow-origin: https://app.example.org", "authorization", "PATCH"] {
        assert!(answer.contains(line), "{answer}");
    }
    assert!(!answer.contains("access-control-allow-credentials"), "{answer}");
}

#[tokio::test]
async fn whoever_is_slow_to_ask_is_not_waited_for() {
    let node = Node::start(json!({"limits": {"requestSeconds": 1}}));
    // One says nothing, one stops within the header, one within the body.
    let body =
        "POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    for (said, expected) in [("", ""), ("GET /ws HTTP/1.1\r\nhost: x\r\n", ""), (body, "408")] {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let ended = timeout(WITHIN, stream.read_to_string(&mut answer)).await;
        ended.expect("the connection was not closed in time").unwrap();
        assert_eq!(answer.split(' ').nth(1).unwrap_or_default(), expected, "{said:?}: {answer}");
    }
    // Whoever has asked may keep the connection for a while, and its end is no refusal.
    let (head, mut kept) = ask(node.address(), "/api/v1/nothing", &[]).await;
    assert_eq!(status(&head), 404);
    let ended = timeout(WITHIN, kept.read_to_end(&mut Vec::new())).await;
    ended.expect("the connection was not closed in time").unwrap();
    assert_eq!(refused(&node, "slow_request").await, 3);
}

#[tokio::test]
async fn whoever_sends_too_fast_is_told_how_long_to_wait_and_keeps_the_order() {
    let node = Node::start(json!({"limits": {"sendsPerSecondMax": 2, "sendsBurstMax": 3}}));
    let outbox = json!({"outbox": Uuid::new_v4()});
    let (mut alice, _) = Wire::hello(node.address(), &token("alice", 3_600), outbox).await;
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"})).await["room"]["id"].clone();
    let send = |n: u64| json!({"type": "send", "n": n, "room": room, "text": format!("m{n}")});
    for n in 1..=8 {
        alice.say(send(n)).await;
    }
    let mut answers: Vec<Value> = Vec::new();
    while answers.len() < 8 {
        let frame = alice.hear().await;
        if frame["n"].is_u64() {
            answers.push(frame);
        }
    }
    let taken = answers.iter().filter(|answer| answer["type"] == "committed").count() as u64;
    assert!((3..8).contains(&taken), "{answers:?}");
    let early: Vec<&Value> = answers.iter().filter(|answer| answer["code"] == "too_fast").collect();
    assert!(!early.is_empty() && early.iter().all(|answer| answer["retryable"] == true), "{answers:?}");
    assert_eq!(early[0]["n"], taken + 1, "the first that was refused: {answers:?}");
    let wait = early[0]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=600).contains(&wait), "{answers:?}");
    sleep(Duration::from_millis(wait)).await;
    // A later one is a gap, and the one that was refused is taken.
    let gap = alice.ask(send(taken + 2)).await;
    assert!(gap["code"] == "outbox_gap" && gap["expected"] == taken + 1 || gap["code"] == "too_fast", "{gap}");
    let deadline = Instant::now() + WITHIN;
    let committed = loop {
        let answer = alice.ask(send(taken + 1)).await;
        if answer["code"] != "too_fast" {
            break answer;
        }
        assert!(Instant::now() < deadline, "{answer}");
        sleep(Duration::from_millis(answer["retry_after_ms"].as_u64().unwrap())).await;
    };
    assert_eq!((&committed["type"], &committed["n"]), (&json!("committed"), &json!(taken + 1)), "{committed}");
    assert!(refused(&node, "user_sends").await >= early.len() as u64);
}

#[tokio::test]
async fn frames_that_ask_nothing_of_the_store_have_the_same_rate() {
    const PINGS: u64 = 40;
    let limits = json!({"requestsPerSecondMax": 20, "requestsBurstMax": 5, "requestsOutstandingMax": 4});
    let node = Node::start(json!({"limits": limits}));
    let (mut alice, _) = Wire::hello(node.address(), &token("alice", 3_600), json!({})).await;
    let began = Instant::now();
    for id in 1..=PINGS {
        alice.say(json!({"type": "ping", "id": id})).await;
    }
    for id in 1..=PINGS {
        assert_eq!(alice.hear().await["id"], id, "each is answered");
    }
    // All but the first few had to wait for their turn: no machine is too slow for that.
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn whoever_asks_too_often_waits_for_a_turn_and_nobody_else_does() {
    let node = Node::start(json!({"limits": {"requestsPerSecondMax": 2, "requestsBurstMax": 2}}));
    let (mut alice, _) = Wire::hello(node.address(), &token("alice", 3_600), json!({})).await;
    let (mut bob, _) = Wire::hello(node.address(), &token("bob", 3_600), json!({})).await;
    for id in 1..=8 {
        alice.say(json!({"type": "unread", "id": id})).await;
    }
    alice.say(json!({"type": "ping", "id": 9})).await;
    // What asks nothing of the store waits for no turn, so all eight have been taken when it is answered.
    let mut answers = Vec::new();
    while answers.last() != Some(&json!(9)) {
        answers.push(alice.hear().await["id"].clone());
    }
    assert!(answers.len() < 9, "all were answered at once: {answers:?}");
    // Over REST nobody waits, and there are turns left.
    let authorization = format!("authorization: Bearer {}", token("alice", 3_600));
    let (head, _) = ask(node.address(), "/api/v1/rooms", &[&authorization]).await;
    assert_eq!(status(&head), 200, "{head}");
    assert_eq!(bob.ask(json!({"type": "unread"})).await["type"], "unread");
    while answers.len() < 9 {
        let answer = alice.hear().await;
        assert_eq!(answer["type"], "unread", "a turn comes: {answer}");
        answers.push(answer["id"].clone());
    }
    answers.retain(|id| id != 9);
    assert_eq!(answers, (1..=8).map(|id| json!(id)).collect::<Vec<_>>(), "and in order");
}

#[tokio::test]
async fn an_address_has_its_share_of_the_sockets_and_a_proxy_has_all() {
    for (trusted, expected) in [(json!([]), 1), (json!(["127.0.0.0/8"]), 0)] {
        let node = Node::start(json!({
            "limits": {"requestSeconds": 60},
            "addresses": {"enforced": true, "webConnectionsMax": 3, "mobileConnectionsMax": 3, "trustedProxies": trusted},
        }));
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(TcpStream::connect(node.address()).await.unwrap());
        }
        let mut next = TcpStream::connect(node.address()).await.unwrap();
        next.write_all(b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // A socket that is not served is closed with what was said unread, which resets it.
        let _ = timeout(WITHIN, next.read_to_end(&mut answer)).await.expect("the socket was not closed in time");
        assert_eq!(answer.is_empty(), expected == 1, "{}", String::from_utf8_lossy(&answer));
        assert_eq!(refused(&node, "address_sockets").await, expected);
        drop(silent);
    }
}

#[tokio::test]
async fn a_crowd_that_is_slowed_down_loses_nothing_and_keeps_its_order() {
    let node = Node::start(json!({"limits": {"sendsPerSecondMax": 20, "sendsBurstMax": 5}}));
    let dial: Arc<dyn Dial> = Arc::new(Tcp::new(&[node.url()], 0).unwrap());
    let identities = (0..3).map(|index| Identity::Token(token(&format!("user-{index}"), 3_600))).collect();
    let crowd = Crowd::gather(&dial, identities, 2).await.unwrap();
    let slowed = async {
        for member in crowd.members() {
            let enough = member.recorder.until(3 * WITHIN, |record| (record.acks.len() >= 40).then_some(())).await;
            enough.expect("nobody comes forward");
        }
    };
    crowd.talk_during(150.0, slowed).await.unwrap();
    let (report, _) = crowd.judge(3 * WITHIN).await.unwrap();
    assert!(report.is_clean() && report.committed >= 120, "{report}");
    assert!(refused(&node, "user_sends").await > 0, "nobody was slowed down: {report}");
}

#[tokio::test]
async fn depth_is_no_way_to_exhaust_a_node() {
    let node = Node::start(json!({}));
    let (mut alice, _) = Wire::hello(node.address(), &token("alice", 3_600), json!({})).await;
    let deep =
        |depth: usize| format!("{{\"type\":\"ping\",\"id\":1,\"further\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    alice.say_raw(deep(100).into()).await;
    assert_eq!(alice.hear().await["type"], "pong");
    for depth in [200, 30_000] {
        alice.say_raw(deep(depth).into()).await;
        let answer = alice.hear().await;
        assert_eq!(answer["code"], "bad_frame", "{answer}");
    }
    assert_eq!(alice.ask(json!({"type": "ping"})).await["type"], "pong");
}

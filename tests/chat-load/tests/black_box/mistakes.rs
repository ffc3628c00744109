//! What happens to whoever does not keep to the page: a stable code, and the connection kept where that is safe.

use serde_json::{Value, json};
use standalone::{Node, forged_token, refusal, token};
use tokio::{
    io::AsyncReadExt,
    time::{Duration, timeout},
};
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use crate::wire::Wire;

/// A member of the room `lobby`, with a new outbox, on a node with small limits.
async fn member(node: &Node, user: &str) -> (Wire, Value) {
    member_with(node, user, Uuid::new_v4()).await
}

async fn member_with(node: &Node, user: &str, outbox: Uuid) -> (Wire, Value) {
    let outbox = json!({"outbox": outbox});
    let (mut wire, _) = Wire::hello(node.address(), &token(user, 3_600), outbox).await;
    let answer = wire.ask(json!({"type": "create_room", "name": "lobby"})).await;
    if answer["type"] == "room" {
        return (wire, answer["room"]["id"].clone());
    }
    let room = wire.ask(json!({"type": "join", "name": "lobby"})).await["room"]["id"].clone();
    (wire, room)
}

fn small_limits() -> Node {
    Node::start(json!({"limits": {
        "textBytesMax": 100, "frameBytesMax": 4096, "roomsPerUserMax": 2, "membersPerRoomMax": 2, "outboxResultsKept": 2,
    }}))
}

/// The answer is an error with this code, and says that much more.
#[track_caller]
fn is_error(answer: &Value, code: &str, retryable: bool) {
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{answer}");
    assert_eq!(answer["retryable"], retryable, "{answer}");
    assert!(answer["message"].as_str().is_some_and(|message| message.len() > 10), "{answer}");
}

#[tokio::test]
async fn a_bad_frame_is_told_and_the_connection_goes_on() {
    let node = small_limits();
    let (mut alice, room) = member(&node, "alice").await;
    let bad = [
        "not json",
        "[]",
        "{}",
        r#"{"type": "sing"}"#,
        r#"{"type": "send", "n": 1, "text": "no room"}"#,
        r#"{"type": "join"}"#,
        r#"{"type": "join", "room": "not-a-uuid"}"#,
        r#"{"type": "send", "n": "one", "room": "x", "text": 5}"#,
    ];
    for frame in bad {
        alice.say_raw(Message::text(frame)).await;
        is_error(&alice.hear_a("error").await, "bad_frame", false);
    }
    alice.say_raw(Message::binary(vec![1, 2, 3])).await;
    is_error(&alice.hear_a("error").await, "bad_frame", false);
    let answer = alice.ask(json!({"type": "send", "n": 1, "room": room})).await;
    is_error(&answer, "bad_frame", false);
    assert_eq!(answer["n"], 1);
    is_error(&alice.ask(json!({"type": "hello"})).await, "already_identified", false);
    assert_eq!(alice.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn a_refused_send_uses_its_number_and_holds_up_no_other() {
    let node = small_limits();
    let (mut alice, room) = member(&node, "alice").await;
    let nowhere = json!(Uuid::new_v4());
    let (long, nul) = ("x".repeat(101), "a\0b");
    let sends = [
        (&room, "", "empty_text"),
        (&room, " \n\t", "empty_text"),
        (&room, long.as_str(), "text_too_long"),
        (&room, nul, "bad_text"),
        (&nowhere, "hello", "not_a_member"),
    ];
    for (n, (room, text, code)) in (1..).zip(sends) {
        let answer = alice.ask(json!({"type": "send", "n": n, "room": room, "text": text})).await;
        is_error(&answer, code, false);
        assert_eq!(answer["n"], n);
    }
    let committed = alice.ask(json!({"type": "send", "n": 6, "room": room, "text": "x".repeat(100)})).await;
    assert_eq!((&committed["type"], &committed["n"]), (&json!("committed"), &json!(6)));
    let again = alice.ask(json!({"type": "send", "n": 5, "room": nowhere, "text": "hello"})).await;
    is_error(&again, "not_a_member", false);
}

#[tokio::test]
async fn an_outbox_is_kept_to() {
    let node = small_limits();
    let outbox = Uuid::new_v4();
    let (mut alice, room) = member_with(&node, "alice", outbox).await;
    let send = |n: u64| json!({"type": "send", "n": n, "room": room, "text": "m"});
    let gap = alice.ask(send(2)).await;
    is_error(&gap, "outbox_gap", true);
    assert_eq!(gap["expected"], 1);
    for n in 1..=5 {
        assert_eq!(alice.ask(send(n)).await["type"], "committed");
    }
    // Results are let go of when the outbox is next opened.
    let (mut alice, _) = member_with(&node, "alice", outbox).await;
    is_error(&alice.ask(send(1)).await, "outbox_forgotten", false);
    assert_eq!(alice.ask(send(4)).await["type"], "committed");
    let (mut without, _) = Wire::hello(node.address(), &token("alice", 3_600), json!({})).await;
    is_error(&without.ask(send(1)).await, "outbox_missing", false);
}

#[tokio::test]
async fn rooms_have_rules_and_limits() {
    let node = small_limits();
    let (mut alice, lobby) = member(&node, "alice").await;
    for name in ["".to_owned(), "x".repeat(81), "a\nb".to_owned()] {
        is_error(&alice.ask(json!({"type": "create_room", "name": name})).await, "bad_name", false);
    }
    is_error(&alice.ask(json!({"type": "create_room", "name": "lobby"})).await, "room_exists", false);
    is_error(&alice.ask(json!({"type": "join", "name": "nowhere"})).await, "unknown_room", false);
    let nowhere = Uuid::new_v4();
    is_error(&alice.ask(json!({"type": "join", "room": nowhere})).await, "unknown_room", false);
    is_error(&alice.ask(json!({"type": "direct", "user": "nobody"})).await, "unknown_user", false);
    is_error(&alice.ask(json!({"type": "history", "room": nowhere})).await, "not_a_member", false);

    let (_bob, _) = member(&node, "bob").await;
    let (mut carol, _) = Wire::hello(node.address(), &token("carol", 3_600), json!({})).await;
    is_error(&carol.ask(json!({"type": "history", "room": lobby})).await, "not_a_member", false);
    is_error(&carol.ask(json!({"type": "join", "room": lobby})).await, "room_full", false);
    assert_eq!(alice.ask(json!({"type": "create_room", "name": "den"})).await["type"], "room");
    is_error(&alice.ask(json!({"type": "create_room", "name": "attic"})).await, "too_many_rooms", false);
    assert_eq!(alice.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn whoever_is_not_known_is_told_whether_to_come_back() {
    let node = Node::start(json!({}));
    let first = async |frame: Value| {
        let mut wire = Wire::open(node.address()).await;
        wire.say(frame).await;
        (wire.hear().await, wire.hear_close().await)
    };
    let hello = |token: String| json!({"type": "hello", "token": token});
    for bad in ["".to_owned(), "nonsense".to_owned(), forged_token("alice")] {
        let (error, close) = first(hello(bad)).await;
        is_error(&error, "bad_token", false);
        assert_eq!(close, 4401);
    }
    let (error, close) = first(json!({"type": "hello"})).await;
    is_error(&error, "bad_token", false);
    assert_eq!(close, 4401);
    let (error, close) = first(hello(token("alice", -3_600))).await;
    is_error(&error, "token_expired", false);
    assert_eq!(close, 4402);
    let (error, close) = first(json!({"type": "ping", "id": 1})).await;
    is_error(&error, "not_identified", false);
    assert_eq!((&error["id"], close), (&json!(1), 4401));
}

#[tokio::test]
async fn a_token_that_expires_while_connected_closes_the_connection() {
    let node = Node::start(json!({
        "auth": {"leewaySeconds": 0},
        "limits": {"pingSeconds": 1, "webIdleSeconds": 5, "mobileIdleSeconds": 5},
    }));
    let (mut alice, _) = Wire::hello(node.address(), &token("alice", 2), json!({})).await;
    is_error(&alice.hear_a("error").await, "token_expired", false);
    assert_eq!(alice.hear_close().await, 4402);
}

#[tokio::test]
async fn too_large_a_frame_closes_the_connection() {
    let node = small_limits();
    let (mut alice, room) = member(&node, "alice").await;
    alice.say(json!({"type": "send", "n": 1, "room": room, "text": "x".repeat(4096)})).await;
    assert_eq!(alice.hear_close().await, 1009);
}

#[tokio::test]
async fn a_hello_has_room_for_every_room_that_a_user_may_be_in() {
    const ROOMS_MAX: usize = 50;
    let node =
        Node::start(json!({"limits": {"textBytesMax": 100, "frameBytesMax": 4096, "roomsPerUserMax": ROOMS_MAX}}));
    let position = || json!({"room": Uuid::new_v4(), "epoch": i32::MIN, "seq": i64::MAX, "event": Uuid::new_v4()});
    let resume = |rooms: usize| json!({"resume": (0..rooms).map(|_| position()).collect::<Vec<_>>()});
    let (_, welcome) = Wire::hello(node.address(), &token("alice", 3_600), resume(3 * ROOMS_MAX)).await;
    assert_eq!(welcome["type"], "welcome", "{welcome}");

    let mut hello = resume(6 * ROOMS_MAX);
    hello["type"] = "hello".into();
    let mut much = Wire::open(node.address()).await;
    much.say(hello).await;
    assert_eq!(much.hear_close().await, 1009);
}

#[tokio::test]
async fn silence_closes_the_connection() {
    let limits = json!({"limits": {
        "helloSeconds": 1, "pingSeconds": 1, "webIdleSeconds": 2, "mobileIdleSeconds": 3,
    }});
    let node = Node::start(limits);
    assert_eq!(Wire::open(node.address()).await.hear_close().await, 4408);

    // Below the WebSocket, so that nothing answers the pings. 0x88 begins a close frame, 0x03e9 is 1001.
    let (alice, _) = Wire::hello(node.address(), &token("alice", 3_600), json!({})).await;
    let mut bytes = Vec::new();
    let closed = timeout(Duration::from_secs(10), alice.into_stream().read_to_end(&mut bytes)).await;
    closed.expect("the connection was not closed in time").unwrap();
    let is_idle_close = |window: &[u8]| window[0] == 0x88 && window[2..] == [0x03, 0xe9];
    assert!(bytes.windows(4).any(is_idle_close), "{bytes:02x?}");
}

#[tokio::test]
async fn a_node_that_is_full_refuses_the_upgrade() {
    let node = Node::start(json!({"limits": {"connectionsMax": 1}}));
    let (_alice, _) = Wire::hello(node.address(), &token("alice", 3_600), json!({})).await;
    match Wire::upgrade(node.address(), None).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{:?} is no refusal", other.err()),
    }
}

#[test]
fn a_config_that_is_not_understood_is_refused_with_file_key_and_reason() {
    for (config, parts) in [
        ("limitz: {}", ["node.yaml", "limitz", "unknown field"]),
        ("limits: {textBytesMax: many}", ["node.yaml", "textBytesMax", "invalid type"]),
        ("limits: {textBytesMax: 0}", ["node.yaml", "limits.textBytesMax", "must be at least 1"]),
    ] {
        let said = refusal(config);
        assert!(parts.iter().all(|part| said.contains(part)), "{said:?} does not say {parts:?}");
    }
}

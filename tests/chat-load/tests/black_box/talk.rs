//! What the page promises to whoever keeps to it.

use chat_load::{dial::Tcp, rest};
use serde_json::{Value, json};
use standalone::{Node, token};
use uuid::Uuid;

use crate::wire::Wire;

/// What an event says, in short.
fn short(event: &Value) -> String {
    let field = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
    format!("{} {} {}: {}", event["seq"], field("kind"), field("sender"), field("text"))
}

fn shorts(events: &Value) -> Vec<String> {
    events.as_array().unwrap().iter().map(short).collect()
}

/// A user with an outbox, in a room of this name that is new.
async fn in_new_room(node: &Node, user: &str, room: &str) -> (Wire, Value, Uuid) {
    let outbox = Uuid::new_v4();
    let (mut wire, _) = Wire::hello(node.address(), &token(user, 3_600), json!({"outbox": outbox})).await;
    let room = wire.ask(json!({"type": "create_room", "name": room})).await["room"].clone();
    (wire, room, outbox)
}

/// The next event that is a message.
async fn message(wire: &mut Wire) -> Value {
    loop {
        let event = wire.hear_a("event").await;
        if event["kind"] == "message" {
            return event;
        }
    }
}

async fn send(wire: &mut Wire, room: &Value, n: u64, text: &str) -> Value {
    wire.ask(json!({"type": "send", "n": n, "room": room["id"], "text": text})).await
}

#[tokio::test]
async fn two_people_talk_in_a_room_and_in_private() {
    let node = Node::start(json!({}));
    let (mut alice, room, _) = in_new_room(&node, "alice", "lobby").await;
    assert_eq!((&room["name"], &room["kind"]), (&json!("lobby"), &json!("public")));

    let (mut bob, welcome) = Wire::hello(node.address(), &token("bob", 3_600), json!({"client": "mobile"})).await;
    assert_eq!((&welcome["user"], &welcome["rooms"]), (&json!("bob"), &json!([])));
    let joined = bob.ask(json!({"type": "join", "name": "lobby"})).await;
    assert_eq!((&joined["type"], &joined["room"]["id"]), (&json!("room"), &room["id"]));
    let again = bob.ask(json!({"type": "join", "room": room["id"]})).await;
    assert_eq!((&again["type"], &again["room"]["id"]), (&json!("room"), &room["id"]), "joining twice is no error");

    let committed = send(&mut alice, &room, 1, "hello").await;
    assert_eq!(
        (&committed["type"], &committed["n"], &committed["room"]),
        (&json!("committed"), &json!(1), &room["id"])
    );
    let event = message(&mut bob).await;
    for field in ["room", "epoch", "seq", "event", "time"] {
        assert_eq!(event[field], committed[field], "{field} in {event} and in {committed}");
    }
    assert_eq!((&event["sender"], &event["text"]), (&json!("alice"), &json!("hello")));

    let direct = alice.ask(json!({"type": "direct", "user": "bob"})).await["room"].clone();
    assert_eq!((&direct["kind"], &direct["with"]), (&json!("direct"), &json!("bob")));
    let opened = bob.hear_a("room").await;
    assert_eq!((&opened["id"], &opened["room"]["with"]), (&Value::Null, &json!("alice")));
    send(&mut alice, &direct, 2, "psst").await;
    let event = message(&mut bob).await;
    assert_eq!((&event["room"], &event["text"]), (&direct["id"], &json!("psst")));

    let left = bob.ask(json!({"type": "leave", "room": room["id"]})).await;
    assert_eq!((&left["type"], &left["room"]), (&json!("left"), &room["id"]));
    assert_eq!(alice.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn history_is_read_in_pages_from_both_ends() {
    let node = Node::start(json!({"limits": {"historyEventsMax": 3}}));
    let (mut alice, room, _) = in_new_room(&node, "alice", "lobby").await;
    let mut start = 0;
    for n in 1..=4 {
        start = send(&mut alice, &room, n, &format!("m{n}")).await["seq"].as_u64().unwrap() - n;
    }
    let message = |n: u64| format!("{} message alice: m{n}", start + n);
    let mut page = async |range: Value| {
        let mut request = json!({"type": "history", "room": room["id"]});
        request.as_object_mut().unwrap().extend(range.as_object().unwrap().clone());
        let page = alice.ask(request).await;
        assert_eq!((&page["room"], &page["epoch"]), (&room["id"], &room["epoch"]));
        (shorts(&page["events"]), page["more"].as_bool().unwrap())
    };
    assert_eq!(page(json!({})).await, (vec![message(2), message(3), message(4)], true));
    assert_eq!(page(json!({"limit": 1})).await, (vec![message(4)], true));
    assert_eq!(page(json!({"before": start + 3, "limit": 2})).await, (vec![message(1), message(2)], true));
    assert_eq!(page(json!({"after": start + 3})).await, (vec![message(4)], false));
    assert_eq!(page(json!({"after": start, "limit": 2})).await, (vec![message(1), message(2)], true));
    assert_eq!(page(json!({"after": start + 4})).await, (vec![], false));
}

#[tokio::test]
async fn a_repeated_send_has_its_first_result_even_on_another_connection() {
    let node = Node::start(json!({}));
    let (mut alice, room, outbox) = in_new_room(&node, "alice", "lobby").await;
    let first = send(&mut alice, &room, 1, "once").await;
    let place = |committed: &Value| (committed["seq"].clone(), committed["event"].clone());
    assert_eq!(place(&send(&mut alice, &room, 1, "once").await), place(&first));

    let (mut alice, welcome) = Wire::hello(node.address(), &token("alice", 3_600), json!({"outbox": outbox})).await;
    assert_eq!(welcome["outbox_last"], 1);
    assert_eq!(place(&send(&mut alice, &room, 1, "once").await), place(&first));
    let history = alice.ask(json!({"type": "history", "room": room["id"]})).await;
    assert_eq!(shorts(&history["events"]).iter().filter(|event| event.contains("once")).count(), 1);
}

#[tokio::test]
async fn what_was_missed_is_replayed_before_anything_new() {
    let node = Node::start(json!({}));
    let (mut alice, room, _) = in_new_room(&node, "alice", "lobby").await;
    let seen = send(&mut alice, &room, 1, "seen").await;
    let position = json!({"room": room["id"], "epoch": seen["epoch"], "seq": seen["seq"], "event": seen["event"]});
    for (n, text) in [(2, "missed"), (3, "missed too")] {
        send(&mut alice, &room, n, text).await;
    }
    let (mut again, welcome) = Wire::hello(node.address(), &token("alice", 3_600), json!({"resume": [position]})).await;
    assert_eq!(welcome["rooms"][0]["resume"], "replayed");
    send(&mut alice, &room, 4, "new").await;
    for expected in ["missed", "missed too", "new"] {
        assert_eq!(again.hear_a("event").await["text"], expected);
    }
}

#[tokio::test]
async fn a_resume_says_when_it_cannot_replay() {
    let node = Node::start(json!({"limits": {"replayEventsMax": 1}}));
    let (mut alice, room, _) = in_new_room(&node, "alice", "lobby").await;
    for n in 1..=3 {
        send(&mut alice, &room, n, "m").await;
    }
    let resume = async |position: Value| {
        let positions = if position.is_null() { json!([]) } else { json!([position]) };
        let (_, welcome) = Wire::hello(node.address(), &token("alice", 3_600), json!({"resume": positions})).await;
        welcome["rooms"][0]["resume"].clone()
    };
    assert_eq!(resume(Value::Null).await, "live");
    assert_eq!(resume(json!({"room": room["id"], "epoch": 1, "seq": 1})).await, "too_far");
    assert_eq!(resume(json!({"room": room["id"], "epoch": 2, "seq": 1})).await, "reset");
    assert_eq!(resume(json!({"room": room["id"], "epoch": 1, "seq": 99})).await, "reset");
}

#[tokio::test]
async fn an_account_gives_a_token_that_opens_a_connection() {
    let node = Node::start(json!({}));
    let dial = Tcp::new(&[node.url()], 0).unwrap();
    assert_eq!(rest::register(&dial, "carol", "correct horse").await.unwrap(), "carol");
    let token = rest::login(&dial, "carol", "correct horse").await.unwrap();
    let mut carol = Wire::upgrade(node.address(), Some(&token)).await.unwrap();
    carol.say(json!({"type": "hello"})).await;
    assert_eq!(carol.hear().await["user"], "carol");

    let code = |answer: Result<String, rest::RestError>| match answer {
        Err(rest::RestError::Refused { status, code, .. }) => (status, code),
        other => panic!("{other:?} is no refusal"),
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(code(rest::register(&dial, "carol", "correct horse").await), refused(409, "username_taken"));
    assert_eq!(code(rest::register(&dial, "Carol!", "correct horse").await), refused(400, "bad_username"));
    assert_eq!(code(rest::register(&dial, "dave", "short").await), refused(400, "bad_password"));
    assert_eq!(code(rest::login(&dial, "carol", "wrong horse").await), refused(401, "bad_credentials"));
    assert_eq!(code(rest::login(&dial, "nobody", "correct horse").await), refused(401, "bad_credentials"));
}

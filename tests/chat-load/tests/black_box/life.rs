//! What can be done to messages and members after they are there: each request of the page, and each way to be refused.

use serde_json::{Value, json};
use standalone::{Node, token};
use uuid::Uuid;

use crate::wire::Wire;

/// Alice, who owns the public room `lobby`, and bob, who is in it; each has an outbox.
async fn two(node: &Node) -> (Wire, Wire, Value) {
    let outbox = || json!({"outbox": Uuid::new_v4()});
    let (mut alice, _) = Wire::hello(node.address(), &token("alice", 3_600), outbox()).await;
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"})).await["room"].clone();
    assert_eq!(room["role"], "owner");
    let (mut bob, _) = Wire::hello(node.address(), &token("bob", 3_600), outbox()).await;
    let joined = bob.ask(json!({"type": "join", "room": room["id"]})).await;
    assert_eq!(joined["room"]["role"], "member");
    (alice, bob, room["id"].clone())
}

/// Sends, and gives the reference to the message.
async fn send(wire: &mut Wire, mut request: Value) -> Value {
    request["type"] = "send".into();
    let committed = wire.ask(request).await;
    assert_eq!(committed["type"], "committed", "{committed}");
    json!({"seq": committed["seq"], "event": committed["event"]})
}

async fn event(wire: &mut Wire, kind: &str) -> Value {
    loop {
        let event = wire.hear_a("event").await;
        if event["kind"] == kind {
            return event;
        }
    }
}

/// The answer to a change that changed something, or `null` when nothing had to change, or the code.
async fn change(wire: &mut Wire, room: &Value, mut request: Value) -> Value {
    request["room"] = room.clone();
    let answer = wire.ask(request).await;
    match answer["type"].as_str() {
        Some("done") => answer["seq"].clone(),
        Some("error") => answer["code"].clone(),
        _ => panic!("{answer}"),
    }
}

#[tokio::test]
async fn a_message_is_replied_to_edited_reacted_to_and_deleted() {
    let node = Node::start(json!({}));
    let (mut alice, mut bob, room) = two(&node).await;
    let first = send(&mut alice, json!({"n": 1, "room": room, "text": "helo"})).await;
    let reply = json!({"n": 1, "room": room, "text": "hi", "reply": first, "mentions": ["alice", "alice"]});
    send(&mut bob, reply).await;
    let heard = event(&mut alice, "message").await;
    let heard = if heard["sender"] == "bob" { heard } else { event(&mut alice, "message").await };
    assert_eq!((&heard["reply"], &heard["mentions"]), (&first, &json!(["alice"])));

    let edit = json!({"type": "edit", "target": first, "text": "hello"});
    let seq = change(&mut alice, &room, edit.clone()).await;
    let edited = event(&mut bob, "edited").await;
    assert_eq!((&edited["seq"], &edited["target"], &edited["text"]), (&seq, &first, &json!("hello")));
    assert_eq!(change(&mut alice, &room, edit).await, Value::Null, "it is so already");

    change(&mut bob, &room, json!({"type": "react", "target": first, "reaction": "👍"})).await;
    assert_eq!(event(&mut alice, "reacted").await["reaction"], "👍");
    let history = bob.ask(json!({"type": "history", "room": room})).await;
    assert_eq!(history["reactions"], json!([{"seq": first["seq"], "reaction": "👍", "count": 1, "mine": true}]));
    let original = &history["events"].as_array().unwrap().iter().find(|event| event["seq"] == first["seq"]).unwrap();
    assert_eq!((&original["text"], &original["edited"]["seq"]), (&json!("hello"), &seq));
    change(&mut bob, &room, json!({"type": "unreact", "target": first, "reaction": "👍"})).await;
    assert_eq!(event(&mut alice, "unreacted").await["sender"], "bob");

    change(&mut alice, &room, json!({"type": "delete", "target": first})).await;
    assert_eq!(event(&mut bob, "deleted").await["target"], first);
    let resume = json!({"resume": [{"room": room, "epoch": 1, "seq": first["seq"].as_u64().unwrap() - 1}]});
    let (mut again, _) = Wire::hello(node.address(), &token("bob", 3_600), resume).await;
    let replayed = again.hear_a("event").await;
    assert_eq!((&replayed["seq"], &replayed["text"]), (&first["seq"], &Value::Null), "a replay tells no deleted text");
    assert_eq!(replayed["deleted"]["sender"], "alice");
}

#[tokio::test]
async fn a_moderator_keeps_order() {
    let node = Node::start(json!({}));
    let (mut alice, mut bob, room) = two(&node).await;
    change(&mut alice, &room, json!({"type": "set_topic", "topic": "news"})).await;
    assert_eq!(event(&mut bob, "topic").await["text"], "news");

    change(&mut alice, &room, json!({"type": "mute", "user": "bob", "seconds": 60})).await;
    let muted = event(&mut bob, "muted").await;
    assert_eq!((&muted["user"], muted["until"].as_i64().is_some()), (&json!("bob"), true));
    let refused = bob.ask(json!({"type": "send", "n": 1, "room": room, "text": "but"})).await;
    assert_eq!((&refused["code"], &refused["n"]), (&json!("muted"), &json!(1)));
    change(&mut alice, &room, json!({"type": "unmute", "user": "bob"})).await;
    event(&mut bob, "unmuted").await;
    send(&mut bob, json!({"n": 2, "room": room, "text": "thanks"})).await;

    change(&mut alice, &room, json!({"type": "set_role", "user": "bob", "role": "moderator"})).await;
    assert_eq!(event(&mut bob, "role").await["role"], "moderator");
    let members = bob.ask(json!({"type": "members", "room": room, "limit": 1})).await;
    assert_eq!((&members["members"], &members["more"]), (&json!([{"user": "alice", "role": "owner"}]), &json!(true)));
    let rest = bob.ask(json!({"type": "members", "room": room, "after": "alice"})).await;
    assert_eq!((&rest["members"][0]["role"], &rest["more"]), (&json!("moderator"), &json!(false)));

    for (command, cause) in [("kick", "kicked"), ("ban", "banned")] {
        change(&mut alice, &room, json!({"type": command, "user": "bob"})).await;
        let left = bob.hear_a("left").await;
        assert_eq!((&left["room"], &left["cause"]), (&room, &json!(cause)));
        let refused = bob.ask(json!({"type": "history", "room": room})).await;
        assert_eq!(refused["code"], "not_a_member");
        if command == "kick" {
            assert_eq!(bob.ask(json!({"type": "join", "room": room})).await["type"], "room");
        }
    }
    assert_eq!(bob.ask(json!({"type": "join", "room": room})).await["code"], "banned");
    change(&mut alice, &room, json!({"type": "unban", "user": "bob"})).await;
    change(&mut alice, &room, json!({"type": "invite", "user": "bob"})).await;
    let told = bob.hear_a("room").await;
    assert_eq!((&told["room"]["id"], &told["room"]["topic"]), (&room, &json!("news")));
    assert_eq!(event(&mut bob, "invited").await["sender"], "alice");

    alice.ask(json!({"type": "leave", "room": room})).await;
    let role = event(&mut bob, "role").await;
    assert_eq!((&role["user"], &role["role"]), (&json!("bob"), &json!("owner")), "the ownership is handed on");
}

#[tokio::test]
async fn a_group_is_known_to_its_members_only() {
    let node = Node::start(json!({}));
    let (mut alice, mut bob, _) = two(&node).await;
    let group = alice.ask(json!({"type": "create_room", "name": "lobby", "kind": "private"})).await["room"].clone();
    assert_eq!((&group["kind"], &group["name"]), (&json!("private"), &json!("lobby")));
    let (mut carol, _) = Wire::hello(node.address(), &token("carol", 3_600), json!({})).await;
    assert_eq!(carol.ask(json!({"type": "join", "room": group["id"]})).await["code"], "unknown_room");
    change(&mut alice, &group["id"], json!({"type": "invite", "user": "bob"})).await;
    assert_eq!(bob.hear_a("room").await["room"]["id"], group["id"]);
    assert_eq!(change(&mut bob, &group["id"], json!({"type": "invite", "user": "carol"})).await, "not_allowed");
    let bad = alice.ask(json!({"type": "create_room", "name": "two", "kind": "direct"})).await;
    assert_eq!(bad["code"], "bad_frame");
}

#[tokio::test]
async fn what_cannot_be_done_is_told_by_a_code() {
    let node = Node::start(json!({"limits": {"textBytesMax": 100}}));
    let (mut alice, mut bob, room) = two(&node).await;
    let target = send(&mut alice, json!({"n": 1, "room": room, "text": "mine"})).await;
    let nothing = json!({"seq": target["seq"], "event": Uuid::new_v4()});
    let elsewhere = json!(Uuid::new_v4());
    for (command, code) in [
        (json!({"type": "edit", "target": target, "text": "yours"}), "not_allowed"),
        (json!({"type": "edit", "target": target, "text": " "}), "empty_text"),
        (json!({"type": "edit", "target": target, "text": "x".repeat(101)}), "text_too_long"),
        (json!({"type": "edit", "target": target, "text": "a\0"}), "bad_text"),
        (json!({"type": "edit", "target": nothing, "text": "x"}), "unknown_event"),
        (json!({"type": "edit", "target": 45, "text": "x"}), "bad_frame"),
        (json!({"type": "delete", "target": target}), "not_allowed"),
        (json!({"type": "delete", "target": nothing}), "unknown_event"),
        (json!({"type": "react", "target": target, "reaction": "a b"}), "bad_reaction"),
        (json!({"type": "react", "target": nothing, "reaction": "x"}), "unknown_event"),
        (json!({"type": "set_topic", "topic": "mine"}), "not_allowed"),
        (json!({"type": "kick", "user": "alice"}), "not_allowed"),
        (json!({"type": "invite", "user": "nobody"}), "unknown_user"),
        (json!({"type": "mute", "user": "alice", "seconds": 0}), "bad_duration"),
        (json!({"type": "set_role", "user": "bob", "role": "owner"}), "not_allowed"),
        (json!({"type": "set_role", "user": "bob", "role": "king"}), "bad_frame"),
    ] {
        assert_eq!(change(&mut bob, &room, command.clone()).await, code, "{command}");
        let code = if code == "bad_frame" { code } else { "not_a_member" };
        assert_eq!(change(&mut bob, &elsewhere, command.clone()).await, code, "{command} elsewhere");
    }
    for command in ["kick", "mute"] {
        assert_eq!(change(&mut alice, &room, json!({"type": command, "user": "carol"})).await, "unknown_member");
    }
    let mut refused = async |n: u64, further: Value| {
        let mut send = json!({"type": "send", "n": n, "room": room, "text": "m"});
        send.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        bob.ask(send).await["code"].clone()
    };
    assert_eq!(refused(1, json!({"reply": nothing})).await, "unknown_event");
    let many: Vec<String> = (0..51).map(|number| format!("user{number}")).collect();
    assert_eq!(refused(2, json!({"mentions": many})).await, "too_many_mentions");
    assert_eq!(refused(3, json!({"mentions": [""]})).await, "unknown_user");
    for number in 0..50 {
        let react = json!({"type": "react", "target": target, "reaction": format!("r{number}")});
        assert!(change(&mut alice, &room, react).await.is_u64());
    }
    let react = json!({"type": "react", "target": target, "reaction": "more"});
    assert_eq!(change(&mut alice, &room, react).await, "too_many_reactions");
}

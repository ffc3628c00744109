//! What `docs/rest.md` promises.

use chat_load::{
    dial::Tcp,
    rest::{Call, call},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use standalone::{Node, forged_token, token};
use uuid::Uuid;

use crate::{
    caller::{Caller, is_problem, on_both},
    wire::Wire,
};

/// The texts of a page of history.
fn texts(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().filter_map(|event| event["text"].as_str()).collect()
}

#[tokio::test]
async fn rooms_are_made_joined_found_and_left() {
    on_both(json!({}), async |node| {
        let (alice, bob) = (Caller::new(&node, "alice"), Caller::new(&node, "bob"));
        assert_eq!(alice.get("/me").await["user"], "alice");
        let lobby = alice.create("lobby").await;
        let path = format!("/rooms/{lobby}");
        is_problem(&bob.call(Method::GET, &path, None).await, 403, "not_a_member");
        let me = format!("{path}/members/me");
        for _ in 0..2 {
            let joined = bob.call(Method::PUT, &me, None).await;
            assert_eq!((joined.status, &joined.body["id"]), (StatusCode::OK, &json!(lobby)));
        }
        assert_eq!(bob.get(&path).await["name"], "lobby");
        let members = json!({"members": [{"user": "alice", "role": "owner"}, {"user": "bob", "role": "member"}]});
        assert_eq!(bob.get(&format!("{path}/members")).await, members);
        let direct = alice.call(Method::POST, "/direct", Some(json!({"user": "bob"}))).await;
        assert_eq!((direct.status, &direct.body["with"]), (StatusCode::OK, &json!("bob")));
        assert_eq!(bob.get("/rooms").await["rooms"].as_array().unwrap().len(), 2);
        assert_eq!(bob.call(Method::DELETE, &me, None).await.status, StatusCode::NO_CONTENT);
        is_problem(&bob.call(Method::DELETE, &me, None).await, 403, "not_a_member");
        assert_eq!(bob.get("/rooms").await["rooms"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn lists_come_in_pages_that_meet() {
    on_both(json!({}), async |node| {
        let alice = Caller::new(&node, "alice");
        for number in 0..7 {
            alice.create(&format!("room {number}")).await;
        }
        alice.create("other").await;
        for (list, field, expected) in [("/rooms?limit=3", "id", 8), ("/directory?prefix=room%20&limit=3", "name", 7)] {
            let (mut seen, mut path) = (Vec::new(), list.to_owned());
            for _ in 0..4 {
                let page = alice.get(&path).await;
                seen.extend(
                    page["rooms"].as_array().unwrap().iter().map(|room| room[field].as_str().unwrap().to_owned()),
                );
                let Some(next) = page["next"].as_str() else { break };
                path = format!("{list}&cursor={}", next.replace(' ', "%20"));
            }
            assert_eq!(seen.len(), expected, "{seen:?}");
            assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_over_rest_arrives_live_and_stays_in_history() {
    on_both(json!({}), async |node| {
        let alice = Caller::new(&node, "alice");
        let room = alice.create("lobby").await;
        let (mut bob, _) = Wire::hello(node.address(), &token("bob", 3_600), json!({})).await;
        bob.ask(json!({"type": "join", "room": room})).await;
        for number in 0..5 {
            let sent = alice.send(&room, &format!("m{number}"), None).await;
            assert_eq!(sent.status, StatusCode::CREATED, "{}", sent.body);
            let heard = loop {
                let event = bob.hear_a("event").await;
                if event["kind"] == "message" {
                    break event;
                }
            };
            assert_eq!((&heard["event"], &heard["seq"]), (&sent.body["event"], &sent.body["seq"]));
        }
        let path = format!("/rooms/{room}/events");
        let latest = alice.get(&format!("{path}?limit=2")).await;
        assert_eq!((texts(&latest), &latest["more"]), (vec!["m3", "m4"], &json!(true)));
        let before = latest["events"][0]["seq"].as_i64().unwrap();
        assert_eq!(texts(&alice.get(&format!("{path}?before={before}")).await), ["m0", "m1", "m2"]);
        let after = alice.get(&format!("{path}?after={before}")).await;
        assert_eq!((texts(&after), &after["more"]), (vec!["m4"], &json!(false)));
        let between = alice.get(&format!("{path}?after={}&before={before}", before - 2)).await;
        assert_eq!((texts(&between), &between["more"]), (vec!["m2"], &json!(false)));
    })
    .await;
}

#[tokio::test]
async fn a_send_that_is_repeated_under_its_key_is_there_once() {
    on_both(json!({}), async |mut node| {
        let alice = Caller::new(&node, "alice");
        let room = alice.create("lobby").await;
        let (key, other) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let first = alice.send(&room, "once", Some(&key)).await;
        assert_eq!(alice.send(&room, "once", Some(&key)).await.body, first.body);
        node.kill_and_start_again();
        assert_eq!(alice.send(&room, "once", Some(&key)).await.body, first.body, "also after a power cut");
        assert_ne!(alice.send(&room, "twice", Some(&other)).await.body["seq"], first.body["seq"]);
        let history = alice.get(&format!("/rooms/{room}/events")).await;
        assert_eq!(texts(&history), ["once", "twice"]);
        is_problem(&alice.send(&room, " ", None).await, 400, "empty_text");
        is_problem(&alice.send(&room, "x", Some("")).await, 400, "bad_request");
    })
    .await;
}

#[tokio::test]
async fn what_is_counted_is_there_from_the_start_and_no_text_is_logged() {
    const SECRET: &str = "nobody may read this in a log";
    let node =
        Node::start(json!({"log": {"format": "json", "filter": "trace,tungstenite=info,tokio_tungstenite=info"}}));
    let admin = Tcp::new(&[&format!("http://{}", node.admin())], 0).unwrap();
    let metrics = call(&admin, &Call { path: "/metrics", ..Call::default() }).await.unwrap();
    let metrics = metrics.body["detail"].as_str().unwrap().to_owned();
    for series in [
        r#"chat_connections{client="web"} 0"#,
        r#"chat_refusals_total{reason="address_rate"} 0"#,
        "# HELP chat_sends_total",
    ] {
        assert!(metrics.contains(series), "{series} is not in {metrics}");
    }
    let alice = Caller::new(&node, "alice");
    let room = alice.create("lobby").await;
    alice.send(&room, SECRET, None).await;
    alice.send(&room, &format!("{SECRET}\0"), None).await;
    alice.send(&room, &SECRET.repeat(1000), None).await;
    let (mut bob, _) = Wire::hello(node.address(), &token("bob", 3_600), json!({"outbox": Uuid::new_v4()})).await;
    bob.ask(json!({"type": "join", "room": room})).await;
    bob.ask(json!({"type": "send", "n": 1, "room": room, "text": SECRET})).await;
    bob.ask(json!({"type": "send", "n": 2, "room": room, "text": [SECRET]})).await;
    assert_eq!(bob.ask(json!({"type": "ping"})).await["type"], "pong");
    let log = node.log();
    let lines =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    assert!(lines.count() > 1, "{log}");
    assert!(!log.contains(SECRET) && !log.contains(&alice.token), "{log}");
}

#[tokio::test]
async fn mistakes_are_told_as_problems() {
    let node = Node::start(json!({"limits": {"requestsPerSecondMax": 1, "requestsBurstMax": 20}}));
    let alice = Caller::new(&node, "alice");
    let nobody = Caller { token: forged_token("alice"), ..Caller::new(&node, "alice") };
    let late = Caller { token: token("alice", -3_600), ..Caller::new(&node, "alice") };
    let refused = nobody.call(Method::GET, "/me", None).await;
    is_problem(&refused, 401, "bad_token");
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    is_problem(&late.call(Method::GET, "/me", None).await, 401, "token_expired");
    is_problem(&alice.call(Method::GET, "/nothing", None).await, 404, "unknown_path");
    let wrong = alice.call(Method::PATCH, "/rooms", None).await;
    is_problem(&wrong, 405, "bad_method");
    let allowed = wrong.headers["allow"].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    is_problem(&alice.call(Method::GET, "/rooms?limit=0", None).await, 400, "bad_request");
    is_problem(&alice.call(Method::GET, "/rooms/nowhere", None).await, 400, "bad_request");
    is_problem(&alice.call(Method::POST, "/rooms", Some(json!({"nam": "x"}))).await, 400, "bad_request");
    is_problem(&alice.call(Method::POST, "/rooms", Some(json!({"name": "\n"}))).await, 400, "bad_name");
    is_problem(&alice.call(Method::POST, "/rooms", None).await, 415, "not_json");
    let long = json!({"name": "x".repeat(100_000)});
    is_problem(&alice.call(Method::POST, "/rooms", Some(long)).await, 413, "too_large");
    let nowhere = Uuid::new_v4();
    is_problem(&alice.call(Method::PUT, &format!("/rooms/{nowhere}/members/me"), None).await, 404, "unknown_room");
    is_problem(&alice.call(Method::POST, "/direct", Some(json!({"user": "nobody"}))).await, 404, "unknown_user");
    is_problem(&alice.send(&nowhere.to_string(), "x", None).await, 403, "not_a_member");
    let limited = loop {
        let answer = alice.call(Method::GET, "/me", None).await;
        if answer.status != StatusCode::OK {
            break answer;
        }
    };
    is_problem(&limited, 429, "too_many_requests");
    assert!(limited.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(Caller::new(&node, "bob").get("/me").await["user"], "bob", "users do not share");
}

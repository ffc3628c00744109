//! What everybody who is online is told, as `docs/protocol.md` §3.3 and `docs/rest.md` promise it.

use chat_load::rest::{Call, call};
use http::Method;
use serde_json::{Value, json};
use standalone::{Node, token, token_with};
use uuid::Uuid;

use crate::{
    caller::{Caller, is_problem, on_both},
    wire::Wire,
};

async fn announce(root: &Caller, body: Value) -> Value {
    let made = root.call(Method::POST, "/announcements", Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.body
}

fn admins() -> Value {
    json!({"auth": {"admins": ["root"]}, "limits": {"requestsPerSecondMax": 1_000}})
}

async fn online(node: &Node, user: &str) -> Wire {
    Wire::hello(node.address(), &token(user, 3_600), json!({})).await.0
}

#[tokio::test]
async fn an_announcement_is_told_at_once_and_right_after_each_welcome_until_it_is_over() {
    on_both(admins(), async |mut node| {
        let mut alice = online(&node, "alice").await;
        let root = Caller::new(&node, "root");
        let mut made = announce(&root, json!({"text": "tea at four", "seconds": 600})).await;
        assert_eq!((&made["sender"], &made["text"]), (&json!("root"), &json!("tea at four")));
        assert_eq!(made["until"].as_i64().unwrap() - made["time"].as_i64().unwrap(), 600_000);
        let id = made["id"].as_str().unwrap().to_owned();
        assert_eq!(Caller::new(&node, "alice").get("/announcements").await["announcements"], json!([made]));
        made["type"] = "announcement".into();
        assert_eq!(alice.hear().await, made, "whoever is in no room is told as well");
        let lasting = announce(&root, json!({"text": "cake"})).await;
        assert_eq!(lasting.get("until"), None);
        assert_eq!(alice.hear().await["text"], "cake");

        node.kill_and_start_again();
        let mut alice = online(&node, "alice").await;
        assert_eq!(alice.hear().await, made, "it is told again after a power cut");
        assert_eq!(alice.hear().await["text"], "cake");
        let root = Caller::new(&node, "root");
        let path = format!("/announcements/{id}");
        assert_eq!(root.call(Method::DELETE, &path, None).await.status, 204);
        assert_eq!(alice.hear().await, json!({"type": "announcement_ended", "id": id}));
        is_problem(&root.call(Method::DELETE, &path, None).await, 404, "unknown_announcement");

        announce(&root, json!({"text": "be quick", "seconds": 1})).await;
        assert_eq!(alice.hear().await["text"], "be quick");
        let deadline = tokio::time::Instant::now() + tokio::time::Duration::from_secs(10);
        while root.get("/announcements").await["announcements"].as_array().unwrap().len() > 1 {
            assert!(tokio::time::Instant::now() < deadline, "it is still in force");
            tokio::time::sleep(tokio::time::Duration::from_millis(50)).await;
        }
        let mut bob = online(&node, "bob").await;
        assert_eq!(bob.hear().await["text"], "cake", "what is over by itself is not told");
        assert_eq!(bob.ask(json!({"type": "ping"})).await["type"], "pong");
        // Nothing was said of the end.
        alice.say(json!({"type": "ping", "id": 1})).await;
        assert_eq!(alice.hear().await["type"], "pong");
    })
    .await;
}

#[tokio::test]
async fn an_announcement_with_a_key_is_made_once_however_often_it_is_asked_for() {
    on_both(admins(), async |mut node| {
        let ask = async |node: &Node, user: &str, text: &str, key: &str| {
            let caller = Caller::new(node, user);
            let (token, body) = (Some(caller.token.as_str()), Some(&json!({"text": text})));
            let path = "/api/v1/announcements";
            let asked = Call { method: Method::POST, path, token, idempotency_key: Some(key), body };
            call(&caller.dial, &asked).await.unwrap()
        };
        let mut alice = online(&node, "alice").await;
        let first = ask(&node, "root", "tea at four", "a key").await;
        assert_eq!(first.status, 201, "{}", first.body);
        assert_eq!(alice.hear().await["id"], first.body["id"]);
        for text in ["tea at four", "cake"] {
            let again = ask(&node, "root", text, "a key").await;
            assert_eq!((again.status, &again.body), (first.status, &first.body));
        }
        let id = first.body["id"].as_str().unwrap();
        assert_eq!(Caller::new(&node, "root").get("/announcements").await["announcements"], json!([first.body]));
        // Nothing else was told, and nothing is once it is over.
        let over = Caller::new(&node, "root").call(Method::DELETE, &format!("/announcements/{id}"), None).await;
        assert_eq!(over.status, 204);
        assert_eq!(alice.hear().await, json!({"type": "announcement_ended", "id": id}));
        node.kill_and_start_again();
        assert_eq!(ask(&node, "root", "tea at four", "a key").await.body, first.body, "on a node that has just begun");
        assert_eq!(Caller::new(&node, "root").get("/announcements").await["announcements"], json!([]));
        assert_ne!(ask(&node, "root", "tea at four", "another").await.body["id"], first.body["id"]);
        is_problem(&ask(&node, "root", "x", "tab\there").await, 400, "bad_request");
        is_problem(&ask(&node, "alice", "x", "a key").await, 403, "forbidden");
    })
    .await;
}

#[tokio::test]
async fn who_may_announce_what_and_how_much() {
    on_both(admins(), async |node| {
        let (root, alice) = (Caller::new(&node, "root"), Caller::new(&node, "alice"));
        let narrowed = token_with("root", 3_600, json!({"scope": "chat:send"}));
        let narrowed = Caller { token: narrowed, ..Caller::new(&node, "root") };
        let (post, delete, text) = (Method::POST, Method::DELETE, Some(json!({"text": "x"})));
        let somewhere = format!("/announcements/{}", Uuid::new_v4());
        for nobody in [&alice, &narrowed] {
            is_problem(&nobody.call(post.clone(), "/announcements", text.clone()).await, 403, "forbidden");
            is_problem(&nobody.call(delete.clone(), &somewhere, None).await, 403, "forbidden");
        }
        for (body, code) in [
            (json!({"text": " "}), "empty_text"),
            (json!({"text": "x".repeat(2_049)}), "text_too_long"),
            (json!({"text": "a\0"}), "bad_text"),
            (json!({"text": "x", "seconds": 0}), "bad_duration"),
            (json!({"text": "x", "seconds": u64::MAX}), "bad_duration"),
            (json!({"text": "x", "until": 5}), "bad_request"),
        ] {
            is_problem(&root.call(post.clone(), "/announcements", Some(body)).await, 400, code);
        }
        is_problem(&root.call(delete.clone(), &somewhere, None).await, 404, "unknown_announcement");
        is_problem(&root.call(delete.clone(), "/announcements/first", None).await, 400, "bad_request");
        for number in 0..20 {
            announce(&root, json!({"text": format!("{number:02}")})).await;
        }
        is_problem(&root.call(post, "/announcements", text).await, 409, "too_many_announcements");
        let (mut seen, mut path) = (Vec::new(), "/announcements?limit=8".to_owned());
        for _ in 0..3 {
            let page = alice.get(&path).await;
            seen.extend(
                page["announcements"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/announcements?limit=8&cursor={next}");
        }
        assert_eq!(seen, (0..20).map(|number| format!("{number:02}")).collect::<Vec<_>>());
    })
    .await;
}

//! What `docs/rest.md` promises of changes to messages, members and rooms: each is asked for over REST, and heard live.

use http::Method;
use serde_json::{Value, json};
use standalone::{Node, token, token_with};
use uuid::Uuid;

use crate::{
    caller::{Caller, is_problem, on_both},
    wire::Wire,
};

/// Alice, who owns the room `lobby`, bob, who is in it, and what bob hears on a connection of his.
struct Scene {
    alice: Caller,
    bob: Caller,
    live: Wire,
    room: String,
    path: String,
}

impl Scene {
    async fn new(node: &Node) -> Scene {
        let (alice, bob) = (Caller::new(node, "alice"), Caller::new(node, "bob"));
        let room = alice.create("lobby").await;
        let path = format!("/rooms/{room}");
        bob.done(Method::PUT, &format!("{path}/members/me"), None).await;
        let (live, _) = Wire::hello(node.address(), &token("bob", 3_600), json!({})).await;
        Scene { alice, bob, live, room, path }
    }

    /// The next event of this kind that bob hears.
    async fn hears(&mut self, kind: &str) -> Value {
        loop {
            let event = self.live.hear_a("event").await;
            if event["kind"] == kind {
                return event;
            }
        }
    }

    /// Alice changes something below the room, and bob hears of it as an event of this kind at the place that she is told.
    async fn change(&mut self, method: Method, below: &str, body: impl Into<Option<Value>>, kind: &str) -> Value {
        let changed = self.alice.done(method, &format!("{}{below}", self.path), body).await;
        let heard = self.hears(kind).await;
        assert_eq!((&heard["seq"], &heard["sender"]), (&changed["seq"], &json!("alice")), "{heard}");
        heard
    }

    /// Alice says something. Gives the path of the message below the room, and its two names.
    async fn say(&self, text: &str) -> (String, Value) {
        let sent = self.alice.send(&self.room, text, None).await.body;
        let (seq, event) = (sent["seq"].as_i64().unwrap(), sent["event"].as_str().unwrap());
        (format!("/messages/{seq}"), json!({"seq": seq, "event": event}))
    }
}

fn by(target: &Value) -> String {
    format!("?event={}", target["event"].as_str().unwrap())
}

/// A thumb up, as it stands in a path.
const THUMB: &str = "%F0%9F%91%8D";

#[tokio::test]
async fn a_message_is_replied_to_edited_reacted_to_and_deleted() {
    on_both(json!({}), async |node| {
        let mut scene = Scene::new(&node).await;
        let (message, target) = scene.say("helo").await;
        let reply = json!({"text": "hi", "reply": target, "mentions": ["bob"]});
        let messages = format!("{}/messages", scene.path);
        let sent = scene.alice.call(Method::POST, &messages, Some(reply)).await;
        assert_eq!(sent.status, 201, "{}", sent.body);
        scene.hears("message").await;
        let heard = scene.hears("message").await;
        assert_eq!((&heard["reply"], &heard["mentions"]), (&target, &json!(["bob"])));

        let edit = format!("{message}{}", by(&target));
        let heard = scene.change(Method::PATCH, &edit, json!({"text": "hello"}), "edited").await;
        assert_eq!((&heard["target"], &heard["text"]), (&target, &json!("hello")));
        let again = scene.alice.done(Method::PATCH, &format!("{}{edit}", scene.path), json!({"text": "hello"})).await;
        assert_eq!(again, json!({}), "it is so already");

        let reaction = format!("{message}/reactions/{THUMB}{}", by(&target));
        let heard = scene.change(Method::PUT, &reaction, None, "reacted").await;
        assert_eq!((&heard["target"], &heard["reaction"]), (&target, &json!("👍")));
        let history = scene.bob.get(&format!("{}/events", scene.path)).await;
        assert_eq!(history["reactions"], json!([{"seq": target["seq"], "reaction": "👍", "count": 1, "mine": false}]));
        assert_eq!(scene.alice.done(Method::PUT, &format!("{}{reaction}", scene.path), None).await, json!({}));
        let others = scene.bob.done(Method::DELETE, &format!("{}{reaction}", scene.path), None).await;
        assert_eq!(others, json!({}), "one takes back one's own");
        assert_eq!(scene.change(Method::DELETE, &reaction, None, "unreacted").await["reaction"], "👍");

        let heard = scene.change(Method::DELETE, &edit, None, "deleted").await;
        assert_eq!(heard["target"], target);
        assert_eq!(scene.alice.done(Method::DELETE, &format!("{}{edit}", scene.path), None).await, json!({}));
        let history = scene.bob.get(&format!("{}/events", scene.path)).await;
        let deleted = history["events"].as_array().unwrap().iter().find(|event| event["seq"] == target["seq"]).unwrap();
        assert_eq!((&deleted["text"], &deleted["deleted"]["sender"]), (&Value::Null, &json!("alice")));
        let late = scene.alice.call(Method::PATCH, &format!("{}{edit}", scene.path), Some(json!({"text": "x"}))).await;
        is_problem(&late, 404, "unknown_event");
    })
    .await;
}

#[tokio::test]
async fn order_is_kept_over_rest_and_heard_live() {
    on_both(json!({}), async |node| {
        let mut scene = Scene::new(&node).await;
        let topic = scene.change(Method::PUT, "/topic", json!({"topic": "news"}), "topic").await;
        assert_eq!(topic["text"], "news");
        assert_eq!(scene.bob.get(&scene.path).await["topic"], "news");

        let muted = scene.change(Method::PUT, "/mutes/bob", json!({"seconds": 60}), "muted").await;
        assert_eq!((&muted["user"], muted["until"].is_i64()), (&json!("bob"), true));
        is_problem(&scene.bob.send(&scene.room, "but", Some("a key")).await, 403, "muted");
        let members = scene.bob.get(&format!("{}/members", scene.path)).await;
        assert_eq!(members["members"][1]["muted_until"], muted["until"]);
        scene.change(Method::DELETE, "/mutes/bob", None, "unmuted").await;
        let sent = scene.bob.send(&scene.room, "but", Some("a key")).await;
        assert_eq!(sent.status, 201, "the refusal was not kept under the key: {}", sent.body);
        scene.change(Method::PUT, "/mutes/bob", json!({"seconds": 60}), "muted").await;
        let again = scene.bob.send(&scene.room, "but", Some("a key")).await;
        assert_eq!((again.status.as_u16(), again.body), (201, sent.body), "it is there, whatever he may by now");
        scene.change(Method::DELETE, "/mutes/bob", None, "unmuted").await;

        let role = scene.change(Method::PUT, "/members/bob/role", json!({"role": "moderator"}), "role").await;
        assert_eq!((&role["user"], &role["role"]), (&json!("bob"), &json!("moderator")));
        assert_eq!(scene.bob.get(&scene.path).await["role"], "moderator");

        for (path, body, kind) in
            [("/members/bob", None, "kicked"), ("/bans/bob", Some(json!({"seconds": 60})), "banned")]
        {
            let method = if body.is_some() { Method::PUT } else { Method::DELETE };
            scene.alice.done(method, &format!("{}{path}", scene.path), body).await;
            let left = scene.live.hear_a("left").await;
            assert_eq!((&left["room"], &left["cause"]), (&json!(scene.room), &json!(kind)));
            is_problem(&scene.bob.call(Method::GET, &scene.path, None).await, 403, "not_a_member");
            if kind == "kicked" {
                scene.bob.done(Method::PUT, &format!("{}/members/me", scene.path), None).await;
                assert_eq!(scene.live.hear_a("room").await["room"]["id"], scene.room);
            }
        }
        let me = format!("{}/members/me", scene.path);
        is_problem(&scene.bob.call(Method::PUT, &me, None).await, 403, "banned");
        let bob = format!("{}/members/bob", scene.path);
        is_problem(&scene.alice.call(Method::PUT, &bob, None).await, 403, "banned");
        let bans = format!("{}/bans/bob", scene.path);
        assert!(scene.alice.done(Method::DELETE, &bans, None).await["seq"].is_i64());
        assert_eq!(scene.alice.done(Method::DELETE, &bans, None).await, json!({}), "it is so already");
        assert!(scene.alice.done(Method::PUT, &bob, None).await["seq"].is_i64());
        assert_eq!(scene.live.hear_a("room").await["room"]["topic"], "news");
        assert_eq!(scene.hears("invited").await["user"], "bob");
    })
    .await;
}

#[tokio::test]
async fn a_group_is_for_whoever_is_invited_also_somebody_called_me() {
    on_both(json!({}), async |node| {
        let (alice, me) = (Caller::new(&node, "alice"), Caller::new(&node, "me"));
        me.create("elsewhere").await;
        let group = alice.call(Method::POST, "/rooms", Some(json!({"name": "group", "kind": "private"}))).await;
        assert_eq!((group.status.as_u16(), &group.body["kind"]), (201, &json!("private")));
        let path = format!("/rooms/{}", group.body["id"].as_str().unwrap());
        let join = me.call(Method::PUT, &format!("{path}/members/me"), None).await;
        is_problem(&join, 404, "unknown_room");
        assert!(alice.done(Method::PUT, &format!("{path}/members/%6De"), None).await["seq"].is_i64());
        assert_eq!(me.get(&path).await["name"], "group");
        is_problem(
            &alice.call(Method::POST, "/rooms", Some(json!({"name": "x", "kind": "direct"}))).await,
            400,
            "bad_request",
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_read_on_one_device_is_read_on_all() {
    on_both(json!({}), async |node| {
        let mut scene = Scene::new(&node).await;
        let head = scene.bob.get(&scene.path).await["head"].as_i64().unwrap();
        assert_eq!(scene.bob.get(&scene.path).await["read"], head - 1, "bob's own join is all that is new");
        for text in ["one", "two"] {
            scene.say(text).await;
        }
        let room = Uuid::parse_str(&scene.room).unwrap();
        let unread = json!({"rooms": [{"room": room, "read": head - 1, "messages": 2, "mentions": 0}]});
        assert_eq!(scene.bob.get("/unread").await, unread);
        let read = format!("{}/read", scene.path);
        assert_eq!(scene.bob.done(Method::PUT, &read, json!({"seq": head + 1})).await, json!({"seq": head + 1}));
        assert_eq!(scene.live.hear_a("read").await["seq"], head + 1);
        assert_eq!(scene.bob.get("/unread").await["rooms"][0]["messages"], 1);
        for (seq, expected) in [(head, head + 1), (head + 100, head + 1), (head + 2, head + 2)] {
            assert_eq!(scene.bob.done(Method::PUT, &read, json!({"seq": seq})).await, json!({"seq": expected}));
        }
        assert_eq!(scene.bob.get("/unread").await, json!({"rooms": []}));
        assert_eq!(scene.bob.get("/rooms").await["rooms"][0]["read"], head + 2);
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_done_is_told_by_a_problem() {
    on_both(json!({"limits": {"textBytesMax": 100}}), async |node| {
        let scene = Scene::new(&node).await;
        let (message, target) = scene.say("mine").await;
        let (event, other) = (by(&target), format!("?event={}", Uuid::new_v4()));
        let text = |text: &str| Some(json!({"text": text}));
        let (put, patch, delete) = (Method::PUT, Method::PATCH, Method::DELETE);
        let react = |reaction: &str, event: &str| format!("{message}/reactions/{reaction}{event}");
        let refusals = [
            (&patch, format!("{message}{event}"), text("yours"), 403, "not_allowed"),
            (&patch, format!("{message}{event}"), text(" "), 400, "empty_text"),
            (&patch, format!("{message}{event}"), text(&"x".repeat(101)), 400, "text_too_long"),
            (&patch, format!("{message}{event}"), text("a\0"), 400, "bad_text"),
            (&patch, format!("{message}{other}"), text("x"), 404, "unknown_event"),
            (&patch, message.clone(), text("x"), 400, "bad_request"),
            (&patch, format!("/messages/first{event}"), text("x"), 400, "bad_request"),
            (&patch, format!("{message}{event}"), None, 415, "not_json"),
            (&delete, format!("{message}{event}"), None, 403, "not_allowed"),
            (&delete, format!("{message}{other}"), None, 404, "unknown_event"),
            (&delete, message.clone(), None, 400, "bad_request"),
            (&put, react("a%20b", &event), None, 400, "bad_reaction"),
            (&put, react("x", &other), None, 404, "unknown_event"),
            (&put, react("x", ""), None, 400, "bad_request"),
            (&delete, react("%00", &event), None, 400, "bad_reaction"),
            (&put, "/topic".into(), Some(json!({"topic": "mine"})), 403, "not_allowed"),
            (&put, "/topic".into(), Some(json!({"topic": "x".repeat(1_025)})), 400, "text_too_long"),
            (&put, "/members/nobody".into(), None, 404, "unknown_user"),
            (&put, format!("/members/{}", "x".repeat(129)), None, 404, "unknown_user"),
            (&delete, "/members/alice".into(), None, 403, "not_allowed"),
            (&put, "/members/bob/role".into(), Some(json!({"role": "owner"})), 403, "not_allowed"),
            (&put, "/members/bob/role".into(), Some(json!({"role": "king"})), 400, "bad_request"),
            (&put, "/bans/alice".into(), Some(json!({})), 403, "not_allowed"),
            (&put, "/bans/alice".into(), Some(json!({"seconds": 0})), 400, "bad_duration"),
            (&put, "/mutes/alice".into(), Some(json!({"seconds": u64::MAX})), 400, "bad_duration"),
            (&put, "/mutes/alice".into(), Some(json!({"second": 1})), 400, "bad_request"),
            (&delete, "/bans/alice".into(), None, 403, "not_allowed"),
            (&delete, "/mutes/alice".into(), None, 403, "not_allowed"),
        ];
        let nowhere = format!("/rooms/{}", Uuid::new_v4());
        for (method, below, body, status, code) in refusals {
            let answer = scene.bob.call(method.clone(), &format!("{}{below}", scene.path), body.clone()).await;
            is_problem(&answer, status, code);
            // What can be understood is refused for the room first, whether it is there or not.
            if !["bad_request", "not_json"].contains(&code) {
                let answer = scene.bob.call(method.clone(), &format!("{nowhere}{below}"), body).await;
                is_problem(&answer, 403, "not_a_member");
            }
        }
        let seq = Some(json!({"seq": 1}));
        is_problem(&scene.bob.call(put.clone(), &format!("{nowhere}/read"), seq).await, 403, "not_a_member");
        let seq = Some(json!({"seq": "last"}));
        is_problem(&scene.bob.call(put.clone(), &format!("{}/read", scene.path), seq).await, 400, "bad_request");
        for (method, below) in [(&delete, "/members/carol"), (&delete, "/mutes/carol")] {
            let answer = scene.alice.call(method.clone(), &format!("{}{below}", scene.path), None).await;
            is_problem(&answer, 404, "unknown_member");
        }
        let many: Vec<String> = (0..51).map(|number| format!("user{number}")).collect();
        let (messages, many) = (format!("{}/messages", scene.path), json!({"text": "x", "mentions": many}));
        is_problem(&scene.bob.call(Method::POST, &messages, Some(many)).await, 400, "too_many_mentions");
        let reply = json!({"text": "x", "reply": {"seq": 1, "event": Uuid::new_v4()}});
        is_problem(&scene.bob.call(Method::POST, &messages, Some(reply)).await, 404, "unknown_event");
    })
    .await;
}

#[tokio::test]
async fn a_token_allows_over_rest_what_it_allows_over_a_socket() {
    let node = Node::start(json!({}));
    let scene = Scene::new(&node).await;
    let (message, target) = scene.say("mine").await;
    let narrowed = |scope: &str| Caller {
        token: token_with("alice", 3_600, json!({"scope": scope})),
        ..Caller::new(&node, "alice")
    };
    let edit = format!("{}{message}{}", scene.path, by(&target));
    let (topic, text) = (json!({"topic": "news"}), json!({"text": "x"}));
    let (sender, keeper) = (narrowed("chat:send"), narrowed("chat:rooms"));
    is_problem(&keeper.call(Method::PATCH, &edit, Some(text.clone())).await, 403, "forbidden");
    assert!(sender.done(Method::PATCH, &edit, text).await["seq"].is_i64());
    let path = format!("{}/topic", scene.path);
    is_problem(&sender.call(Method::PUT, &path, Some(topic.clone())).await, 403, "forbidden");
    assert!(keeper.done(Method::PUT, &path, topic).await["seq"].is_i64());
    for reader in [&sender, &keeper, &narrowed("chat:read")] {
        reader.get("/unread").await;
    }
}

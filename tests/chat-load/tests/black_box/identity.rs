//! Who is let in: tokens of other issuers, and what they may do.

use serde_json::{Value, json};
use standalone::Node;
use tokio::time::{Duration, Instant};

use crate::{
    issuer::{Key, Provider},
    wire::Wire,
};

/// Longer than a node waits before it asks for keys again.
const ROTATED_WITHIN: Duration = Duration::from_secs(20);

/// How a hello with this token ends: the user, or the code of the error and the code of the close.
async fn hello(node: &Node, token: &str) -> Result<String, (String, u16)> {
    let mut wire = Wire::open(node.address()).await;
    wire.say(json!({"type": "hello", "token": token})).await;
    let answer = wire.hear().await;
    match answer["type"].as_str() {
        Some("welcome") => Ok(answer["user"].as_str().unwrap().to_owned()),
        _ => Err((answer["code"].as_str().unwrap().to_owned(), wire.hear_close().await)),
    }
}

fn stop() -> Result<String, (String, u16)> {
    Err(("bad_token".into(), 4401))
}

fn come_back() -> Result<String, (String, u16)> {
    Err(("unavailable".into(), 1013))
}

/// Says hello until it ends otherwise than with "come back".
async fn told(node: &Node, token: &str) -> Result<String, (String, u16)> {
    let deadline = Instant::now() + ROTATED_WITHIN;
    loop {
        let end = hello(node, token).await;
        if end != come_back() {
            return end;
        }
        assert!(Instant::now() < deadline, "the keys were not asked for again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn tokens_of_an_openid_provider_let_in_through_a_rotation_of_its_keys() {
    let (old, new, foreign) = (Key::new("old"), Key::new("new"), Key::new("old"));
    let provider = Provider::start();
    let node = Node::start(json!({"auth": provider.config()}));
    // The provider is away at first: nobody can tell, so come back.
    let alice = old.token("alice", json!({}));
    assert_eq!(hello(&node, &alice).await, come_back());
    provider.publish(&[&old]);
    assert_eq!(told(&node, &alice).await, Ok("alice".into()));
    for (changes, why) in [
        (json!({"aud": "mail"}), "for another service"),
        (json!({"iss": "https://elsewhere.example.org"}), "of another issuer"),
        (json!({"nbf": 99_999_999_999_u64}), "not yet good"),
        (json!({"sub": ""}), "for nobody"),
    ] {
        assert_eq!(hello(&node, &old.token("alice", changes)).await, stop(), "a token {why}");
    }
    assert_eq!(hello(&node, &foreign.token("alice", json!({}))).await, stop(), "signed by someone else");
    let expired = old.token("alice", json!({"exp": 1_000_000_000}));
    assert_eq!(hello(&node, &expired).await, Err(("token_expired".into(), 4402)));
    // The node's own tokens go on.
    assert_eq!(hello(&node, &standalone::token("bob", 60)).await, Ok("bob".into()));
    // A storm of tokens with unknown keys is no storm on the provider.
    let asked = provider.asked();
    for number in 0..50 {
        assert!(hello(&node, &Key::new(&number.to_string()).token("eve", json!({}))).await.is_err());
    }
    assert!(provider.asked() <= asked + 1, "the provider was asked {} times", provider.asked() - asked);
    // The provider rotates and is away: whoever has a token of the new key comes back until it is there.
    provider.go_away();
    let carol = new.token("carol", json!({}));
    let asked = provider.asked();
    let deadline = Instant::now() + ROTATED_WITHIN;
    while provider.asked() == asked {
        assert_eq!(hello(&node, &carol).await, come_back());
        assert!(Instant::now() < deadline, "the keys were not asked for again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(hello(&node, &standalone::forged_token("bob")).await, stop(), "no provider signs with a secret");
    provider.publish(&[&new]);
    assert_eq!(told(&node, &carol).await, Ok("carol".into()), "the rotation is noticed");
    assert_eq!(told(&node, &alice).await, stop(), "what the newest set lacks opens nothing");
}

#[tokio::test]
async fn a_narrowed_token_reads_and_does_no_more() {
    let node = Node::start(json!({}));
    let token = |user: &str, scope: &str| standalone::token_with(user, 3_600, json!({"scope": scope}));
    let outbox = json!({"outbox": uuid::Uuid::new_v4()});
    let (mut alice, _) = Wire::hello(node.address(), &token("alice", "openid"), outbox.clone()).await;
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"})).await["room"]["id"].clone();
    let said = alice.ask(json!({"type": "send", "n": 1, "room": room, "text": "hi"})).await;
    assert_eq!(said["type"], "committed", "scopes of others narrow nothing: {said}");
    let (mut reader, _) = Wire::hello(node.address(), &token("alice", "chat:rooms"), outbox).await;
    let refused = reader.ask(json!({"type": "send", "n": 2, "room": room, "text": "hi"})).await;
    assert_eq!((&refused["code"], &refused["n"]), (&json!("forbidden"), &json!(2)), "{refused}");
    let history: Value = reader.ask(json!({"type": "history", "room": room})).await;
    assert_eq!(history["type"], "history", "{history}");
    let (mut sender, _) = Wire::hello(node.address(), &token("alice", "chat:send"), json!({})).await;
    assert_eq!(sender.ask(json!({"type": "create_room", "name": "x"})).await["code"], "forbidden");
}

//! Built-in accounts and their sessions: what goes on without anybody noticing, and what guessing costs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chat_load::{
    client::{Client, Identity, Options},
    dial::Tcp,
    record::Recorder,
    rest::{self, Call},
};
use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};
use standalone::{Node, token};
use tokio::time::timeout;

use crate::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(30);

fn dial(node: &Node) -> Arc<Tcp> {
    Arc::new(Tcp::new(&[&format!("http://{}", node.address())], 0).unwrap())
}

#[tokio::test]
async fn a_client_outlives_its_tokens_on_one_connection() {
    // The first token opens nothing after six seconds, and the connection is looked at every second.
    let node = Node::start(json!({
        "auth": {"tokenSeconds": 2, "leewaySeconds": 4}, "limits": {"pingSeconds": 1},
    }));
    let dial = dial(&node);
    rest::register(&*dial, "alice", "correct horse").await.unwrap();
    let identity = Identity::Account { username: "alice".into(), password: "correct horse".into() };
    let recorder = Recorder::default();
    let client = Client::start(Options::new(dial, identity), recorder.clone());
    let renewed = recorder.until(PATIENCE, |record| (record.renewals >= 4).then_some(())).await;
    assert!(renewed.is_some(), "{:?}", recorder.look());
    client.ping().await.unwrap();
    let record = recorder.look().clone();
    assert_eq!((record.connections.len(), record.failed_attempts.len()), (1, 0), "{record:?}");
    client.close().await;
}

#[tokio::test]
async fn a_token_that_is_handed_in_is_checked_like_that_of_hello() {
    let node = Node::start(json!({}));
    let (mut alice, welcome) = Wire::hello(node.address(), &token("alice", 3_600), json!({})).await;
    let handed = |token: String| json!({"type": "token", "token": token});
    for (bad, code) in [
        ("nonsense".into(), "bad_token"),
        (token("bob", 3_600), "bad_token"),
        (token("alice", -3_600), "token_expired"),
        (standalone::forged_token("alice"), "bad_token"),
    ] {
        assert_eq!(alice.ask(handed(bad)).await["code"], code);
    }
    let answer = alice.ask(handed(token("alice", 7_200))).await;
    let expires = |frame: &Value| frame["expires"].as_u64().unwrap();
    assert_eq!(answer["type"], "token", "{answer}");
    assert!(expires(&answer) >= expires(&welcome) + 3_500_000, "{answer} after {welcome}");
    assert_eq!(alice.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn a_session_ends_the_connection_that_took_its_token_over() {
    let node = Node::start(json!({}));
    let dial = dial(&node);
    rest::register(&*dial, "alice", "correct horse").await.unwrap();
    let (first, second) = (
        rest::sign_in(&*dial, "alice", "correct horse").await.unwrap(),
        rest::sign_in(&*dial, "alice", "correct horse").await.unwrap(),
    );
    let (mut alice, _) = Wire::hello(node.address(), &first.token, json!({})).await;
    assert_eq!(alice.ask(json!({"type": "token", "token": second.token})).await["type"], "token");
    let end = |session| format!("/api/v1/sessions/{session}");
    let (first_path, second_path) = (end(first.session), end(second.session));
    let call = |path| Call { method: Method::DELETE, path, token: Some(&second.token), ..Call::default() };
    assert_eq!(rest::call(&*dial, &call(&first_path)).await.unwrap().status, 204);
    assert_eq!(alice.ask(json!({"type": "ping"})).await["type"], "pong", "it is no longer the first one's");
    assert_eq!(rest::call(&*dial, &call(&second_path)).await.unwrap().status, 204);
    assert_eq!(alice.hear_a("error").await["code"], "bad_token");
    assert_eq!(alice.hear_close().await, 4401);
}

#[tokio::test]
async fn guessing_costs_time_and_does_not_tell_who_is_there() {
    let node = Node::start(json!({}));
    let dial = dial(&node);
    rest::register(&*dial, "alice", "correct horse").await.unwrap();
    for username in ["alice", "nobody"] {
        let body = json!({"username": username, "password": "wrong horse"});
        let call = || Call { method: Method::POST, path: "/api/v1/login", body: Some(&body), ..Call::default() };
        // At once, so that no wait is over meanwhile.
        let guesses =
            timeout(PATIENCE, join_all((0..20).map(|_| async { rest::call(&*dial, &call()).await.unwrap() })));
        let guesses = guesses.await.unwrap();
        let told: BTreeSet<(u16, String)> = guesses
            .iter()
            .map(|answer| (answer.status.as_u16(), answer.body["code"].as_str().unwrap().to_owned()))
            .collect();
        let both = [(401, "bad_credentials".to_owned()), (429, "too_many_attempts".to_owned())];
        assert_eq!(told, BTreeSet::from(both), "{username}");
        let waits = guesses.iter().filter(|answer| answer.status == 429).map(|answer| &answer.headers["retry-after"]);
        for wait in waits {
            assert!(wait.to_str().unwrap().parse::<u64>().unwrap() >= 1);
        }
    }
}

#[tokio::test]
async fn passwords_that_anybody_tries_first_are_refused_with_a_sentence() {
    let node = Node::start(json!({}));
    for (password, says) in [("1234567", "8 to 1024"), ("alice.smith", "username"), ("Password123", "anybody tries")] {
        match rest::register(&*dial(&node), "alice.smith", password).await {
            Err(rest::RestError::Refused { status: 400, code, detail }) => {
                assert_eq!(code, "bad_password");
                assert!(detail.contains(says), "{detail}");
            }
            other => panic!("{password}: {other:?}"),
        }
    }
}

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

use crate::{
    caller::{Caller, is_problem, on_both},
    wire::Wire,
};

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
    let node = Node::start(json!({"addresses": {"enforced": true}}));
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

#[tokio::test]
async fn an_administrator_makes_a_bot_whose_token_does_so_much_and_until_it_is_taken_back() {
    let node = Node::start(json!({"auth": {"admins": ["root"]}}));
    let dial = dial(&node);
    let (root, alice) = (token("root", 3_600), token("alice", 3_600));
    let ask = async |token: &str, method: Method, path: &str, body: Value| {
        let body = (!body.is_null()).then_some(&body).cloned();
        let call = Call { method, path, token: Some(token), body: body.as_ref(), ..Call::default() };
        rest::call(&*dial, &call).await.unwrap()
    };
    let bot = json!({"username": "deploy"});
    let refused = ask(&alice, Method::POST, "/api/v1/bots", bot.clone()).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (403, &json!("forbidden")));
    assert_eq!(ask(&root, Method::POST, "/api/v1/bots", bot).await.status, 201);
    assert_eq!(ask(&root, Method::GET, "/api/v1/bots", Value::Null).await.body["bots"][0]["user"], "deploy");
    let path = "/api/v1/bots/deploy/tokens";
    let wish = json!({"label": "CI", "scopes": ["chat:read"]});
    assert_eq!(ask(&root, Method::POST, "/api/v1/bots/alice/tokens", wish.clone()).await.body["code"], "unknown_bot");
    let given = ask(&root, Method::POST, path, wish).await.body;
    let token = given["token"].as_str().unwrap();

    let (mut connected, welcome) = Wire::hello(node.address(), token, json!({})).await;
    assert_eq!(welcome["user"], "deploy");
    assert_eq!(connected.ask(json!({"type": "create_room", "name": "x"})).await["code"], "forbidden");
    for (method, path) in [(Method::GET, "/api/v1/sessions"), (Method::DELETE, "/api/v1/sessions"), (Method::GET, path)]
    {
        assert_eq!(ask(token, method, path, Value::Null).await.body["code"], "forbidden", "{path}");
    }
    let listed = ask(&root, Method::GET, path, Value::Null).await.body["tokens"].clone();
    assert_eq!((&listed[0]["id"], &listed[0]["scopes"]), (&given["id"], &json!(["chat:read"])));

    let end = format!("{path}/{}", given["id"].as_str().unwrap());
    assert_eq!(ask(&root, Method::DELETE, &end, Value::Null).await.status, 204);
    assert_eq!(connected.hear_close().await, 4401);
    assert_eq!(ask(token, Method::GET, "/api/v1/me", Value::Null).await.body["code"], "bad_token");
    assert_eq!(ask(&root, Method::DELETE, &end, Value::Null).await.body["code"], "unknown_token");
}

#[tokio::test]
async fn a_bot_that_is_deleted_is_cut_off() {
    on_both(json!({"auth": {"admins": ["root"]}}), async |node| {
        let root = Caller::new(&node, "root");
        let bot = json!({"username": "deploy"});
        assert_eq!(root.call(Method::POST, "/bots", Some(bot.clone())).await.status, 201);
        let wish = json!({"label": "CI", "scopes": ["chat:read"]});
        let given = root.call(Method::POST, "/bots/deploy/tokens", Some(wish.clone())).await.body;
        let bots = Caller { token: given["token"].as_str().unwrap().into(), ..Caller::new(&node, "deploy") };
        let (mut connected, _) = Wire::hello(node.address(), &bots.token, json!({})).await;
        is_problem(&bots.call(Method::DELETE, "/bots/deploy", None).await, 403, "forbidden");
        assert_eq!(root.call(Method::DELETE, "/bots/deploy", None).await.status, 204);
        assert_eq!(connected.hear_close().await, 4401);
        is_problem(&bots.call(Method::GET, "/me", None).await, 401, "bad_token");
        is_problem(&root.call(Method::DELETE, "/bots/deploy", None).await, 404, "unknown_bot");
        is_problem(&root.call(Method::POST, "/bots/deploy/tokens", Some(wish)).await, 404, "unknown_bot");
        is_problem(&root.call(Method::POST, "/bots", Some(bot)).await, 409, "username_taken");
        assert_eq!(root.get("/bots").await["bots"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_password_is_changed_by_whoever_knows_it_and_guessing_the_old_one_costs_time() {
    on_both(json!({"addresses": {"enforced": true}}), async |node| {
        let dial = dial(&node);
        rest::register(&*dial, "alice", "correct horse").await.unwrap();
        let token = rest::login(&*dial, "alice", "correct horse").await.unwrap();
        let alice = Caller { token, ..Caller::new(&node, "alice") };
        let change = async |who: &Caller, password: &str, new: &str| {
            who.call(Method::PUT, "/me/password", Some(json!({"password": password, "new_password": new}))).await
        };
        is_problem(&change(&alice, "correct horse", "1234567").await, 400, "bad_password");
        let narrowed = standalone::token_with("alice", 3_600, json!({"scope": "chat:send"}));
        let narrowed = Caller { token: narrowed, ..Caller::new(&node, "alice") };
        is_problem(&change(&narrowed, "correct horse", "battery staple").await, 403, "forbidden");
        is_problem(
            &change(&Caller::new(&node, "nobody"), "correct horse", "battery staple").await,
            403,
            "wrong_password",
        );
        assert_eq!(change(&alice, "correct horse", "battery staple").await.status, 204);
        rest::login(&*dial, "alice", "correct horse").await.expect_err("the old one is over");
        rest::login(&*dial, "alice", "battery staple").await.unwrap();

        // Five guesses of either kind are free. At once, so that no wait is over meanwhile.
        let guess = async || {
            let body = json!({"username": "alice", "password": "wrong horse"});
            let login = Call { method: Method::POST, path: "/api/v1/login", body: Some(&body), ..Call::default() };
            tokio::join!(change(&alice, "wrong horse", "battery staple"), rest::call(&*dial, &login))
        };
        let guesses = join_all((0..5).map(|_| guess())).await;
        let answers: Vec<_> = guesses.into_iter().flat_map(|(change, login)| [change, login.unwrap()]).collect();
        let refused = answers.iter().filter(|answer| answer.body["code"] == "too_many_attempts");
        assert_eq!(refused.clone().count(), 5, "{answers:?}");
        assert!(refused.clone().all(|answer| answer.status == 429 && answer.headers.contains_key("retry-after")));
    })
    .await;
}

//! Two nodes: what is ended on one ends on the other, with RabbitMQ away.

use std::{sync::Arc, time::Duration};

use axum::http::Method;
use chat_load::{
    client::{Client, End, Identity, Options},
    dial::Tcp,
    record::Recorder,
    rest::{self, Answer, Call},
};
use serde_json::{Value, json};
use services::Apart;
use tokio::time::{Instant, timeout};

use crate::{ground::fresh_redis, support::pair::Pair};

/// How long anything may take that nothing is promised of.
const PATIENCE: Duration = Duration::from_secs(20);

/// The promise is two seconds; a busy machine is given some more.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

struct Person {
    dials: [Arc<Tcp>; 2],
}

impl Person {
    async fn at(pair: &Pair) -> Person {
        let dial = |node: usize| Arc::new(Tcp::new(&[&*pair.nodes[node].url], 0).unwrap());
        let person = Person { dials: [dial(0), dial(1)] };
        rest::register(&*person.dials[0], "alice", "correct horse").await.unwrap();
        person
    }

    async fn ask(&self, node: usize, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let call = Call { method, path, token, body: body.as_ref(), ..Call::default() };
        rest::call(&*self.dials[node], &call).await.unwrap()
    }

    async fn sign_in(&self, node: usize) -> Value {
        let body = json!({"username": "alice", "password": "correct horse"});
        let answer = self.ask(node, Method::POST, "/api/v1/login", None, Some(body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    async fn refresh(&self, node: usize, signed_in: &Value) -> Answer {
        let body = json!({"refresh_token": signed_in["refresh_token"]});
        self.ask(node, Method::POST, "/api/v1/refresh", None, Some(body)).await
    }

    async fn connect(&self, node: usize, signed_in: &Value) -> Client {
        let identity = Identity::Token(signed_in["token"].as_str().unwrap().into());
        let client = Client::start(Options::new(self.dials[node].clone(), identity), Recorder::default());
        timeout(PATIENCE, client.online()).await.unwrap().unwrap();
        client
    }

    /// How soon the token opens nothing any more.
    async fn refused(&self, node: usize, signed_in: &Value) -> Duration {
        let (token, began) = (signed_in["token"].as_str(), Instant::now());
        let refused = async {
            while self.ask(node, Method::GET, "/api/v1/me", token, None).await.status != 401 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, refused).await.expect("the token is still taken");
        began.elapsed()
    }
}

/// Waits until a node tells that its Redis is there, or is not.
async fn tells(pair: &Pair, up: bool) {
    let admin = Tcp::new(&[&*pair.nodes[0].admin], 0).unwrap();
    let status = Call { path: "/status", ..Call::default() };
    let told = async {
        let is_told = |redis: &Value| redis["up"] == up && redis["error"].is_string() != up;
        while !is_told(&rest::call(&admin, &status).await.unwrap().body["redis"]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("nothing tells that Redis is up: {up}"));
}

async fn stopped(client: &Client) {
    let end = timeout(ENDED_WITHIN, client.stopped()).await.expect("the connection was not closed in time");
    assert_eq!(end, Ok(End::Closed { code: 4401, reason: "signed_out".into(), after_ms: None }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ended_on_one_node_is_closed_on_the_other_and_stays_out() {
    for redis in [None, Some(fresh_redis())] {
        let pair = Pair::with_redis(redis.as_deref()).await;
        let alice = Person::at(&pair).await;
        let (phone, laptop) = (alice.sign_in(0).await, alice.sign_in(0).await);
        let (on_phone, on_laptop) = (alice.connect(1, &phone).await, alice.connect(0, &laptop).await);
        let token = laptop["token"].as_str();

        let path = format!("/api/v1/sessions/{}", phone["session"].as_str().unwrap());
        assert_eq!(alice.ask(0, Method::DELETE, &path, token, None).await.status, 204);
        stopped(&on_phone).await;
        for node in [0, 1] {
            assert!(alice.refused(node, &phone).await < ENDED_WITHIN);
        }
        assert_eq!(alice.refresh(1, &phone).await.body["code"], "bad_refresh_token");
        assert_eq!(alice.ask(0, Method::DELETE, &path, token, None).await.body["code"], "unknown_session");
        on_laptop.ping().await.expect("the other session goes on");

        let tablet = alice.sign_in(1).await;
        let on_tablet = alice.connect(1, &tablet).await;
        let listed = alice.ask(1, Method::GET, "/api/v1/sessions", token, None).await.body;
        let listed = listed["sessions"].as_array().unwrap().clone();
        let current: Vec<&Value> = listed.iter().filter(|session| session["current"] == true).collect();
        assert_eq!((listed.len(), current.len(), &current[0]["id"]), (2, 1, &laptop["session"]));
        assert_eq!(current[0]["address"], "127.0.0.1");
        assert_eq!(alice.ask(1, Method::DELETE, "/api/v1/sessions", token, None).await.status, 204);
        stopped(&on_tablet).await;
        stopped(&on_laptop).await;
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_refresh_token_ends_the_session_on_every_node() {
    for redis in [None, Some(fresh_redis())] {
        let pair = Pair::with_redis(redis.as_deref()).await;
        let alice = Person::at(&pair).await;
        let first = alice.sign_in(0).await;
        let second = alice.refresh(1, &first).await.body;
        assert_eq!(second["session"], first["session"]);
        assert_eq!(
            alice.refresh(0, &first).await.body["refresh_token"],
            second["refresh_token"],
            "the answer was lost"
        );
        let third = alice.refresh(0, &second).await.body;
        let connected = alice.connect(1, &third).await;
        let stolen = alice.refresh(0, &first).await;
        assert_eq!((stolen.status.as_u16(), &stolen.body["code"]), (401, &json!("bad_refresh_token")));
        stopped(&connected).await;
        assert!(alice.refused(1, &third).await < ENDED_WITHIN);
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_away_open_connections_go_on_and_nobody_new_gets_in() {
    let apart = Apart::new().unwrap();
    apart.redis.start().unwrap();
    let pair = Pair::with_redis(Some(&apart.redis.fresh_database().unwrap())).await;
    let alice = Person::at(&pair).await;
    let (phone, laptop) = (alice.sign_in(0).await, alice.sign_in(0).await);
    let on_phone = alice.connect(1, &phone).await;
    let room = on_phone.create_room("lobby").await.unwrap().id;
    tells(&pair, true).await;

    apart.redis.kill().unwrap();
    tells(&pair, false).await;
    for round in 0..5 {
        let sent = on_phone.send(room, format!("{round}")).await.unwrap();
        timeout(PATIENCE, sent.committed()).await.unwrap().expect("no message depends on Redis");
    }
    let unavailable = |answer: &Answer| (answer.status.as_u16(), &answer.body["code"]) == (503, &json!("unavailable"));
    let body = json!({"username": "alice", "password": "correct horse"});
    let answer = alice.ask(0, Method::POST, "/api/v1/login", None, Some(body)).await;
    assert!(unavailable(&answer), "{answer:?}");
    assert!(unavailable(&alice.refresh(0, &laptop).await), "it is not said to be over");
    // What was found good just before holds for two seconds.
    let refused = async {
        while !unavailable(&alice.ask(1, Method::GET, "/api/v1/me", laptop["token"].as_str(), None).await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("a token is taken although nobody can tell whether it is good");
    on_phone.ping().await.expect("who is there stays there");

    apart.redis.start().unwrap();
    let back = async {
        loop {
            let answer = alice.refresh(0, &laptop).await;
            if answer.status == 200 {
                break answer.body;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let laptop = timeout(PATIENCE, back).await.expect("the session outlived Redis");
    tells(&pair, true).await;
    on_phone.ping().await.expect("her other session too");
    // Ends are heard of again, on the other node too.
    let path = format!("/api/v1/sessions/{}", phone["session"].as_str().unwrap());
    assert_eq!(alice.ask(0, Method::DELETE, &path, laptop["token"].as_str(), None).await.status, 204);
    stopped(&on_phone).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_ends_the_other_sessions_on_every_node() {
    for redis in [None, Some(fresh_redis())] {
        let pair = Pair::with_redis(redis.as_deref()).await;
        let alice = Person::at(&pair).await;
        let (phone, laptop) = (alice.sign_in(0).await, alice.sign_in(1).await);
        let (on_phone, on_laptop) = (alice.connect(1, &phone).await, alice.connect(0, &laptop).await);
        let change = async |password: &str, new: &str| {
            let body = json!({"password": password, "new_password": new});
            alice.ask(0, Method::PUT, "/api/v1/me/password", laptop["token"].as_str(), Some(body)).await
        };
        let wrong = change("wrong horse", "battery staple").await;
        assert_eq!((wrong.status.as_u16(), &wrong.body["code"]), (403, &json!("wrong_password")));
        on_phone.ping().await.expect("nothing has changed");
        assert_eq!(change("correct horse", "battery staple").await.status, 204);
        stopped(&on_phone).await;
        for node in [0, 1] {
            assert!(alice.refused(node, &phone).await < ENDED_WITHIN);
        }
        assert_eq!(alice.refresh(1, &phone).await.body["code"], "bad_refresh_token");
        on_laptop.ping().await.expect("the session that has changed it goes on");
        assert_eq!(alice.refresh(1, &laptop).await.status, 200);
        for (password, status) in [("correct horse", 401), ("battery staple", 200)] {
            let body = json!({"username": "alice", "password": password});
            assert_eq!(
                alice.ask(1, Method::POST, "/api/v1/login", None, Some(body)).await.status,
                status,
                "{password}"
            );
        }
        pair.stop().await;
    }
}

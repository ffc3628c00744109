//! Somebody who asks over REST, and nodes of either kind to ask.

use chat_load::{
    dial::Tcp,
    rest::{Answer, Call, call},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use services::Services;
use standalone::{Node, token};

/// Runs a claim on a node with SQLite and on one with an empty PostgreSQL database, both with these further keys.
pub(crate) async fn on_both(further: Value, claim: impl AsyncFn(Node)) {
    claim(Node::start(further.clone())).await;
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let mut with_postgres = further;
    let url = services.postgres.fresh_database().unwrap();
    with_postgres["store"] = json!({"sqlite": null, "postgres": {"endpoint": {"url": url}}});
    claim(Node::start(with_postgres)).await;
}

/// Somebody who only ever uses REST.
pub(crate) struct Caller {
    pub(crate) dial: Tcp,
    pub(crate) token: String,
}

impl Caller {
    pub(crate) fn new(node: &Node, user: &str) -> Caller {
        Caller { dial: Tcp::new(&[&node.url()], 0).unwrap(), token: token(user, 3_600) }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let path = format!("/api/v1{path}");
        let asked = Call { method, path: &path, token: Some(&self.token), body: body.as_ref(), ..Call::default() };
        call(&self.dial, &asked).await.unwrap()
    }

    /// Asks for what is there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }

    /// Asks for something that is answered with 200.
    pub(crate) async fn done(&self, method: Method, path: &str, body: impl Into<Option<Value>>) -> Value {
        let answer = self.call(method.clone(), path, body.into()).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {}", answer.body);
        answer.body
    }

    pub(crate) async fn create(&self, name: &str) -> String {
        let answer = self.call(Method::POST, "/rooms", Some(json!({"name": name}))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        let id = answer.body["id"].as_str().unwrap().to_owned();
        assert_eq!(answer.headers["location"], format!("/api/v1/rooms/{id}").as_str());
        id
    }

    pub(crate) async fn send(&self, room: &str, text: &str, key: Option<&str>) -> Answer {
        let (path, body) = (format!("/api/v1/rooms/{room}/messages"), json!({"text": text}));
        let (token, body) = (Some(self.token.as_str()), Some(&body));
        let asked = Call { method: Method::POST, path: &path, token, idempotency_key: key, body };
        call(&self.dial, &asked).await.unwrap()
    }
}

#[track_caller]
pub(crate) fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), &answer.body["code"]), (status, &json!(code)), "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["status"], status);
    assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{}", answer.body);
}

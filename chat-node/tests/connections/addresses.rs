//! What is kept of where somebody connects from.

use std::time::Duration;

use chat_load::rest::{self, Call};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{running::PATIENCE, wire::Ground};

/// Two hosts of one network, which is what a provider gives to one home.
const AT_HOME: [&str; 2] = ["2001:db8::1:2:3:4", "2001:db8::4:3:2:1"];
const HOME: &str = "2001:db8::";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_connects_over_ipv6_is_known_where_they_have_signed_in() {
    let ground = Ground::start(|config| config.addresses.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    ground.sign_in("alice").await;
    let token = sign_in(&ground, AT_HOME[0]).await;
    assert_eq!(session(&ground, &token).await["address"], HOME);
    let _alice = ground.connect(&token, json!([]), Some(AT_HOME[1])).await;
    let noted = async {
        loop {
            let session = session(&ground, &token).await;
            if session["client"] == "web" {
                return session["address"].clone();
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(timeout(PATIENCE, noted).await.expect("the connection is noted in time"), HOME);
    ground.node.stop().await;
}

/// Signs alice in through a proxy that speaks for an address. Gives her token.
async fn sign_in(ground: &Ground, address: &str) -> String {
    let body = json!({"username": "alice", "password": "correct horse"}).to_string();
    let request = format!(
        "POST /api/v1/login HTTP/1.0\r\nhost: node\r\nx-forwarded-for: {address}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(ground.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    answer["token"].as_str().unwrap().to_owned()
}

/// The session of whoever has the token, as it is listed.
async fn session(ground: &Ground, token: &str) -> Value {
    let call = Call { path: "/api/v1/sessions", token: Some(token), ..Call::default() };
    let answer = rest::call(&ground.dial(), &call).await.unwrap();
    let sessions = answer.body["sessions"].as_array().unwrap();
    sessions.iter().find(|session| session["current"] == true).unwrap().clone()
}

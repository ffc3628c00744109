//! Whoever leaves before the answer, client or node.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{running::PATIENCE, wire::Ground};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_and_told_although_whoever_asked_for_it_is_gone() {
    let ground = Ground::start(|_| {}).await;
    let mut alice = ground.hello(&ground.sign_in("alice").await.token).await;
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"})).await["room"]["id"].clone();
    let mut bob = ground.hello(&ground.sign_in("bob").await.token).await;
    bob.ask(json!({"type": "join", "room": room})).await;
    let lock = ground.lock().await;
    alice.request(json!({"type": "kick", "room": room, "user": "bob"})).await;
    // The node takes its leave, so it has read what came before.
    timeout(PATIENCE, alice.leave()).await.unwrap();
    lock.commit().await.unwrap();
    assert_eq!(bob.until(|frame| frame["type"] == "left").await["cause"], "kicked");
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_answers_the_request_that_is_under_way() {
    let ground = Ground::start(|_| {}).await;
    ground.sign_in("alice").await;
    let body = json!({"username": "alice", "password": "correct horse"}).to_string();
    let head = format!(
        "POST /api/v1/login HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut request = TcpStream::connect(ground.address()).await.unwrap();
    request.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 1_024];
    let read = timeout(PATIENCE, request.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 100"), "it is under way");
    ground.node.stop.cancel();
    let leaves = async {
        while TcpStream::connect(ground.address()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, leaves).await.unwrap();
    request.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, request.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ground.node.stop().await;
}

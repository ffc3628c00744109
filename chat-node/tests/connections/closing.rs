//! A connection that is to be closed, although its client reads nothing.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::{running::PATIENCE, wire::Ground};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_signed_out_and_does_not_read_is_obeyed_no_more_and_gone_in_time() {
    let ground = Ground::start(|config| {
        config.limits.queue_bytes_max = 1 << 30;
        config.limits.queue_frames_max = 1 << 20;
    })
    .await;
    let mut alice = ground.hello(&ground.sign_in("alice").await.token).await;
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"})).await["room"]["id"].clone();
    for _ in 0..100 {
        alice.send(&room, &"x".repeat(16_000)).await;
    }
    alice.until(|frame| frame["type"] == "committed" && frame["n"] == 100).await;

    let stolen = ground.sign_in("bob").await.token;
    let mut thief = ground.hello(&stolen).await;
    thief.ask(json!({"type": "join", "room": room})).await;
    // More than the system takes for a client that does not read.
    for _ in 0..20 {
        thief.request(json!({"type": "history", "room": room, "limit": 100})).await;
    }
    thief.socket.get_ref().readable().await.unwrap();
    thief.send(&room, "before").await;
    alice.hears("before").await;
    ground.sign_out(&stolen).await;
    let began = Instant::now();
    thief.send(&room, "late").await;
    for round in 0..20 {
        let _ = thief.ping().await;
        let text = format!("round {round}");
        alice.send(&room, &text).await;
        alice.hears(&text).await;
    }
    assert!(alice.read.iter().all(|frame| frame["text"] != "late"), "whoever is signed out is still obeyed");
    while thief.ping().await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "whoever pings keeps a connection that is to be closed");
        sleep(Duration::from_millis(50)).await;
    }
    ground.node.stop().await;
}

//! A connection that is still told what it has missed.

use serde_json::json;

use crate::wire::Ground;

/// So many bytes that the system does not take them for a client that does not read.
const MESSAGES: i64 = 700;
const TEXT_BYTES: usize = 16_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_kicked_while_catching_up_hears_nothing_more() {
    let ground = Ground::start(|config| {
        config.limits.sends_burst_max = 10_000;
        config.limits.ring_events = 10;
    })
    .await;
    let mut alice = ground.hello(&ground.sign_in("alice").await.token).await;
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"})).await["room"].clone();
    let (room, epoch) = (room["id"].clone(), room["epoch"].clone());
    let token = ground.sign_in("bob").await.token;
    let mut bob = ground.hello(&token).await;
    let seq = bob.ask(json!({"type": "join", "room": room})).await["room"]["head"].clone();
    bob.leave().await;
    for round in 1..=MESSAGES {
        alice.send(&room, &"x".repeat(TEXT_BYTES)).await;
        if round % 50 == 0 {
            alice.until(|frame| frame["type"] == "committed" && frame["n"] == round).await;
        }
    }

    let mut bob = ground.resume(&token, json!([{"room": room, "epoch": epoch, "seq": seq}])).await;
    assert_eq!(bob.read[0]["rooms"][0]["resume"], "replayed");
    assert_eq!(alice.ask(json!({"type": "kick", "room": room, "user": "bob"})).await["type"], "done");
    assert_eq!(bob.until(|frame| frame["type"] == "left").await["cause"], "kicked");
    let replayed = bob.read.len();
    assert!(replayed < usize::try_from(MESSAGES).unwrap(), "it was kicked while it was still catching up");
    alice.send(&room, "after").await;
    alice.hears("after").await;
    for _ in 0..20 {
        bob.ask(json!({"type": "ping"})).await;
    }
    let more = bob.read[replayed..].iter().find(|frame| frame["type"] != "pong");
    assert!(more.is_none(), "{}", more.unwrap()["type"]);
    ground.node.stop().await;
}

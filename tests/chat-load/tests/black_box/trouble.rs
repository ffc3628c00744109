//! What a client is told when nobody has made a mistake: it reads too slowly, too much comes at once, the database is away or refuses, or the
//! service has no accounts. Each time it loses nothing by doing as the page says.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};
use services::Services;
use standalone::{Node, token};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::block_in_place,
    time::{Duration, Instant, sleep},
};
use uuid::Uuid;

use crate::{
    caller::{Caller, is_problem},
    wire::Wire,
};

/// Within this time everything is as before, once what was broken is mended.
const MENDED_WITHIN: Duration = Duration::from_secs(20);

/// Alice with a new outbox in a room of hers.
async fn alice(node: &Node) -> (Wire, Value) {
    let outbox = json!({"outbox": Uuid::new_v4()});
    let (mut alice, _) = Wire::hello(node.address(), &token("alice", 3_600), outbox).await;
    let room = alice.ask(json!({"type": "create_room", "name": "lobby"})).await["room"]["id"].clone();
    (alice, room)
}

#[track_caller]
fn is_retryable(answer: &Value, code: &str) {
    assert_eq!((&answer["code"], &answer["retryable"]), (&json!(code), &json!(true)), "{answer}");
}

/// Says the sends with these numbers at once, and gives their answers in that order.
async fn say_all(wire: &mut Wire, numbers: &[u64], room: &Value, text: &str) -> Vec<Value> {
    for n in numbers {
        wire.say(json!({"type": "send", "id": n, "n": n, "room": room, "text": format!("{n} {text}")})).await;
    }
    let mut answers = Vec::new();
    while answers.len() < numbers.len() {
        let frame = wire.hear().await;
        if frame["type"] == "committed" || frame["type"] == "error" {
            answers.push(frame);
        }
    }
    answers.sort_by_key(|answer| answer["n"].as_u64());
    answers
}

/// The same send again and again until it is committed.
async fn until_committed(wire: &mut Wire, send: &Value) -> Value {
    let deadline = Instant::now() + MENDED_WITHIN;
    loop {
        let answer = wire.ask(send.clone()).await;
        if answer["type"] == "committed" {
            return answer;
        }
        assert!(answer["retryable"] == true && Instant::now() < deadline, "{answer}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn whoever_reads_too_slowly_is_closed_with_4413_and_resumes_without_a_loss() {
    const MESSAGES: u64 = 500;
    let node = Node::start(json!({"limits": {
        "queueFramesMax": 8, "sendsPerSecondMax": 100_000, "sendsBurstMax": 100_000,
    }}));
    let (mut alice, room) = alice(&node).await;
    // A small window, so that not all of it is on its way.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    let mut bob = Wire::over(socket.connect(node.address()).await.unwrap(), node.address(), None).await.unwrap();
    bob.say(json!({"type": "hello", "token": token("bob", 3_600)})).await;
    bob.hear_a("welcome").await;
    let joined = bob.ask(json!({"type": "join", "room": room})).await;
    let numbers: Vec<u64> = (1..=MESSAGES).collect();
    for some in numbers.chunks(50) {
        let answers = say_all(&mut alice, some, &room, &"x".repeat(16_000)).await;
        assert!(answers.iter().all(|answer| answer["type"] == "committed"), "{answers:?}");
    }
    let (frames, code) = bob.hear_out().await;
    assert_eq!(code, 4413);
    let mut seen: Vec<Value> = frames.into_iter().filter(|frame| frame["type"] == "event").collect();
    let position = seen.last().unwrap_or(&joined["room"]).clone();
    let seq = position["seq"].as_u64().or(position["head"].as_u64()).unwrap();
    let resume = json!({"resume": [{"room": room, "epoch": 1, "seq": seq, "event": position["event"]}]});
    let (mut bob, welcome) = Wire::hello(node.address(), &token("bob", 3_600), resume).await;
    let (head, outcome) = (welcome["rooms"][0]["head"].as_u64().unwrap(), &welcome["rooms"][0]["resume"]);
    assert_eq!(outcome, "replayed");
    assert!(seq < head, "nothing was missed: the reader was not slow");
    while seen.last().is_none_or(|event| event["seq"] != head) {
        seen.push(bob.hear_a("event").await);
    }
    let said = seen.iter().filter(|event| event["kind"] == "message");
    let said: Vec<u64> =
        said.map(|event| event["text"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(said, numbers);
}

#[tokio::test]
async fn what_is_refused_as_overloaded_is_sent_again_and_is_there_once() {
    // Fast enough for all that is repeated.
    let node = Node::start(json!({"limits": {
        "appendQueueMax": 1, "sendsPerSecondMax": 100_000, "sendsBurstMax": 100_000,
    }}));
    let (mut alice, room) = alice(&node).await;
    let mut left: Vec<u64> = (1..=60).collect();
    let (mut overloaded, deadline) = (0, Instant::now() + MENDED_WITHIN);
    while !left.is_empty() {
        let answers = say_all(&mut alice, &left, &room, "m").await;
        for answer in answers.iter().filter(|answer| answer["type"] == "error") {
            match answer["code"].as_str() {
                Some("overloaded") => overloaded += 1,
                // Of what stood behind it.
                code => assert_eq!(code, Some("outbox_gap"), "{answer}"),
            }
            assert_eq!(answer["retryable"], true, "{answer}");
        }
        let taken = answers.iter().filter(|answer| answer["type"] == "committed");
        let taken: Vec<u64> = taken.map(|answer| answer["n"].as_u64().unwrap()).collect();
        left.retain(|n| !taken.contains(n));
        assert!(Instant::now() < deadline, "{left:?} are not taken");
    }
    assert!(overloaded > 0, "it was never too much");
    let page = alice.ask(json!({"type": "history", "room": room, "after": 0})).await;
    let texts: Vec<&str> =
        page["events"].as_array().unwrap().iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(texts, (1..=60).map(|n| format!("{n} m")).collect::<Vec<_>>());
}

/// A way to the database that can be cut: connections end at once, and new ones do as well.
async fn way(to: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut is_cut = is_cut.clone();
            tokio::spawn(async move {
                let through = async {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                };
                tokio::select! {
                    biased;
                    _ = is_cut.wait_for(|cut| *cut) => {}
                    () = through => {}
                }
            });
        }
    });
    (address, cut)
}

/// An empty database: its name, and a URL at which it is reached at `address`.
fn database(services: &Services, address: SocketAddr) -> (String, String) {
    let url = services.postgres.fresh_database().unwrap();
    let direct = format!(":{}/", services.postgres.port());
    let (before, name) = url.split_once(&direct).unwrap();
    let (user, _) = before.rsplit_once('@').unwrap();
    (name.to_owned(), format!("{user}@{address}/{name}"))
}

fn with_postgres(url: &str) -> Value {
    json!({"store": {"sqlite": null, "postgres": {"endpoint": {"url": url}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_everything_is_unavailable_and_worth_another_try() {
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let (address, cut) = way(SocketAddr::from(([127, 0, 0, 1], services.postgres.port()))).await;
    let (_, url) = database(&services, address);
    let node = block_in_place(|| Node::start(with_postgres(&url)));
    let (mut alice, room) = alice(&node).await;
    let caller = Caller::new(&node, "alice");
    caller.get("/rooms").await;

    cut.send_replace(true);
    let send = json!({"type": "send", "n": 1, "room": room, "text": "hello"});
    let answer = alice.ask(send.clone()).await;
    is_retryable(&answer, "unavailable");
    assert_eq!(answer["n"], 1);
    is_retryable(&alice.ask(json!({"type": "history", "room": room})).await, "unavailable");
    assert_eq!(alice.ask(json!({"type": "ping"})).await["type"], "pong", "the connection is kept");
    let refused = caller.call(Method::GET, "/rooms", None).await;
    is_problem(&refused, 503, "unavailable");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let mut bob = Wire::open(node.address()).await;
    bob.say(json!({"type": "hello", "token": token("bob", 3_600)})).await;
    is_retryable(&bob.hear().await, "unavailable");
    assert_eq!(bob.hear_close().await, 1013);

    cut.send_replace(false);
    assert_eq!(until_committed(&mut alice, &send).await["n"], 1);
    let page = caller.get(&format!("/rooms/{}/events", room.as_str().unwrap())).await;
    let texts = page["events"].as_array().unwrap().iter().filter(|event| event["text"] == "hello");
    assert_eq!(texts.count(), 1);
}

#[tokio::test]
async fn a_fault_of_the_server_is_told_as_one_and_uses_no_number() {
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let (name, url) = database(&services, SocketAddr::from(([127, 0, 0, 1], services.postgres.port())));
    let node = Node::start(with_postgres(&url));
    let (mut alice, room) = alice(&node).await;
    let caller = Caller::new(&node, "alice");
    // A table that takes neither a message nor its refusal.
    let sql = |statement: &str| services.postgres.sql(&name, statement).unwrap();
    sql("ALTER TABLE outbox_results ADD CONSTRAINT broken CHECK (false) NOT VALID");
    let send = json!({"type": "send", "n": 1, "room": room, "text": "hello"});
    is_retryable(&alice.ask(send.clone()).await, "internal");
    let room = room.as_str().unwrap();
    is_problem(&caller.send(room, "hello", Some("a key")).await, 500, "internal");
    sql("ALTER TABLE outbox_results DROP CONSTRAINT broken");
    assert_eq!(until_committed(&mut alice, &send).await["n"], 1);
    let sent = caller.send(room, "hello", Some("a key")).await;
    assert_eq!(sent.status, 201, "{}", sent.body);
}

#[tokio::test]
async fn a_service_without_accounts_of_its_own_says_so() {
    let node = Node::start(json!({"auth": {"accounts": false}}));
    let alice = Caller::new(&node, "alice");
    let account = json!({"username": "alice", "password": "correct horse"});
    for (method, path, body) in [
        (Method::POST, "/accounts", account.clone()),
        (Method::POST, "/login", account),
        (Method::POST, "/refresh", json!({"refresh_token": "x"})),
        (Method::PUT, "/me/password", json!({"password": "correct horse", "new_password": "battery staple"})),
    ] {
        is_problem(&alice.call(method, path, Some(body)).await, 403, "accounts_off");
    }
    assert_eq!(alice.get("/me").await["user"], "alice", "a token of an issuer does");
}

//! What is acknowledged is durable with either side away: the rules behind the promise, one by one, on nodes, a PostgreSQL and a
//! RabbitMQ of each test's own.
//!
//! The names of the tests are the rules. Faults at random are in `chaos.rs`.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chaos::{
    plan::{
        Fault,
        Harm::{self, Cut, Freeze, Kill, Leave},
        Server::{Postgres, Rabbitmq},
        Target::{self, Link, Node},
    },
    stage::Stage,
};
use chat_load::{
    checker::{self, Histories, Report},
    client::{Client, Identity, Options},
    dial::Tcp,
    frame::{Page, Resume, RoomRef},
    record::{Record, Recorder, Send},
};
use serde_json::json;
use standalone::token;
use uuid::Uuid;

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(40);

struct Person {
    client: Client,
    recorder: Recorder,
}

impl Person {
    /// Someone who connects to these nodes in turn.
    async fn at(name: &str, urls: &[String]) -> Person {
        let dial = Arc::new(Tcp::new(urls, 0).unwrap());
        let recorder = Recorder::default();
        let client = Client::start(Options::new(dial, Identity::Token(token(name, 86_400))), recorder.clone());
        tokio::time::timeout(PATIENCE, client.online()).await.unwrap().unwrap();
        Person { client, recorder }
    }

    async fn room(&self) -> Uuid {
        self.client.create_room("lobby").await.unwrap().id
    }

    /// Puts messages into the outbox, and waits for no answer.
    async fn send(&self, room: Uuid, texts: Vec<String>) {
        let all = self.recorder.look().sends.len() + texts.len();
        for text in texts {
            drop(self.client.send(room, text).await.unwrap());
        }
        self.until("in the outbox", |record| record.sends.len() == all).await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&Record) -> bool) {
        let held = self.recorder.until(PATIENCE, |record| holds(record).then_some(())).await;
        let record = self.recorder.look();
        let (accepted, committed) = (accepted(&record), committed(&record));
        assert!(held.is_some(), "not {what}: {accepted} accepted, {committed} committed, {:?}", record.deferred.last());
    }

    async fn all_are(&self, what: &str, count: impl Fn(&Record) -> usize) {
        self.until(what, |record| count(record) == record.sends.len()).await;
    }
}

fn accepted(record: &Record) -> usize {
    record.sends.iter().filter(|send: &&Send| send.accepted).count()
}

fn committed(record: &Record) -> usize {
    record.sends.len() - record.undecided()
}

fn texts(who: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{who} {number}")).collect()
}

fn server(server: chaos::plan::Server, harm: Harm) -> [Fault; 1] {
    [Fault { target: Target::Server(server), harm }]
}

fn link(node: usize, server: chaos::plan::Server, harm: Harm) -> [Fault; 1] {
    [Fault { target: Link(node, server), harm }]
}

fn strike(stage: &mut Stage, faults: &[Fault]) {
    faults.iter().for_each(|fault| stage.strike(*fault));
}

/// Everybody hears everything, and the records are clean.
async fn judge(people: &[&Person], room: Uuid) -> Report {
    let page = Page { before: None, after: Some(0), limit: 200 };
    let history = people[0].client.history(room, page).await.unwrap();
    assert!(!history.more, "the tests' rooms are small");
    let head = history.events.last().unwrap().seq;
    for person in people {
        person.until("caught up", |record| record.has_reached(room, head)).await;
    }
    let records: Vec<Record> = people.iter().map(|person| person.recorder.look().clone()).collect();
    let report = checker::check(&records, &Histories::from(BTreeMap::from([(room, history.events)])));
    assert!(report.is_clean(), "{report}");
    report
}

/// Two nodes, someone at each, and a room.
async fn scene(further: serde_json::Value) -> (Stage, Person, Person, Uuid) {
    let stage = Stage::set(2, &further).await;
    let urls = stage.urls();
    let (alice, bob) = (Person::at("alice", &urls[..1]).await, Person::at("bob", &urls[1..]).await);
    let room = alice.room().await;
    bob.client.join(RoomRef::Room(room)).await.unwrap();
    (stage, alice, bob, room)
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_and_5_without_postgres_sends_are_accepted_and_get_their_place_in_order_when_it_is_back() {
    let (mut stage, alice, bob, room) = scene(json!({})).await;
    alice.send(room, texts("before", 5)).await;
    alice.all_are("committed", committed).await;
    assert_eq!(accepted(&alice.recorder.look()), 0, "with Postgres there is one acknowledgement");
    for harm in [Kill, Freeze, Leave] {
        let gone = server(Postgres, harm);
        strike(&mut stage, &gone);
        let before = [&alice, &bob].map(|person| person.recorder.look().sends.len());
        for (person, who) in [(&alice, "alice"), (&bob, "bob")] {
            person.send(room, texts(&format!("{who} {harm:?}"), 30)).await;
        }
        for (person, before) in [&alice, &bob].into_iter().zip(before) {
            person.until("accepted", |record| record.sends[before..].iter().all(|send| send.accepted)).await;
            assert_eq!(person.recorder.look().undecided(), 30, "it has a place without a database");
        }
        stage.mend(&gone);
        for person in [&alice, &bob] {
            person.all_are("committed", committed).await;
        }
    }
    println!("{}", judge(&[&alice, &bob], room).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_3_two_nodes_that_disagree_about_postgres_keep_each_senders_order() {
    let (mut stage, _alice, bob, room) = scene(json!({})).await;
    let restless = Person::at("restless", &stage.urls()).await;
    restless.client.join(RoomRef::Room(room)).await.unwrap();
    for round in 0..3 {
        // The node that it is on does not see Postgres, and the other does.
        let node = (restless.recorder.look().connections.len() - 1) % 2;
        let blind = link(node, Postgres, Cut);
        strike(&mut stage, &blind);
        let before = restless.recorder.look().sends.len();
        restless.send(room, texts(&format!("blind {round}"), 10)).await;
        restless.until("accepted", |record| record.sends[before..].iter().all(|send| send.accepted)).await;
        // It moves while its sends wait, and goes on at once.
        restless.client.cut().await;
        restless.send(room, texts(&format!("moved {round}"), 10)).await;
        restless.all_are("committed", committed).await;
        stage.mend(&blind);
    }
    println!("{}", judge(&[&bob, &restless], room).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_4_a_commit_whose_answer_was_lost_happens_once() {
    let (mut stage, alice, bob, room) = scene(json!({})).await;
    // A frozen server has the commits in its socket: it carries them out when it thaws, after they were queued under the same keys.
    for round in 0..3 {
        alice.send(room, texts(&format!("alive {round}"), 5)).await;
        let frozen = server(Postgres, Freeze);
        strike(&mut stage, &frozen);
        alice.send(room, texts(&format!("unknown {round}"), 20)).await;
        alice.until("accepted", |record| record.sends.last().is_some_and(|send| send.accepted)).await;
        stage.mend(&frozen);
        alice.all_are("committed", committed).await;
    }
    println!("{}", judge(&[&alice, &bob], room).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_without_rabbitmq_commits_and_delivery_go_on() {
    let (mut stage, alice, bob, room) = scene(json!({})).await;
    for harm in [Kill, Freeze] {
        let gone = server(Rabbitmq, harm);
        strike(&mut stage, &gone);
        let before = alice.recorder.look().sends.len();
        alice.send(room, texts(&format!("alice {harm:?}"), 30)).await;
        alice.all_are("committed", committed).await;
        let last = alice.recorder.look().acks.last().unwrap().committed.seq;
        bob.until("told by hints", |record| record.has_reached(room, last)).await;
        assert!(alice.recorder.look().sends[before..].iter().all(|send| !send.accepted));
        println!("{harm:?} RabbitMQ: {}", latency(&alice, &bob, before));
        stage.mend(&gone);
    }
    judge(&[&alice, &bob], room).await;
}

/// How long the messages of `from` took to reach `to`, from the outbox on.
fn latency(from: &Person, to: &Person, since: usize) -> String {
    let (from, to) = (from.recorder.look(), to.recorder.look());
    let took = |send: &Send| {
        let seen = to.events.iter().find(|seen| seen.event.text.as_ref() == Some(&send.text))?;
        Some(seen.at_ms.saturating_sub(send.at_ms))
    };
    let mut took: Vec<u64> = from.sends[since..].iter().filter_map(took).collect();
    took.sort_unstable();
    format!("{} delivered, median {} ms, slowest {} ms", took.len(), took[took.len() / 2], took[took.len() - 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_away_nothing_is_acknowledged_and_the_errors_are_retryable() {
    let (mut stage, alice, bob, room) = scene(json!({})).await;
    let both = [server(Postgres, Kill), server(Rabbitmq, Kill)].concat();
    strike(&mut stage, &both);
    alice.send(room, texts("nowhere", 10)).await;
    alice.until("refused as retryable", |record| record.deferred.len() >= 3).await;
    {
        let record = alice.recorder.look();
        assert_eq!((accepted(&record), committed(&record)), (0, 0));
        assert!(record.deferred.iter().all(|deferral| deferral.code == "unavailable"), "{:?}", record.deferred);
    }
    stage.mend(&both);
    alice.all_are("committed", committed).await;
    judge(&[&alice, &bob], room).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_by_a_node_that_died_is_committed_all_the_same() {
    let (mut stage, alice, bob, room) = scene(json!({})).await;
    let gone = server(Postgres, Kill);
    strike(&mut stage, &gone);
    alice.send(room, texts("last words", 10)).await;
    alice.all_are("accepted", accepted).await;
    let dead = [Fault { target: Node(0), harm: Kill }];
    strike(&mut stage, &dead);
    stage.mend(&gone);
    let is_last = |record: &Record| record.events.iter().any(|seen| seen.event.text.as_deref() == Some("last words 9"));
    bob.until("told by another node", is_last).await;
    stage.mend(&dead);
    alice.all_are("committed", committed).await;
    judge(&[&alice, &bob], room).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_5_what_can_never_be_written_is_a_dead_letter_and_holds_nothing_up() {
    let (mut stage, alice, bob, room) = scene(json!({})).await;
    let doomed = alice.client.create_room("doomed").await.unwrap().id;
    let blind = [link(0, Postgres, Cut), link(1, Postgres, Cut)].concat();
    strike(&mut stage, &blind);
    alice.send(doomed, vec!["never".to_owned()]).await;
    alice.send(room, vec!["after".to_owned()]).await;
    alice.all_are("accepted", accepted).await;
    stage.sql(&format!("DELETE FROM members WHERE room = '{doomed}'; DELETE FROM rooms WHERE id = '{doomed}'"));
    stage.mend(&blind);
    alice.all_are("decided", committed).await;
    assert_eq!(alice.recorder.look().sends[0].refused.as_deref(), Some("unknown_room"));
    let letters = stage.sql("SELECT reason, payload::json->'content' FROM dead_letters");
    assert!(letters.starts_with("unknown_room|") && letters.contains("never"), "{letters}");
    assert_eq!(letters.lines().count(), 1);
    let said = |record: &Record| record.events.iter().filter(|seen| seen.event.text.is_some()).count();
    bob.until("told what came after", |record| said(record) > 0).await;
    judge(&[&bob], room).await;
    assert_eq!(said(&bob.recorder.look()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_7_a_history_that_was_set_back_is_an_explicit_reset_and_goes_on() {
    let (stage, alice, bob, room) = scene(json!({})).await;
    let carol = Person::at("carol", &stage.urls()).await;
    carol.client.join(RoomRef::Room(room)).await.unwrap();
    carol.send(room, texts("kept", 5)).await;
    carol.all_are("committed", committed).await;
    stage.keep_database();
    carol.send(room, texts("lost", 5)).await;
    carol.all_are("committed", committed).await;
    let lost = carol.recorder.look().acks.last().unwrap().committed.seq;
    for person in [&alice, &bob] {
        person.until("caught up", |record| record.has_reached(room, lost)).await;
    }
    // What carol was told is lost, so her outbox is of no use any more.
    carol.client.close().await;
    stage.set_database_back();
    let reset = |record: &Record| {
        let rooms = record.connections.iter().flat_map(|connection| &connection.rooms);
        rooms.into_iter().any(|told| told.id == room && told.resume == Some(Resume::Reset) && told.epoch == 2)
    };
    for person in [&alice, &bob] {
        person.until("told of the reset", reset).await;
    }
    bob.send(room, texts("after", 10)).await;
    bob.all_are("committed", committed).await;
    let is_last = |record: &Record| {
        let mut events = record.events.iter().map(|seen| &seen.event);
        events.any(|event| event.text.as_deref() == Some("after 9") && event.epoch == 2 && event.seq <= lost + 5)
    };
    alice.until("told what came after", is_last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn persistence_queued_sends_everything_through_the_queue_and_the_log_takes_over_without_it() {
    let (mut stage, alice, bob, room) = scene(json!({"persistence": "Queued"})).await;
    for (person, who) in [(&alice, "alice"), (&bob, "bob")] {
        person.send(room, texts(who, 30)).await;
        person.all_are("committed", committed).await;
        assert_eq!(accepted(&person.recorder.look()), 30);
    }
    let gone = server(Rabbitmq, Kill);
    strike(&mut stage, &gone);
    alice.send(room, texts("direct", 30)).await;
    alice.all_are("committed", committed).await;
    stage.mend(&gone);
    println!("{}", judge(&[&alice, &bob], room).await);
}

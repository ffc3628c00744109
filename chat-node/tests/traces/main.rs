//! Traces: a message is followed through two nodes on a real PostgreSQL and a real RabbitMQ, and a collector costs nobody anything.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod collector;
#[allow(dead_code, reason = "written for other tests as well")]
#[path = "../support/running.rs"]
mod running;

use std::{
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use chat_load::{frame::RoomRef, record::Record};
use chat_node::metric;
use collector::{Collector, Heard, Told, text};
use crds::{
    NodeConfig,
    node_config::{Bus, Endpoint, Store, Traces},
};
use metrics_exporter_prometheus::PrometheusHandle;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use running::{PATIENCE, Person, Running, loopback};
use services::{Apart, Services};
use tokio::{net::TcpListener, time::timeout};
use uuid::Uuid;

/// Metrics are the process's.
fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(|| metric::install().unwrap()).clone()
}

/// Spans that had this outcome, on all nodes of the process.
fn spans(outcome: &str) -> u64 {
    let start = format!("chat_spans_total{{outcome=\"{outcome}\"}} ");
    let page = metrics().render();
    page.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
}

fn config(folder: &Path, collector: &str, sample_ratio: f64) -> NodeConfig {
    let mut config = loopback();
    config.store = Store::Sqlite { path: folder.join("chat.db") };
    config.addresses.enforced = false;
    config.traces = Some(Traces { endpoint: collector.into(), sample_ratio });
    config
}

/// Two nodes on this database, which is empty, and an empty virtual host. All is followed.
async fn pair(folder: &Path, collector: &str, postgres: String) -> [Running; 2] {
    let services = Services::new().unwrap();
    services.rabbitmq.start().unwrap();
    let key = folder.join("key");
    std::fs::write(&key, "a secret for two nodes of one test").unwrap();
    let mut config = config(folder, collector, 1.0);
    config.store = Store::Postgres { endpoint: Endpoint::Url(postgres), pool_connections_max: 5 };
    config.bus = Bus::Rabbitmq { endpoint: Endpoint::Url(services.rabbitmq.fresh_vhost().unwrap()) };
    config.auth.key_file = Some(key);
    [Running::start(0, config.clone(), metrics()).await, Running::start(1, config, metrics()).await]
}

impl Person {
    /// The event that brought this text.
    async fn hears(&self, text: &str) -> Uuid {
        let heard = |record: &Record| {
            let seen = record.events.iter().find(|seen| seen.event.text.as_deref() == Some(text))?;
            Some(seen.event.event)
        };
        self.recorder.until(PATIENCE, heard).await.expect("the message did not arrive")
    }
}

/// Alice on one node, bob on the other, and the room that both are in.
async fn two_in_a_room(nodes: &[Running; 2]) -> (Person, Person, Uuid) {
    let (alice, bob) = (Person::at(&[&nodes[0].url]).await, Person::at(&[&nodes[1].url]).await);
    let room = alice.client.create_room("lobby").await.unwrap().id;
    bob.client.join(RoomRef::Room(room)).await.unwrap();
    // Until then what is said may reach bob by his catching up, which nobody follows.
    alice.say(room, "are you there?").await;
    bob.hears("are you there?").await;
    (alice, bob, room)
}

/// Messages of which one is followed to its end: on a busy machine a connection may catch up with one before its node delivers it, and
/// nobody follows that.
const SEVERAL: [usize; 5] = [1, 2, 3, 4, 5];

/// How long a node may keep what it has to tell the collector, and a moment for a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(8);

/// The event that brought a text to both.
async fn heard_by_both(alice: &Person, bob: &Person, text: &str) -> Uuid {
    let event = bob.hears(text).await;
    assert_eq!(alice.hears(text).await, event);
    event
}

/// One of these events whose trace has so many spans, and what was heard by then.
async fn whole(collector: &Collector, events: &[Uuid], spans: usize) -> (Heard, Uuid) {
    let is_whole = |heard: &Heard, event: Uuid| heard.spans.iter().filter(|told| told.is_of(event)).count() >= spans;
    let heard = collector.until(PATIENCE, |heard| events.iter().any(|event| is_whole(heard, *event))).await;
    let event = events.iter().copied().find(|event| is_whole(&heard, *event)).unwrap();
    (heard, event)
}

/// The one span of a trace that has this name and is of this node.
#[track_caller]
fn the<'a>(heard: &'a Heard, trace: Uuid, name: &str, node: &str) -> &'a Told {
    let is_it = |told: &&Told| told.is_of(trace) && told.span.name == name && told.node == node;
    let found: Vec<&Told> = heard.spans.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{name} on {node}: {found:#?}");
    found[0]
}

#[track_caller]
fn is_child(child: &Told, parent: &Told) {
    let (child, parent) = (&child.span, &parent.span);
    assert_eq!(child.parent_span_id, parent.span_id, "{} is no child of {}", child.name, parent.name);
    assert!(child.start_time_unix_nano >= parent.start_time_unix_nano, "{} began before {}", child.name, parent.name);
    assert!(child.end_time_unix_nano >= child.start_time_unix_nano, "{} ended before it began", child.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_followed_from_its_frame_to_its_delivery_on_another_node() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), Collector::start().await);
    let services = Services::new().unwrap();
    services.up().unwrap();
    let nodes = pair(folder.path(), &collector.url, services.postgres.fresh_database().unwrap()).await;
    let (alice, bob, room) = two_in_a_room(&nodes).await;
    let texts = SEVERAL.map(|number| format!("nobody else is to know {number}"));
    let mut events = Vec::new();
    for text in &texts {
        alice.say(room, text).await;
        // One by one: whoever still catches up reads the log more slowly than it grows.
        events.push(heard_by_both(&alice, &bob, text).await);
    }
    let (heard, event) = whole(&collector, &events, 6).await;
    let send = the(&heard, event, "send", "node-0");
    assert!(send.span.parent_span_id.is_empty());
    assert_eq!(text(&send.span.attributes, "chat.outcome"), Some("committed"));
    assert_eq!(text(&send.span.attributes, "chat.room"), Some(&*room.to_string()));
    let commit = the(&heard, event, "commit", "node-0");
    is_child(commit, send);
    let publish = the(&heard, event, "publish", "node-0");
    is_child(publish, send);
    is_child(the(&heard, event, "deliver", "node-0"), send);
    let receive = the(&heard, event, "receive", "node-1");
    is_child(receive, publish);
    is_child(the(&heard, event, "deliver", "node-1"), receive);

    let [link] = &commit.span.links[..] else { panic!("{commit:#?}") };
    let batch = heard.spans.iter().find(|told| told.span.span_id == link.span_id).expect("the batch has a span");
    assert_eq!((batch.span.name.as_str(), &batch.span.trace_id), ("commit batch", &link.trace_id));

    for node in nodes {
        node.stop().await;
    }
    for secret in ["nobody else is to know", "correct horse", "lobby", &alice.name, &bob.name] {
        let has = |body: &bytes::Bytes| body.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!collector.heard().bodies.iter().any(has), "a span has {secret:?} in it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_followed_through_the_queue_while_postgres_is_away() {
    let (folder, collector, apart) = (tempfile::tempdir().unwrap(), Collector::start().await, Apart::new().unwrap());
    apart.postgres.start().unwrap();
    let nodes = pair(folder.path(), &collector.url, apart.postgres.fresh_database().unwrap()).await;
    let (alice, bob, room) = two_in_a_room(&nodes).await;
    let mut whole = None;
    for round in SEVERAL {
        apart.postgres.kill().unwrap();
        let text = format!("is it dark? {round}");
        let pending = alice.client.send(room, &text).await.unwrap();
        let accepted = |record: &Record| record.sends.last().is_some_and(|send| send.accepted).then_some(());
        assert!(alice.recorder.until(PATIENCE, accepted).await.is_some(), "the queue did not take it");
        apart.postgres.start().unwrap();
        timeout(PATIENCE, pending.committed()).await.unwrap().unwrap();
        let event = heard_by_both(&alice, &bob, &text).await;
        let is_delivered = |heard: &Heard| {
            let on = |name: &str| {
                heard.spans.iter().find(|told| told.is_of(event) && told.span.name == name).map(|told| &told.node)
            };
            let delivers =
                |told: &Told| told.is_of(event) && told.span.name == "deliver" && Some(&told.node) == on("commit");
            ["send", "queue", "publish"].iter().all(|name| on(name).is_some()) && heard.spans.iter().any(delivers)
        };
        whole = collector.wait(TOLD_WITHIN, is_delivered).await.map(|heard| (heard, event));
        if whole.is_some() {
            break;
        }
    }
    let (heard, event) = whole.expect("no message was followed to its delivery");
    let send = the(&heard, event, "send", "node-0");
    assert_eq!(text(&send.span.attributes, "chat.outcome"), Some("accepted"));
    let queue = the(&heard, event, "queue", "node-0");
    is_child(queue, send);
    assert_eq!(queue.span.kind(), SpanKind::Producer);
    // Either node takes from the queue.
    let commits = heard.spans.iter().filter(|told| told.is_of(event) && told.span.name == "commit");
    let [commit] = &commits.collect::<Vec<_>>()[..] else { panic!("it is committed once") };
    is_child(commit, send);
    // It may wait for Postgres from the moment on that it is in the queue.
    assert!(commit.span.end_time_unix_nano >= queue.span.end_time_unix_nano, "it was durable before it had a place");
    is_child(the(&heard, event, "publish", &commit.node), send);
    is_child(the(&heard, event, "deliver", &commit.node), send);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_nothing_sends_nothing_and_a_share_of_all_misses_none() {
    for (ratio, said, told) in [(0.0, 10, 0), (1.0, 10, 10)] {
        let (folder, collector) = (tempfile::tempdir().unwrap(), Collector::start().await);
        let node = Running::start(0, config(folder.path(), &collector.url, ratio), metrics()).await;
        let alice = Person::at(&[&node.url]).await;
        let room = alice.client.create_room("lobby").await.unwrap().id;
        for round in 0..said {
            alice.say(room, &format!("{round}")).await;
        }
        // A node that leaves sends what it has first.
        node.stop().await;
        let heard = collector.heard();
        let sends = heard.spans.iter().filter(|told| told.span.name == "send").count();
        assert_eq!((sends, heard.bodies.is_empty()), (told, told == 0), "{ratio}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_or_silent_costs_spans_and_nothing_else() {
    // It takes connections, as the system does for it, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let (failed, dropped) = (spans("failed"), spans("dropped"));
    for collector in ["http://127.0.0.1:9", &silent_url] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), collector, 1.0);
        (config.limits.sends_per_second_max, config.limits.sends_burst_max) = (100_000, 100_000);
        let node = Running::start(0, config, metrics()).await;
        let alice = Person::at(&[&node.url]).await;
        let room = alice.client.create_room("lobby").await.unwrap().id;
        // More spans than may wait.
        let began = Instant::now();
        let mut pending = Vec::new();
        for round in 0..3_000 {
            pending.push(alice.client.send(room, format!("{round}")).await.unwrap());
        }
        for sent in pending {
            timeout(PATIENCE, sent.committed()).await.expect("a message waits for the collector").unwrap();
        }
        alice.hears("2999").await;
        eprintln!("3,000 messages in {:?}", began.elapsed());
        node.stop().await;
    }
    assert!(spans("failed") > failed, "nobody was told that the collector takes nothing");
    assert!(spans("dropped") > dropped, "nobody was told that spans were dropped");
}

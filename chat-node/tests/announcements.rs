//! Announcements: kept by either store, and told by two nodes to everybody, whatever becomes of a notification.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod support;

use std::{sync::Arc, time::Duration};

use axum::http::Method;
use chat_load::{
    client::{Client, Identity, Options},
    dial::Tcp,
    record::Recorder,
    rest::{self, Answer, Call},
};
use chat_node::store::{ANNOUNCEMENTS_MAX, Announcement, StoreLimits};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::{
    on_both,
    pair::{ADMIN, Pair},
};

const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 1, members_per_room_max: 1, outbox_results_kept: 1 };
const NOW: i64 = 1_767_225_600_000;

/// How long anything may take. Shorter than the time between two comparisons with the store, which would find everything.
const PATIENCE: Duration = Duration::from_secs(15);

fn announcement(number: u128, time_ms: i64, until_ms: Option<i64>) -> Announcement {
    let text = format!("number {number}");
    Announcement { id: Uuid::from_u128(number), sender: "root".into(), text, time_ms, until_ms }
}

#[tokio::test]
async fn what_is_in_force_is_read_in_pages_and_what_is_over_makes_room() {
    on_both(LIMITS, |store| async move {
        let most = ANNOUNCEMENTS_MAX as u128;
        let short = announcement(1, NOW, Some(NOW + 10));
        assert!(store.announce(&short).await.unwrap());
        for number in 2..=most {
            assert!(store.announce(&announcement(number, NOW, None)).await.unwrap());
        }
        assert!(!store.announce(&announcement(most + 1, NOW + 9, None)).await.unwrap(), "there are as many as may be");
        assert!(store.announce(&announcement(most + 1, NOW + 10, None)).await.unwrap(), "the first is over");
        assert!(!store.announce(&announcement(most + 2, NOW + 10, None)).await.unwrap());

        let page = store.announcements(None, 3, NOW).await.unwrap();
        assert_eq!(page, (2..=4).map(|number| announcement(number, NOW, None)).collect::<Vec<_>>());
        let rest = store.announcements(Some(page[2].id), 99, NOW).await.unwrap();
        assert_eq!((rest.len(), rest[0].id), (ANNOUNCEMENTS_MAX - 3, Uuid::from_u128(5)));

        assert!(store.end_announcement(Uuid::from_u128(5), NOW).await.unwrap());
        assert!(!store.end_announcement(Uuid::from_u128(5), NOW).await.unwrap(), "it is over");
        assert!(store.announce(&announcement(most + 2, NOW, Some(NOW + 20))).await.unwrap());
        let latest = Uuid::from_u128(most + 1);
        assert_eq!(store.announcements(Some(latest), 9, NOW + 19).await.unwrap().len(), 1);
        assert_eq!(store.announcements(Some(latest), 9, NOW + 20).await.unwrap(), []);
        assert!(!store.end_announcement(Uuid::from_u128(most + 2), NOW + 20).await.unwrap(), "it is over by itself");
    })
    .await;
}

#[tokio::test]
async fn administrators_at_the_same_time_make_no_more_than_may_be() {
    on_both(LIMITS, |store| async move {
        let made = join_all((1..=30).map(|number| {
            let store = store.clone();
            async move { store.announce(&announcement(number, NOW, None)).await.unwrap() }
        }));
        assert_eq!(made.await.into_iter().filter(|made| *made).count(), ANNOUNCEMENTS_MAX);
    })
    .await;
}

/// Somebody on one of the two nodes.
struct Person {
    dial: Arc<Tcp>,
    token: String,
    recorder: Recorder,
    _client: Client,
}

impl Person {
    async fn at(pair: &Pair, node: usize, name: &str) -> Person {
        let dial = Arc::new(Tcp::new(&[&*pair.nodes[node].url], 0).unwrap());
        rest::register(&*dial, name, "correct horse").await.unwrap();
        let token = rest::login(&*dial, name, "correct horse").await.unwrap();
        let recorder = Recorder::default();
        let client = Client::start(Options::new(dial.clone(), Identity::Token(token.clone())), recorder.clone());
        timeout(PATIENCE, client.online()).await.unwrap().unwrap();
        Person { dial, token, recorder, _client: client }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let path = format!("/api/v1/announcements{path}");
        let call = Call { method, path: &path, token: Some(&self.token), body: body.as_ref(), ..Call::default() };
        rest::call(&*self.dial, &call).await.unwrap()
    }

    async fn announce(&self, text: &str) -> String {
        let made = self.ask(Method::POST, "", Some(json!({"text": text}))).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["id"].as_str().unwrap().to_owned()
    }

    /// Waits until these and no others are announced to this person.
    async fn knows(&self, texts: &[&str]) {
        let known = self.recorder.until(PATIENCE, |record| {
            record.announced.iter().map(|announced| announced.text.as_str()).eq(texts.iter().copied()).then_some(())
        });
        assert!(known.await.is_some(), "{texts:?}: {:?}", self.recorder.look().announced);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_on_both_nodes_is_told_and_whoever_comes_later_too() {
    let pair = Pair::start().await;
    let (root, alice) = (Person::at(&pair, 0, ADMIN).await, Person::at(&pair, 1, "alice").await);
    let first = root.announce("tea at four").await;
    let second = root.announce("cake too").await;
    for person in [&root, &alice, &Person::at(&pair, 0, "bob").await, &Person::at(&pair, 1, "carol").await] {
        person.knows(&["tea at four", "cake too"]).await;
    }
    assert_eq!(root.ask(Method::DELETE, &format!("/{first}"), None).await.status, 204);
    for person in [&root, &alice, &Person::at(&pair, 1, "dave").await] {
        person.knows(&["cake too"]).await;
    }
    assert_eq!(root.ask(Method::DELETE, &format!("/{second}"), None).await.status, 204);
    alice.knows(&[]).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_announced_while_nobody_listened_is_told_when_listening_begins_anew() {
    let pair = Pair::start().await;
    let (root, alice) = (Person::at(&pair, 0, ADMIN).await, Person::at(&pair, 1, "alice").await);
    let ended = root.announce("soon over").await;
    alice.knows(&["soon over"]).await;
    // Without a notification, as if it had come while the connection was cut.
    pair.sql("INSERT INTO announcements VALUES ('01890000-0000-7000-8000-000000000001', 'root', 'unheard', 1, NULL)");
    pair.sql(&format!("DELETE FROM announcements WHERE id = '{ended}'"));
    let cut = pair.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    );
    assert_eq!(cut.trim(), "2", "each node listens");
    for person in [&root, &alice] {
        person.knows(&["unheard"]).await;
    }
    // And what comes then is heard again.
    root.announce("heard").await;
    alice.knows(&["unheard", "heard"]).await;
    pair.stop().await;
}

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
use chat_node::store::{
    ANNOUNCEMENT_KEYS_MAX, ANNOUNCEMENTS_MAX, Announced, Announcement, AnnouncementKey, SharedStore, StoreLimits,
};
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

/// Whether there was room for it.
async fn is_told(store: &SharedStore, announcement: &Announcement) -> bool {
    match store.announce(announcement, None).await.unwrap() {
        Announced::Now => true,
        Announced::TooMany => false,
        before => panic!("without a key: {before:?}"),
    }
}

#[tokio::test]
async fn what_is_in_force_is_read_in_pages_and_what_is_over_makes_room() {
    on_both(LIMITS, |store| async move {
        let most = ANNOUNCEMENTS_MAX as u128;
        let short = announcement(1, NOW, Some(NOW + 10));
        assert!(is_told(&store, &short).await);
        for number in 2..=most {
            assert!(is_told(&store, &announcement(number, NOW, None)).await);
        }
        assert!(!is_told(&store, &announcement(most + 1, NOW + 9, None)).await, "there are as many as may be");
        assert!(is_told(&store, &announcement(most + 1, NOW + 10, None)).await, "the first is over");
        assert!(!is_told(&store, &announcement(most + 2, NOW + 10, None)).await);

        let page = store.announcements(None, 3, NOW).await.unwrap();
        assert_eq!(page, (2..=4).map(|number| announcement(number, NOW, None)).collect::<Vec<_>>());
        let rest = store.announcements(Some(page[2].id), 99, NOW).await.unwrap();
        assert_eq!((rest.len(), rest[0].id), (ANNOUNCEMENTS_MAX - 3, Uuid::from_u128(5)));

        assert!(store.end_announcement(Uuid::from_u128(5), NOW).await.unwrap());
        assert!(!store.end_announcement(Uuid::from_u128(5), NOW).await.unwrap(), "it is over");
        assert!(is_told(&store, &announcement(most + 2, NOW, Some(NOW + 20))).await);
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
            async move { is_told(&store, &announcement(number, NOW, None)).await }
        }));
        assert_eq!(made.await.into_iter().filter(|made| *made).count(), ANNOUNCEMENTS_MAX);
    })
    .await;
}

#[tokio::test]
async fn the_same_key_announces_once_for_as_long_as_it_is_known() {
    on_both(LIMITS, |store| async move {
        let key = |number: u128, known_since_ms| Some(AnnouncementKey { key: Uuid::from_u128(number), known_since_ms });
        let (first, other) = (announcement(1, NOW, Some(NOW + 60_000)), announcement(2, NOW + 5, None));
        let made = join_all((0..8).map(|_| store.announce(&first, key(1, 0)))).await;
        let made: Vec<Announced> = made.into_iter().map(Result::unwrap).collect();
        assert_eq!(made.iter().filter(|made| **made == Announced::Now).count(), 1);
        assert_eq!(made.iter().filter(|made| **made == Announced::Before(first.clone())).count(), 7);
        // Another text, and after the first was ended: it is not said anew.
        store.end_announcement(first.id, NOW).await.unwrap();
        assert_eq!(store.announce(&other, key(1, NOW)).await.unwrap(), Announced::Before(first.clone()));
        assert_eq!(store.announcements(None, 9, NOW).await.unwrap(), []);
        let of_alice = Announcement { sender: "alice".into(), ..announcement(3, NOW, None) };
        assert_eq!(store.announce(&of_alice, key(1, 0)).await.unwrap(), Announced::Now, "a key is its sender's");
        assert_eq!(store.announce(&other, key(1, NOW + 1)).await.unwrap(), Announced::Now, "it is not known any more");

        // What there was no room for can be announced under the same key later.
        for number in 3..=ANNOUNCEMENTS_MAX as u128 {
            assert!(is_told(&store, &announcement(100 + number, NOW, None)).await);
        }
        let late = announcement(200, NOW, None);
        assert_eq!(store.announce(&late, key(2, 0)).await.unwrap(), Announced::TooMany);
        store.end_announcement(other.id, NOW).await.unwrap();
        assert_eq!(store.announce(&late, key(2, 0)).await.unwrap(), Announced::Now);
        store.end_announcement(late.id, NOW).await.unwrap();

        // So many later keys, and it is forgotten.
        let last = ANNOUNCEMENT_KEYS_MAX as u128;
        for number in 1..=last {
            if number == last / 2 {
                assert_eq!(store.announce(&late, key(2, 0)).await.unwrap(), Announced::Before(late.clone()));
            }
            let at = NOW + 10 + number as i64;
            let next = announcement(1_000 + number, at, Some(at + 1));
            assert_eq!(store.announce(&next, key(1_000 + number, 0)).await.unwrap(), Announced::Now);
        }
        let again = Announcement { time_ms: NOW + 100_000, ..late };
        assert_eq!(store.announce(&again, key(2, 0)).await.unwrap(), Announced::Now);
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
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^(LISTEN|SELECT pg_listening)'",
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

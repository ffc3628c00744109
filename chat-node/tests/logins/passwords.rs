//! A password that is changed: wherever sessions live, what was begun with the old one is over; on two nodes, at once.

use std::{sync::Arc, time::Duration};

use chat_node::{
    auth::{RefreshRules, RefreshToken},
    redis::RedisSessions,
    store::{NewLogin, PostgresStore, Refreshed, SharedStore},
};
use futures::future::join_all;
use services::{Apart, Services};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::ground::{Ground, LIMITS, on_all};

const NOW: i64 = 1_767_225_600_000;

/// How long anything may take that nothing is promised of.
const PATIENCE: Duration = Duration::from_secs(20);

/// Begins a login of alice whose password had this hash. `None` when it was refused.
async fn begin(ground: &Ground, hash: &str) -> Option<Uuid> {
    begin_with(ground, hash, RefreshToken::new(Uuid::new_v4(), [1; 32])).await
}

/// The same, with this refresh token.
async fn begin_with(ground: &Ground, hash: &str, token: RefreshToken) -> Option<Uuid> {
    let id = Uuid::now_v7();
    let (user, password_hash) = ("alice".to_owned(), Some(hash.to_owned()));
    // Redis counts by its own clock, and a server is started meanwhile.
    let login = NewLogin { id, user, address: None, expires_ms: NOW + 100_000, token, password_hash };
    ground.sessions.begin_login(&login, NOW).await.unwrap().map(|_| id)
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let so = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, so).await.unwrap_or_else(|_| panic!("{what} does not come"));
}

#[tokio::test]
async fn a_change_ends_all_sessions_but_one_and_takes_the_old_hash_once() {
    on_all(|ground| async move {
        ground.store.create_account("alice", "old", NOW).await.unwrap();
        ground.store.create_account("bob", "old", NOW).await.unwrap();
        let (here, elsewhere) = (begin(&ground, "old").await.unwrap(), begin(&ground, "old").await.unwrap());
        let change = async |old, new, keep| ground.sessions.change_password("alice", old, new, keep).await.unwrap();
        assert_eq!(change("wrong", "new", Some(here)).await, None);
        assert_eq!(change("old", "new", Some(here)).await, Some(vec![elsewhere]));
        assert_eq!(change("old", "newer", None).await, None, "it was changed meanwhile");
        assert_eq!(ground.sessions.good_logins(&[here, elsewhere], NOW).await.unwrap(), [here]);
        assert_eq!(begin(&ground, "old").await, None);
        assert!(begin(&ground, "new").await.is_some());
        assert_eq!(ground.store.password_hash("alice").await.unwrap().as_deref(), Some("new"));
        assert_eq!(ground.store.password_hash("bob").await.unwrap().as_deref(), Some("old"));
        assert_eq!(change("new", "newer", None).await.map(|ended| ended.len()), Some(2), "all, when none is kept");
        assert_eq!(ground.sessions.change_password("nobody", "old", "new", None).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn no_login_with_the_old_password_outlives_a_change_however_close_they_are() {
    on_all(|ground| async move {
        ground.store.create_account("alice", "0", NOW).await.unwrap();
        for round in 0..10 {
            let (old, new) = (round.to_string(), (round + 1).to_string());
            let (logins, changed) = tokio::join!(
                join_all((0..6).map(|_| begin(&ground, &old))),
                ground.sessions.change_password("alice", &old, &new, None)
            );
            assert!(changed.unwrap().is_some());
            let begun: Vec<Uuid> = logins.into_iter().flatten().collect();
            assert_eq!(ground.sessions.good_logins(&begun, NOW).await.unwrap(), [] as [Uuid; 0], "round {round}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_the_old_password_is_never_good_although_redis_died_before_it_was_ended() {
    let (shared, apart) = (Services::new().unwrap(), Apart::new().unwrap());
    shared.postgres.start().unwrap();
    apart.redis.start().unwrap();
    let (postgres, redis) = (shared.postgres.fresh_database().unwrap(), apart.redis.fresh_database().unwrap());
    let database = postgres.rsplit('/').next().unwrap().to_owned();
    let store: SharedStore = Arc::new(PostgresStore::new(&postgres, None, 5, LIMITS).unwrap());
    store.migrate().await.unwrap();
    store.create_account("alice", "old", NOW).await.unwrap();
    let (sessions, _endings) = RedisSessions::new(&redis, None, store.clone()).unwrap();
    let ground = Ground { store: store.clone(), sessions: Arc::new(sessions) };
    let (here, elsewhere) = (begin(&ground, "old").await.unwrap(), begin(&ground, "old").await.unwrap());

    // Somebody holds the account, so that the change waits between its two steps.
    let holder = tokio::task::spawn_blocking({
        let (services, database) = (Services::new().unwrap(), database.clone());
        move || services.postgres.sql(&database, "BEGIN; SELECT 1 FROM users FOR UPDATE; SELECT pg_sleep(60)")
    });
    let of_holder = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let sql = |what: &str| shared.postgres.sql(&database, &format!("{what} {of_holder}")).unwrap();
    until("the lock", async || sql("SELECT count(*)").trim() == "1").await;
    let change = tokio::spawn({
        let sessions = ground.sessions.clone();
        async move { sessions.change_password("alice", "old", "new", Some(here)).await }
    });
    until("the change", async || apart.redis.has(&redis, "chatcluster:changing:alice").unwrap()).await;
    let token = RefreshToken::new(Uuid::new_v4(), [2; 32]);
    let asked = begin(&ground, "old").await.expect("it is still the password");
    let refreshed = begin_with(&ground, "old", token.clone()).await.expect("it is still the password");
    let all = [here, elsewhere, asked, refreshed];
    assert_eq!(ground.sessions.good_logins(&all, NOW).await.unwrap(), [here, asked, refreshed]);

    apart.redis.kill().unwrap();
    assert!(!change.is_finished());
    sql("SELECT pg_terminate_backend(pid)");
    assert!(change.await.unwrap().unwrap().is_some_and(|ended| ended.contains(&elsewhere)), "the password is changed");
    assert!(holder.await.unwrap().is_err(), "it was ended");
    apart.redis.start().unwrap();
    until("Redis", async || ground.sessions.logins_of("alice", NOW).await.is_ok()).await;

    let rules = RefreshRules { life_ms: 100_000, grace_ms: 1_000 };
    assert_eq!(ground.sessions.refresh(&token, [3; 32], NOW, rules).await.unwrap(), Refreshed::Unknown);
    let listed = ground.sessions.logins_of("alice", NOW).await.unwrap();
    assert!(listed.iter().any(|login| login.id == asked), "nothing has ended it yet");
    assert_eq!(ground.sessions.good_logins(&all, NOW).await.unwrap(), [here]);
    assert_eq!(ground.sessions.logins_of("alice", NOW).await.unwrap().len(), 1, "and it is gone");
    let new = begin(&ground, "new").await.unwrap();
    assert_eq!(ground.sessions.good_logins(&[here, new], NOW).await.unwrap(), [here, new]);

    // The next change that is whole leaves no doubt.
    assert!(ground.sessions.change_password("alice", "new", "newer", Some(new)).await.unwrap().is_some());
    assert!(!apart.redis.has(&redis, "chatcluster:changing:alice").unwrap());
    assert_eq!(ground.sessions.good_logins(&[here, new], NOW).await.unwrap(), [new]);
    store.close().await;
}

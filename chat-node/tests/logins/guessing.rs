//! Whoever guesses passwords waits, wherever it is from; the owner does not for long.

use std::{net::IpAddr, time::Duration};

use chat_node::{auth::RefreshToken, store::NewLogin};
use uuid::Uuid;

use crate::ground::{Ground, on_all};

const NOW: i64 = 1_767_225_600_000;

fn ip(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

async fn wait(ground: &Ground, account: &str, address: u8, now_ms: i64) -> Duration {
    let is_known = ground.sessions.knows(account, ip(address), now_ms).await.unwrap();
    ground.store.attempt(Some(account), Some(ip(address)), is_known, now_ms).await.unwrap()
}

#[tokio::test]
async fn guesses_at_one_account_wait_and_the_right_password_forgives() {
    on_all(|ground| async move {
        for _ in 0..5 {
            assert_eq!(wait(&ground, "alice", 1, NOW).await, Duration::ZERO);
        }
        for _ in 0..3 {
            assert_eq!(wait(&ground, "alice", 1, NOW).await, Duration::from_secs(1), "asking makes it no longer");
        }
        assert_eq!(wait(&ground, "bob", 1, NOW).await, Duration::ZERO);
        assert_eq!(wait(&ground, "alice", 2, NOW).await, Duration::ZERO);
        assert_eq!(wait(&ground, "alice", 1, NOW + 1_000).await, Duration::ZERO);
        assert_eq!(wait(&ground, "alice", 1, NOW + 1_000).await, Duration::from_secs(2));
        ground.store.forgive("alice", Some(ip(1))).await.unwrap();
        assert_eq!(wait(&ground, "alice", 1, NOW + 1_000).await, Duration::ZERO);
    })
    .await;
}

#[tokio::test]
async fn an_attempt_whose_password_was_not_looked_at_is_taken_back_and_no_other() {
    on_all(|ground| async move {
        let take_back =
            async |made_ms| ground.store.take_back(Some("alice"), Some(ip(1)), false, made_ms).await.unwrap();
        for _ in 0..30 {
            assert_eq!(wait(&ground, "alice", 1, NOW).await, Duration::ZERO);
            take_back(NOW).await;
        }
        for _ in 0..5 {
            assert_eq!(wait(&ground, "alice", 1, NOW).await, Duration::ZERO);
        }
        assert_eq!(wait(&ground, "alice", 1, NOW + 1_000).await, Duration::ZERO);
        take_back(NOW + 1_000).await;
        assert_eq!(
            wait(&ground, "alice", 1, NOW + 1_000).await,
            Duration::ZERO,
            "the time of the last was waited already"
        );
        assert_eq!(wait(&ground, "alice", 1, NOW + 1_000).await, Duration::from_secs(2), "the five before count");
    })
    .await;
}

#[tokio::test]
async fn many_guesses_at_once_count_as_many() {
    on_all(|ground| async move {
        let all = futures::future::join_all((0..30).map(|_| wait(&ground, "alice", 1, NOW))).await;
        assert_eq!(all.iter().filter(|wait| wait.is_zero()).count(), 5);
    })
    .await;
}

#[tokio::test]
async fn strangers_from_many_addresses_slow_each_other_down_and_not_the_owner() {
    on_all(|ground| async move {
        let login = NewLogin {
            id: Uuid::now_v7(),
            user: "alice".into(),
            address: Some(ip(200).to_string()),
            expires_ms: NOW + 10_000_000,
            token: RefreshToken::new(Uuid::new_v4(), [1; 32]),
            password_hash: None,
        };
        ground.sessions.begin_login(&login, NOW).await.unwrap();
        let made = |address| wait(&ground, "alice", address, NOW);
        for address in 0..20 {
            assert_eq!(made(address).await, Duration::ZERO);
        }
        for address in 20..40 {
            assert_eq!(made(address).await, Duration::from_secs(1), "from {address}");
        }
        assert_eq!(made(200).await, Duration::ZERO, "she is signed in there");
        // However long it goes on, whoever comes from elsewhere waits a minute at most.
        let mut now_ms = NOW;
        for guess in 0..20 {
            let address = 41 + guess;
            let asked = wait(&ground, "alice", address, now_ms).await;
            assert!(asked <= Duration::from_secs(60));
            now_ms += i64::try_from(asked.as_millis()).unwrap();
            assert_eq!(wait(&ground, "alice", address, now_ms).await, Duration::ZERO);
        }
        ground.store.forget_attempts(now_ms + 3_600_000).await.unwrap();
        assert_eq!(wait(&ground, "alice", 1, now_ms).await, Duration::ZERO);
    })
    .await;
}

#[tokio::test]
async fn an_address_that_tries_many_accounts_waits_and_one_that_many_log_in_from_does_not() {
    on_all(|ground| async move {
        // Two hundred people at once, before any password was looked at.
        for number in 0..200 {
            assert_eq!(wait(&ground, &format!("member{number}"), 1, NOW).await, Duration::ZERO);
        }
        for number in 0..200 {
            ground.store.forgive(&format!("member{number}"), Some(ip(1))).await.unwrap();
        }
        for number in 0..50 {
            assert_eq!(wait(&ground, &format!("victim{number}"), 2, NOW).await, Duration::ZERO);
            ground.store.failed(ip(2), NOW).await.unwrap();
        }
        ground.store.forgive("victim7", Some(ip(2))).await.unwrap();
        assert_eq!(wait(&ground, "another", 2, NOW).await, Duration::from_secs(1));
        assert_eq!(
            ground.store.attempt(None, Some(ip(2)), false, NOW).await.unwrap(),
            Duration::from_secs(1),
            "a name nobody can have"
        );
        assert_eq!(wait(&ground, "another", 3, NOW).await, Duration::ZERO);
    })
    .await;
}

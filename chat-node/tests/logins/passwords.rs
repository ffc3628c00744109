//! A password that is changed: wherever sessions live, what was begun with the old one is over; on two nodes, at once.

use chat_node::{auth::RefreshToken, store::NewLogin};
use futures::future::join_all;
use uuid::Uuid;

use crate::ground::{Ground, on_all};

const NOW: i64 = 1_767_225_600_000;

/// Begins a login of alice whose password had this hash. `None` when it was refused.
async fn begin(ground: &Ground, hash: &str) -> Option<Uuid> {
    let (id, token) = (Uuid::now_v7(), RefreshToken::new(Uuid::new_v4(), [1; 32]));
    let login = NewLogin {
        id,
        user: "alice".into(),
        address: None,
        expires_ms: NOW + 10_000,
        token,
        password_hash: Some(hash.into()),
    };
    ground.sessions.begin_login(&login, NOW).await.unwrap().map(|_| id)
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

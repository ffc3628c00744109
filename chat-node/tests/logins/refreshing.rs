//! A refresh token is used once, on either store, however often and from however many places it comes.

use std::{collections::BTreeSet, time::Duration};

use chat_node::{
    auth::{RefreshRules, RefreshToken},
    store::{LOGINS_PER_USER_MAX, NewLogin, Refreshed, Seen},
};
use uuid::Uuid;

use crate::ground::{Ground, on_all};

const NONE: [Uuid; 0] = [];

const NOW: i64 = 1_767_225_600_000;
const RULES: RefreshRules = RefreshRules { life_ms: 10_000, grace_ms: 1_000 };

async fn begin(ground: &Ground, user: &str, now_ms: i64) -> (Uuid, RefreshToken, Vec<Uuid>) {
    let (id, token) = (Uuid::now_v7(), RefreshToken::new(Uuid::new_v4(), [1; 32]));
    let login = NewLogin {
        id,
        user: user.into(),
        address: Some("192.0.2.7".into()),
        expires_ms: now_ms + RULES.life_ms,
        token: token.clone(),
        password_hash: None,
    };
    let displaced = ground.sessions.begin_login(&login, now_ms).await.unwrap().unwrap();
    (id, token, displaced)
}

async fn refresh(ground: &Ground, token: &RefreshToken, salt: u8, now_ms: i64) -> Refreshed {
    ground.sessions.refresh(token, [salt; 32], now_ms, RULES).await.unwrap()
}

async fn is_good(ground: &Ground, login: Uuid, now_ms: i64) -> bool {
    !ground.sessions.good_logins(&[login, Uuid::from_u128(404)], now_ms).await.unwrap().is_empty()
}

#[track_caller]
fn renewed(refreshed: Refreshed, repeated: bool) -> RefreshToken {
    match refreshed {
        Refreshed::Renewed { token, again, user, .. } if again == repeated && user == "alice" => token,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refresh_token_that_was_used_ends_its_session_when_it_comes_again() {
    on_all(|ground| async move {
        let (login, first, _) = begin(&ground, "alice", NOW).await;
        let (other, ..) = begin(&ground, "alice", NOW).await;
        let second = renewed(refresh(&ground, &first, 2, NOW + 5_000).await, false);
        assert_eq!(renewed(refresh(&ground, &first, 3, NOW + 5_999).await, true), second, "the answer was lost");
        let third = renewed(refresh(&ground, &second, 4, NOW + 14_000).await, false);
        assert!(is_good(&ground, login, NOW + 23_999).await, "each refresh begins its life anew");
        assert_eq!(refresh(&ground, &first, 5, NOW + 14_001).await, Refreshed::Reused { login });
        assert!(!is_good(&ground, login, NOW).await && is_good(&ground, other, NOW).await);
        assert_eq!(refresh(&ground, &third, 6, NOW + 14_002).await, Refreshed::Unknown, "for the thief too");
        let (_, late, _) = begin(&ground, "alice", NOW).await;
        assert_eq!(refresh(&ground, &late, 7, NOW + RULES.life_ms).await, Refreshed::Unknown, "too old");
    })
    .await;
}

#[tokio::test]
async fn refreshes_at_the_same_time_are_given_the_same_successor() {
    on_all(|ground| async move {
        let (_, first, _) = begin(&ground, "alice", NOW).await;
        let all = (0..8).map(|salt| refresh(&ground, &first, salt, NOW));
        let all = futures::future::join_all(all).await;
        let firsts = all.iter().filter(|refreshed| matches!(refreshed, Refreshed::Renewed { again: false, .. }));
        assert_eq!(firsts.count(), 1);
        let mut tokens = all.into_iter().map(|refreshed| match refreshed {
            Refreshed::Renewed { token, .. } => token,
            other => panic!("{other:?}"),
        });
        let successor = tokens.next().unwrap();
        assert!(tokens.all(|token| token == successor));
    })
    .await;
}

#[tokio::test]
async fn sessions_are_listed_noted_and_ended_one_by_one_or_all() {
    on_all(|ground| async move {
        let (phone, ..) = begin(&ground, "alice", NOW).await;
        let (laptop, ..) = begin(&ground, "alice", NOW + 1).await;
        let (bobs, ..) = begin(&ground, "bob", NOW).await;
        let seen = Seen { ms: NOW + 9, client: Some("mobile"), address: None };
        ground
            .sessions
            .note_logins(&[(phone, seen), (Uuid::from_u128(404), Seen { ms: 1, client: None, address: None })])
            .await
            .unwrap();
        let listed = ground.sessions.logins_of("alice", NOW + 9).await.unwrap();
        let ids: Vec<Uuid> = listed.iter().map(|login| login.id).collect();
        assert_eq!(ids, [phone, laptop], "whoever was seen last comes first");
        assert_eq!((listed[0].seen_ms, listed[0].created_ms), (NOW + 9, NOW));
        assert_eq!((listed[0].client.as_deref(), listed[0].address.as_deref()), (Some("mobile"), Some("192.0.2.7")));
        assert_eq!(
            ground.sessions.end_logins("alice", Some(bobs)).await.unwrap(),
            NONE,
            "another's is not hers to end"
        );
        assert_eq!(ground.sessions.end_logins("alice", Some(phone)).await.unwrap(), [phone]);
        assert_eq!(ground.sessions.end_logins("alice", Some(phone)).await.unwrap(), NONE);
        let (tablet, ..) = begin(&ground, "alice", NOW).await;
        let all: BTreeSet<Uuid> = ground.sessions.end_logins("alice", None).await.unwrap().into_iter().collect();
        assert_eq!(all, BTreeSet::from([laptop, tablet]));
        assert!(is_good(&ground, bobs, NOW).await);
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_is_no_session_and_is_forgotten() {
    on_all(|ground| async move {
        // Redis counts by its own clock.
        let (id, token) = (Uuid::now_v7(), RefreshToken::new(Uuid::new_v4(), [1; 32]));
        let (user, address, expires_ms) = ("bob".to_owned(), None, NOW + 500);
        let login = NewLogin { id, user, address, expires_ms, token, password_hash: None };
        ground.sessions.begin_login(&login, NOW).await.unwrap();
        assert!(is_good(&ground, id, NOW).await && !is_good(&ground, id, NOW + 500).await);
        assert_eq!(ground.sessions.logins_of("bob", NOW + 500).await.unwrap(), []);
        let forgotten = async {
            while is_good(&ground, id, NOW).await {
                ground.sessions.forget_logins(NOW + 500).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), forgotten).await.expect("it is still there");
    })
    .await;
}

#[tokio::test]
async fn where_somebody_is_signed_in_is_known() {
    on_all(|ground| async move {
        let (login, ..) = begin(&ground, "alice", NOW).await;
        let knows = async |user: &str, address: [u8; 4], at_ms| {
            ground.sessions.knows(user, address.into(), at_ms).await.unwrap()
        };
        assert!(knows("alice", [192, 0, 2, 7], NOW).await);
        assert!(!knows("alice", [192, 0, 2, 8], NOW).await && !knows("bob", [192, 0, 2, 7], NOW).await);
        assert!(!knows("alice", [192, 0, 2, 7], NOW + RULES.life_ms).await, "she was");
        ground.sessions.end_logins("alice", Some(login)).await.unwrap();
        assert!(!knows("alice", [192, 0, 2, 7], NOW).await);
    })
    .await;
}

#[tokio::test]
async fn when_somebody_was_last_seen_only_grows() {
    on_all(|ground| async move {
        let names = ["alice", "bob"].map(str::to_owned);
        ground.store.create_account("alice", "hash", NOW).await.unwrap();
        assert_eq!(ground.sessions.last_seen(&names).await.unwrap(), []);
        for ms in [NOW, NOW - 5] {
            ground.sessions.note_seen(&[("alice".into(), ms)]).await.unwrap();
        }
        assert_eq!(ground.sessions.last_seen(&names).await.unwrap(), [("alice".to_owned(), NOW)]);
    })
    .await;
}

#[tokio::test]
async fn a_sign_in_too_many_ends_the_session_that_was_seen_the_longest_time_ago() {
    on_all(|ground| async move {
        let mut logins = Vec::new();
        for number in 0..LOGINS_PER_USER_MAX {
            let (login, _, displaced) = begin(&ground, "alice", NOW + number).await;
            assert_eq!(displaced, NONE);
            logins.push(login);
        }
        ground.sessions.note_logins(&[(logins[0], Seen { ms: NOW + 500, client: None, address: None })]).await.unwrap();
        let (_, _, displaced) = begin(&ground, "alice", NOW + 501).await;
        assert_eq!(displaced, [logins[1]]);
    })
    .await;
}

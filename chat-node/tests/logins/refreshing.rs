//! A refresh token is used once, on either store, however often and from however many places it comes.

use std::collections::BTreeSet;

use chat_node::{
    auth::{RefreshRules, RefreshToken},
    store::{LOGINS_PER_USER_MAX, NewLogin, Refreshed, Seen, SharedStore},
};
use uuid::Uuid;

use crate::ground::on_both;

const NONE: [Uuid; 0] = [];

const NOW: i64 = 1_767_225_600_000;
const RULES: RefreshRules = RefreshRules { life_ms: 10_000, grace_ms: 1_000 };

async fn begin(store: &SharedStore, user: &str, now_ms: i64) -> (Uuid, RefreshToken, Vec<Uuid>) {
    let (id, token) = (Uuid::now_v7(), RefreshToken::new(Uuid::new_v4(), [1; 32]));
    let login = NewLogin {
        id,
        user: user.into(),
        address: Some("192.0.2.7".into()),
        expires_ms: now_ms + RULES.life_ms,
        token: token.clone(),
        password_hash: None,
    };
    let displaced = store.begin_login(&login, now_ms).await.unwrap().unwrap();
    (id, token, displaced)
}

async fn refresh(store: &SharedStore, token: &RefreshToken, salt: u8, now_ms: i64) -> Refreshed {
    store.refresh(token, [salt; 32], now_ms, RULES).await.unwrap()
}

async fn is_good(store: &SharedStore, login: Uuid, now_ms: i64) -> bool {
    !store.good_logins(&[login, Uuid::from_u128(404)], now_ms).await.unwrap().is_empty()
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
    on_both(|store| async move {
        let (login, first, _) = begin(&store, "alice", NOW).await;
        let (other, ..) = begin(&store, "alice", NOW).await;
        let second = renewed(refresh(&store, &first, 2, NOW + 5_000).await, false);
        assert_eq!(renewed(refresh(&store, &first, 3, NOW + 5_999).await, true), second, "the answer was lost");
        let third = renewed(refresh(&store, &second, 4, NOW + 14_000).await, false);
        assert!(is_good(&store, login, NOW + 23_999).await, "each refresh begins its life anew");
        assert_eq!(refresh(&store, &first, 5, NOW + 14_001).await, Refreshed::Reused { login });
        assert!(!is_good(&store, login, NOW).await && is_good(&store, other, NOW).await);
        assert_eq!(refresh(&store, &third, 6, NOW + 14_002).await, Refreshed::Unknown, "for the thief too");
        let (_, late, _) = begin(&store, "alice", NOW).await;
        assert_eq!(refresh(&store, &late, 7, NOW + RULES.life_ms).await, Refreshed::Unknown, "too old");
    })
    .await;
}

#[tokio::test]
async fn refreshes_at_the_same_time_are_given_the_same_successor() {
    on_both(|store| async move {
        let (_, first, _) = begin(&store, "alice", NOW).await;
        let all = (0..8).map(|salt| refresh(&store, &first, salt, NOW));
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
    on_both(|store| async move {
        let (phone, ..) = begin(&store, "alice", NOW).await;
        let (laptop, ..) = begin(&store, "alice", NOW + 1).await;
        let (bobs, ..) = begin(&store, "bob", NOW).await;
        let seen = Seen { ms: NOW + 9, client: Some("mobile"), address: None };
        store
            .note_logins(&[(phone, seen), (Uuid::from_u128(404), Seen { ms: 1, client: None, address: None })])
            .await
            .unwrap();
        let listed = store.logins_of("alice", NOW + 9).await.unwrap();
        let ids: Vec<Uuid> = listed.iter().map(|login| login.id).collect();
        assert_eq!(ids, [phone, laptop], "whoever was seen last comes first");
        assert_eq!((listed[0].seen_ms, listed[0].created_ms), (NOW + 9, NOW));
        assert_eq!((listed[0].client.as_deref(), listed[0].address.as_deref()), (Some("mobile"), Some("192.0.2.7")));
        assert_eq!(store.end_logins("alice", Some(bobs)).await.unwrap(), NONE, "another's is not hers to end");
        assert_eq!(store.end_logins("alice", Some(phone)).await.unwrap(), [phone]);
        assert_eq!(store.end_logins("alice", Some(phone)).await.unwrap(), NONE);
        let (tablet, ..) = begin(&store, "alice", NOW).await;
        let all: BTreeSet<Uuid> = store.end_logins("alice", None).await.unwrap().into_iter().collect();
        assert_eq!(all, BTreeSet::from([laptop, tablet]));
        assert!(is_good(&store, bobs, NOW).await);
        store.forget_logins(NOW + RULES.life_ms).await.unwrap();
        assert!(!is_good(&store, bobs, NOW).await, "what has expired is forgotten");
    })
    .await;
}

#[tokio::test]
async fn a_sign_in_too_many_ends_the_session_that_was_seen_the_longest_time_ago() {
    on_both(|store| async move {
        let mut logins = Vec::new();
        for number in 0..LOGINS_PER_USER_MAX {
            let (login, _, displaced) = begin(&store, "alice", NOW + number).await;
            assert_eq!(displaced, NONE);
            logins.push(login);
        }
        store.note_logins(&[(logins[0], Seen { ms: NOW + 500, client: None, address: None })]).await.unwrap();
        let (_, _, displaced) = begin(&store, "alice", NOW + 501).await;
        assert_eq!(displaced, [logins[1]]);
    })
    .await;
}

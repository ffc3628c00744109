//! Bots and their tokens, on either store.

use chat_node::store::{Given, NewBotToken, TOKENS_PER_BOT_MAX};
use uuid::Uuid;

use crate::ground::{Ground, on_all};

const NOW: i64 = 1_767_225_600_000;
const NONE: [Uuid; 0] = [];

async fn give(ground: &Ground, bot: &str, expires_ms: i64) -> (Uuid, Given) {
    let id = Uuid::now_v7();
    let (label, scopes) = ("CI".into(), "chat:send".into());
    let token = NewBotToken { id, bot: bot.into(), label, scopes, expires_ms };
    (id, ground.store.give_token(&token, NOW).await.unwrap())
}

#[tokio::test]
async fn tokens_are_given_to_bots_alone_listed_and_ended() {
    on_all(|ground| async move {
        assert!(
            ground.store.create_bot("deploy", NOW).await.unwrap()
                && ground.store.create_bot("news", NOW + 1).await.unwrap()
        );
        assert!(!ground.store.create_bot("deploy", NOW).await.unwrap(), "the name is taken");
        assert!(!ground.store.create_account("deploy", "hash", NOW).await.unwrap(), "for people too");
        assert!(ground.store.create_account("alice", "hash", NOW).await.unwrap());
        assert!(!ground.store.create_bot("alice", NOW).await.unwrap());
        assert_eq!(ground.store.bots("", 9).await.unwrap(), [("deploy".into(), NOW), ("news".into(), NOW + 1)]);
        assert_eq!(ground.store.bots("deploy", 9).await.unwrap().len(), 1);

        for nobody in ["alice", "nobody"] {
            assert_eq!(give(&ground, nobody, NOW + 9).await.1, Given::NoBot);
        }
        let (short, long) = (give(&ground, "deploy", NOW + 9).await, give(&ground, "deploy", NOW + 99).await);
        assert_eq!((short.1, long.1), (Given::Token, Given::Token));
        let listed = ground.store.bot_tokens("deploy", NOW).await.unwrap();
        assert_eq!(listed.iter().map(|token| token.id).collect::<Vec<_>>(), [long.0, short.0]);
        assert_eq!((&*listed[0].label, &*listed[0].scopes, listed[0].expires_ms), ("CI", "chat:send", NOW + 99));
        assert_eq!(ground.store.bot_tokens("deploy", NOW + 9).await.unwrap().len(), 1, "the other has expired");
        assert_eq!(ground.sessions.logins_of("deploy", NOW).await.unwrap(), [], "they are no sessions");
        assert_eq!(ground.sessions.end_logins("deploy", None).await.unwrap(), NONE);

        assert!(!ground.store.end_bot_token("news", long.0).await.unwrap(), "it is another bot's");
        assert_eq!(ground.sessions.good_logins(&[long.0], NOW).await.unwrap(), [long.0]);
        assert!(ground.store.end_bot_token("deploy", long.0).await.unwrap());
        assert!(!ground.store.end_bot_token("deploy", long.0).await.unwrap());
        assert_eq!(ground.sessions.good_logins(&[long.0], NOW).await.unwrap(), NONE);
    })
    .await;
}

#[tokio::test]
async fn a_bot_has_so_many_tokens_and_no_more() {
    on_all(|ground| async move {
        ground.store.create_bot("deploy", NOW).await.unwrap();
        for _ in 0..TOKENS_PER_BOT_MAX {
            assert_eq!(give(&ground, "deploy", NOW + 9).await.1, Given::Token);
        }
        assert_eq!(give(&ground, "deploy", NOW + 9).await.1, Given::TooMany);
        assert_eq!(ground.store.bot_tokens("deploy", NOW).await.unwrap().len(), TOKENS_PER_BOT_MAX as usize);
    })
    .await;
}

#[tokio::test]
async fn a_bot_that_is_deleted_has_no_tokens_gets_none_and_keeps_its_name() {
    on_all(|ground| async move {
        ground.store.create_bot("deploy", NOW).await.unwrap();
        ground.store.create_bot("news", NOW).await.unwrap();
        ground.store.create_account("alice", "hash", NOW).await.unwrap();
        let (first, second) = (give(&ground, "deploy", NOW + 9).await.0, give(&ground, "deploy", NOW + 9).await.0);
        let other = give(&ground, "news", NOW + 9).await.0;
        let mut ended = ground.store.delete_bot("deploy").await.unwrap().unwrap();
        ended.sort_unstable();
        assert_eq!(ended, [first, second]);
        assert_eq!(ground.sessions.good_logins(&[first, second, other], NOW).await.unwrap(), [other]);
        for nobody in ["deploy", "alice", "nobody"] {
            assert_eq!(ground.store.delete_bot(nobody).await.unwrap(), None, "{nobody}");
        }
        assert_eq!(ground.store.bots("", 9).await.unwrap(), [("news".into(), NOW)]);
        assert_eq!(give(&ground, "deploy", NOW + 9).await.1, Given::NoBot);
        assert!(!ground.store.create_bot("deploy", NOW).await.unwrap(), "the name stays taken");
        assert!(!ground.store.create_account("deploy", "hash", NOW).await.unwrap(), "for people too");
        assert_eq!(ground.store.password_hash("deploy").await.unwrap(), None, "and nobody can log in by it");
    })
    .await;
}

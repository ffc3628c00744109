//! How far people have read, and what is left.

use chat_node::{protocol::Code, store::Message};

use crate::ground::{NOW, on_both, refused, user};

#[tokio::test]
async fn a_cursor_moves_on_and_never_back_nor_beyond() {
    on_both(|ground| async move {
        let (store, room) = (&ground.store, ground.room);
        let last = ground.say("alice", "hello").await.seq;
        for (seq, expected) in [(1, (1, true)), (last, (last, true)), (1, (last, false)), (last + 1, (last, false))] {
            assert_eq!(store.read("alice", room, seq).await.unwrap(), expected, "{seq}");
        }
        assert_eq!(refused(store.read("bob", room, 1).await), Code::NotAMember);
        assert_eq!(store.arrive("alice", None, &[], NOW).await.unwrap().rooms[0].read, last);
    })
    .await;
}

#[tokio::test]
async fn what_is_unread_is_counted_up_to_a_bound() {
    on_both(|ground| async move {
        ground.say("alice", "before").await;
        ground.join("bob").await.unwrap();
        assert_eq!(
            counts(&ground, "bob").await,
            [(0, 0)],
            "what was there before counts as read, and the join is no message"
        );
        let first = ground.say("alice", "one").await;
        let mention = Message { text: "two".into(), mentions: vec![user("bob")], reply: None };
        ground.send("alice", mention).await;
        ground.say("bob", "my own").await;
        assert_eq!(counts(&ground, "bob").await, [(2, 1)]);
        ground.store.read("bob", ground.room, first.seq).await.unwrap();
        assert_eq!(counts(&ground, "bob").await, [(1, 1)]);
        ground.ask("alice", serde_json::json!({"type": "delete", "target": first})).await.unwrap();
        for _ in 0..101 {
            ground.say("alice", "more").await;
        }
        assert_eq!(counts(&ground, "bob").await, [(100, 1)]);
        let head = ground.say("alice", "last").await.seq;
        ground.store.read("bob", ground.room, head).await.unwrap();
        assert_eq!(counts(&ground, "bob").await, [], "nothing is left");
    })
    .await;
}

async fn counts(ground: &crate::ground::Ground, name: &str) -> Vec<(i64, i64)> {
    let unread = ground.store.unread(name).await.unwrap();
    unread.iter().map(|unread| (unread.messages, unread.mentions)).collect()
}

#[tokio::test]
async fn when_somebody_was_last_seen_only_grows() {
    on_both(|ground| async move {
        let names = ["alice", "bob"].map(str::to_owned);
        assert_eq!(ground.store.last_seen(&names).await.unwrap(), []);
        for (name, ms) in [("alice", NOW), ("alice", NOW - 5), ("nobody", NOW)] {
            ground.store.note_seen(&[(user(name), ms)]).await.unwrap();
        }
        assert_eq!(ground.store.last_seen(&names).await.unwrap(), [("alice".to_owned(), NOW)]);
    })
    .await;
}

//! Replies, mentions, edits, deletions and reactions.

use chat_node::{
    event::Reference,
    protocol::Code,
    store::{Answer, Message},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ground::{NOW, on_both, refused, told, user};

#[tokio::test]
async fn a_reply_refers_to_a_message_of_the_same_room() {
    on_both(|ground| async move {
        let first = ground.say("alice", "hello").await;
        let reply =
            |reply| Message { text: "hi".into(), reply: Some(reply), mentions: vec![user("alice"), user("zoe")] };
        assert!(matches!(ground.send("alice", reply(first)).await, Answer::Committed { .. }));
        let log = ground.log().await;
        assert_eq!((&log[3]["reply"], &log[3]["mentions"]), (&json!(first), &json!(["alice", "zoe"])));
        let other = Reference { event: Uuid::nil(), ..first };
        assert_eq!(ground.send("alice", reply(other)).await, Answer::Refused(Code::UnknownEvent));
        let joined = Reference { seq: 2, event: serde_json::from_value(log[1]["event"].clone()).unwrap() };
        assert_eq!(ground.send("alice", reply(joined)).await, Answer::Refused(Code::UnknownEvent), "no message");
    })
    .await;
}

#[tokio::test]
async fn an_edit_is_told_and_history_says_what_the_message_says_now() {
    on_both(|ground| async move {
        ground.join("bob").await.unwrap();
        let message = ground.say("alice", "helo").await;
        let edit = |text: &str| json!({"type": "edit", "target": message, "text": text});
        let changed = ground.ask_at("alice", edit("hello"), NOW + 5).await.unwrap();
        assert_eq!((told(&changed), changed.memberships.len()), (vec!["edited alice".to_owned()], 0));
        assert!(changed.events[0].rewrites);
        assert_eq!(ground.ask("alice", edit("hello")).await.unwrap().events.len(), 0, "a repetition");
        ground.ask("alice", edit("hello!")).await.unwrap();
        let log = ground.log().await;
        let seq = usize::try_from(message.seq).unwrap();
        let (original, first, second) = (&log[seq - 1], &log[seq], &log[seq + 1]);
        assert_eq!((&original["text"], &original["kind"]), (&json!("hello!"), &json!("message")));
        assert_eq!(original["edited"], json!({"sender": "alice", "time": NOW, "seq": second["seq"]}));
        assert_eq!((&first["text"], &first["target"]), (&Value::Null, &json!(message)), "what is replaced is gone");
        assert_eq!((&second["text"], &second["time"]), (&json!("hello!"), &json!(NOW)));
        assert_eq!(refused(ground.ask("bob", edit("mine")).await), Code::NotAllowed);
        assert_eq!(refused(ground.ask("carol", edit("mine")).await), Code::NotAMember);
        let nothing = json!({"type": "edit", "target": {"seq": 99, "event": message.event}, "text": "x"});
        assert_eq!(refused(ground.ask("alice", nothing).await), Code::UnknownEvent);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_text_is_nowhere_any_more() {
    on_both(|ground| async move {
        ground.join("bob").await.unwrap();
        let message = Message { text: "secret one".into(), reply: None, mentions: vec![user("alice")] };
        let Answer::Committed { event, .. } = ground.send("bob", message).await else { panic!() };
        let target = event.reference();
        ground.ask("bob", json!({"type": "edit", "target": target, "text": "secret two"})).await.unwrap();
        ground.ask("alice", json!({"type": "react", "target": target, "reaction": "+1"})).await.unwrap();
        let delete = json!({"type": "delete", "target": target});
        let changed = ground.ask("alice", delete.clone()).await.unwrap();
        assert_eq!(told(&changed), ["deleted alice"], "the owner may delete what others say");
        assert_eq!(ground.ask("bob", delete).await.unwrap().events.len(), 0, "a repetition");
        let log = ground.log().await;
        assert!(!json!(log).to_string().contains("secret"), "{log:?}");
        let gone = &log[usize::try_from(target.seq).unwrap() - 1];
        assert_eq!((&gone["deleted"]["sender"], &gone["mentions"]), (&json!("alice"), &Value::Null));
        assert_eq!(ground.store.tallies(ground.room, "bob", 1, 99).await.unwrap(), []);
        for command in ["edit", "react"] {
            let command = json!({"type": command, "target": target, "text": "x", "reaction": "x"});
            assert_eq!(refused(ground.ask("bob", command).await), Code::UnknownEvent);
        }
        let mine = ground.say("alice", "mine").await;
        assert_eq!(refused(ground.ask("bob", json!({"type": "delete", "target": mine})).await), Code::NotAllowed);
    })
    .await;
}

#[tokio::test]
async fn reactions_are_counted_once_a_person() {
    on_both(|ground| async move {
        ground.join("bob").await.unwrap();
        let target = ground.say("alice", "cake").await;
        let react = |reaction: &str| json!({"type": "react", "target": target, "reaction": reaction});
        for (name, reaction, events) in [("alice", "+1", 1), ("bob", "+1", 1), ("bob", "+1", 0), ("bob", "🍰", 1)] {
            assert_eq!(ground.ask(name, react(reaction)).await.unwrap().events.len(), events, "{name} {reaction}");
        }
        let tallies = async |name: &str| {
            let tallies = ground.store.tallies(ground.room, name, target.seq, target.seq).await.unwrap();
            let words = tallies.iter().map(|tally| format!("{} {} {}", tally.reaction, tally.count, tally.mine));
            words.collect::<Vec<_>>()
        };
        assert_eq!(tallies("alice").await, ["+1 2 true", "🍰 1 false"]);
        let unreact = json!({"type": "unreact", "target": target, "reaction": "+1"});
        assert_eq!(told(&ground.ask("alice", unreact.clone()).await.unwrap()), ["unreacted alice"]);
        assert_eq!(ground.ask("alice", unreact).await.unwrap().events.len(), 0);
        assert_eq!(tallies("alice").await, ["+1 1 false", "🍰 1 false"]);
        for number in 0..48 {
            ground.ask("bob", react(&format!("r{number}"))).await.unwrap();
        }
        let events = ground.log().await.len();
        assert_eq!(refused(ground.ask("alice", react("one-too-many")).await), Code::TooManyReactions);
        assert_eq!(ground.log().await.len(), events, "what is refused leaves nothing");
        assert_eq!(ground.ask("alice", react("r7")).await.unwrap().events.len(), 1, "one that is there can be joined");
    })
    .await;
}

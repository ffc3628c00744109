//! Retention: what goes, what stays, and that nodes that drop at the same time drop nothing twice. On SQLite and on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod support;

use chat_node::{
    event::{Reference, RoomKind},
    protocol::{Command, HistoryRange, Position, RoomReference},
    retention,
    store::{Answer, Append, Content, Message, SharedStore, StoreLimits},
};
use uuid::Uuid;

const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 100, members_per_room_max: 10, outbox_results_kept: 50 };

const NOW: i64 = 1_767_225_600_000;
const SECOND: i64 = 1_000;

async fn on_both<F: Future<Output = ()>>(claim: impl Fn(SharedStore) -> F) {
    support::on_both(LIMITS, claim).await;
}

/// Makes a room of alice and bob in which alice said something each second: at 4, 5, 6, ... of the log.
async fn talk(store: &SharedStore, name: &str, messages: i64) -> Uuid {
    let (alice, bob) = ("alice".into(), "bob".into());
    let room = store.create_room(&alice, name, RoomKind::Public, NOW).await.unwrap().room.id;
    store.join(&bob, &RoomReference::Id(room), NOW).await.unwrap();
    let sends: Vec<Append> = (1..=messages).map(|n| send(room, n)).collect();
    store.append(&sends).await.unwrap();
    room
}

fn send(room: Uuid, n: i64) -> Append {
    let message = Message { text: format!("message {n}"), mentions: vec!["bob".into()], ..Message::default() };
    Append {
        sender: "alice".into(),
        outbox: room,
        n,
        room,
        content: Content::Message(message),
        event: Uuid::now_v7(),
        time: NOW + n * SECOND,
    }
}

async fn positions(store: &SharedStore, room: Uuid) -> Vec<i64> {
    let page = store.page(room, HistoryRange { before: None, after: Some(0) }, 100).await.unwrap();
    page.events.iter().map(|event| event.seq).collect()
}

#[tokio::test]
async fn the_beginning_of_a_log_goes_with_all_that_hangs_on_it() {
    on_both(|store| async move {
        let room = talk(&store, "lobby", 6).await;
        let first = store.page(room, HistoryRange { before: None, after: Some(3) }, 1).await.unwrap().events.remove(0);
        let target = Reference { seq: first.seq, event: first.id };
        let react = Command::React { room, target, reaction: "+1".into() };
        store.carry_out(&"bob".into(), &react, NOW + 7 * SECOND).await.unwrap();
        assert_eq!(store.unread("bob").await.unwrap()[0].mentions, 6);
        // The messages of the first three seconds are at 4, 5 and 6.
        let before = NOW + 3 * SECOND + 1;
        let mut dropped = Vec::new();
        loop {
            let expired = store.expire(before, NOW + 8 * SECOND, 4).await.unwrap();
            dropped.push(expired.events);
            if !expired.more {
                break;
            }
        }
        assert_eq!(dropped, [4, 2, 0]);
        assert_eq!(positions(&store, room).await, [7, 8, 9, 10]);
        assert_eq!(store.room_of("bob", room).await.unwrap().unwrap().first, 7);
        assert_eq!(store.tallies(room, "bob", 1, 100).await.unwrap(), []);
        let unread = store.unread("bob").await.unwrap();
        assert_eq!((unread[0].messages, unread[0].mentions), (3, 3));
        // What was committed is known for longer than it is kept.
        let again = store.append(&[send(room, 1)]).await.unwrap();
        assert!(matches!(&again[0], Answer::Committed { event, new: false } if event.seq == 4), "{again:?}");
        // A position whose event is gone contradicts nothing.
        let position = Position { room, epoch: 1, seq: 4, event: Some(target.event) };
        assert!(store.arrive("bob", None, &[position], NOW).await.unwrap().contradicted.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_is_left_counts_as_unread_however_much_has_gone_before_it() {
    on_both(|store| async move {
        let room = talk(&store, "lobby", 1_100).await;
        let before = NOW + 1_070 * SECOND + 1;
        while store.expire(before, before, 500).await.unwrap().more {}
        assert_eq!(positions(&store, room).await.len(), 30);
        let unread = store.unread("bob").await.unwrap();
        assert_eq!((unread[0].messages, unread[0].mentions), (30, 30));
    })
    .await;
}

#[tokio::test]
async fn the_latest_event_stays_and_a_room_at_rest_is_not_looked_at_again() {
    on_both(|store| async move {
        let room = talk(&store, "lobby", 3).await;
        let later = NOW + 1_000 * SECOND;
        let expired = store.expire(later, later, 100).await.unwrap();
        assert_eq!((expired.events, expired.more), (5, true));
        assert_eq!(positions(&store, room).await, [6]);
        assert!(!store.expire(later, later, 100).await.unwrap().more);
        // What follows has the next position, and goes in its turn.
        let next = store.append(&[Append { time: later + SECOND, ..send(room, 4) }]).await.unwrap();
        assert!(matches!(&next[0], Answer::Committed { event, .. } if event.seq == 7), "{next:?}");
        assert!(!store.expire(later, later, 100).await.unwrap().more);
        let latest = later + 1_000 * SECOND;
        assert_eq!(store.expire(latest, latest, 100).await.unwrap().events, 1);
        assert_eq!(positions(&store, room).await, [7]);
    })
    .await;
}

#[tokio::test]
async fn nodes_that_drop_at_the_same_time_drop_nothing_twice() {
    on_both(|store| async move {
        let rooms = 6;
        for number in 0..rooms {
            talk(&store, &format!("room {number}"), 9).await;
        }
        let (before, later) = (NOW + 5 * SECOND, NOW + 100 * SECOND);
        let sweep = || async {
            let mut dropped = 0;
            loop {
                let expired = store.expire(before, later, 2).await.unwrap();
                dropped += expired.events;
                if !expired.more {
                    return dropped;
                }
            }
        };
        // Each room has created, joined, joined and the messages of four seconds before that time.
        let (first, second, third) = tokio::join!(sweep(), sweep(), sweep());
        let rest = sweep().await;
        assert_eq!(first + second + third + rest, rooms * 7);
    })
    .await;
}

#[tokio::test]
async fn a_sweep_drops_what_is_older_than_it_is_told() {
    on_both(|store| async move {
        let room = talk(&store, "lobby", 6).await;
        // All of it is long ago.
        retention::sweep(&store, SECOND).await;
        assert_eq!(positions(&store, room).await, [9]);
    })
    .await;
}

const DAY: i64 = 24 * 60 * 60 * SECOND;

/// Alice's next message in the room by an outbox, as the first try of it.
fn message(room: Uuid, outbox: Uuid, n: i64, time: i64) -> Append {
    Append { outbox, time, ..send(room, n) }
}

/// What the room says: the numbers of alice's messages, in order.
async fn said(store: &SharedStore, room: Uuid) -> Vec<String> {
    let page = store.page(room, HistoryRange { before: None, after: Some(0) }, 100).await.unwrap();
    let frames = page.events.iter().map(|event| serde_json::from_str::<serde_json::Value>(&event.frame).unwrap());
    frames.filter_map(|frame| Some(frame["text"].as_str()?.trim_start_matches("message ").to_owned())).collect()
}

/// Drops all outboxes that were last used before that time, in pages of two.
async fn drop_all(store: &SharedStore, before: i64) -> usize {
    let (mut after, mut dropped) = (Some(Uuid::nil()), 0);
    while let Some(key) = after {
        let walked = store.drop_outboxes(key, before, 2).await.unwrap();
        dropped += walked.dropped;
        after = walked.next;
    }
    dropped
}

#[tokio::test]
async fn an_outbox_that_nobody_uses_goes_and_those_in_use_stay() {
    on_both(|store| async move {
        let room = talk(&store, "lobby", 1).await;
        let (unused, hello, sent, open) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        for outbox in [unused, hello, sent, open] {
            store.append(&[message(room, outbox, 1, NOW)]).await.unwrap();
        }
        let later = NOW + 80 * DAY;
        store.arrive("alice", Some(hello), &[], later).await.unwrap();
        store.append(&[message(room, sent, 2, later)]).await.unwrap();
        let open_key = Uuid::new_v5(&open, b"alice");
        retention::note_open(&store, &[open_key, Uuid::new_v4()], later).await.unwrap();
        // Also goes: the outbox of the room's first message.
        assert_eq!(drop_all(&store, NOW + 79 * DAY).await, 2);
        assert_eq!(drop_all(&store, NOW + 79 * DAY).await, 0);
        for (outbox, last) in [(unused, 0), (hello, 1), (sent, 2), (open, 1)] {
            assert_eq!(store.arrive("alice", Some(outbox), &[], later).await.unwrap().outbox_last, last);
        }
        for outbox in [hello, sent, open] {
            let again = store.append(&[message(room, outbox, 1, later)]).await.unwrap();
            assert!(matches!(&again[0], Answer::Committed { new: false, .. }), "{again:?}");
        }
    })
    .await;
}

/// A client whose last send was committed and never answered comes back: in time, and too late.
#[tokio::test]
async fn whoever_comes_back_after_an_outbox_is_gone_doubles_nothing_and_loses_nothing() {
    on_both(|store| async move {
        for (kept, days) in [(true, 89), (false, 91)] {
            let room = talk(&store, &format!("after {days} days"), 0).await;
            let outbox = Uuid::new_v4();
            for n in 1..=4 {
                store.append(&[message(room, outbox, n, NOW)]).await.unwrap();
            }
            // It heard of three, and has a fifth that it never tried.
            let back = NOW + days * DAY;
            drop_all(&store, back - 90 * DAY).await;
            let arrival = store.arrive("alice", Some(outbox), &[], back).await.unwrap();
            assert_eq!(arrival.outbox_last, if kept { 4 } else { 0 });
            let fourth = store.append(&[message(room, outbox, 4, back)]).await.unwrap().remove(0);
            if kept {
                assert!(matches!(fourth, Answer::Committed { new: false, .. }), "{fourth:?}");
                store.append(&[message(room, outbox, 5, back)]).await.unwrap();
            } else {
                // Whoever repeats all the same is refused, and told that the outbox is as if it had never been.
                assert_eq!(fourth, Answer::Gap { expected: 1 });
                let new = Append { n: 1, ..message(room, Uuid::new_v4(), 5, back) };
                store.append(&[new]).await.unwrap();
            }
            assert_eq!(said(&store, room).await, ["1", "2", "3", "4", "5"], "after {days} days");
        }
    })
    .await;
}

#[tokio::test]
async fn an_outbox_that_is_dropped_while_it_is_sent_by_is_whole_or_gone() {
    on_both(|store| async move {
        let room = talk(&store, "lobby", 0).await;
        let later = NOW + 100 * DAY;
        let mut seen = [0; 2];
        for _ in 0..20 {
            let outbox = Uuid::new_v4();
            store.append(&[message(room, outbox, 1, NOW)]).await.unwrap();
            let batch = [message(room, outbox, 2, later)];
            let (sent, _) = tokio::join!(store.append(&batch), drop_all(&store, later - DAY));
            let last = store.arrive("alice", Some(outbox), &[], later).await.unwrap().outbox_last;
            match sent.unwrap().remove(0) {
                Answer::Committed { new: true, .. } => assert_eq!(last, 2),
                Answer::Gap { expected: 1 } => assert_eq!(last, 0),
                other => panic!("{other:?}"),
            }
            seen[usize::from(last == 0)] += 1;
        }
        assert_eq!(seen.iter().sum::<i32>(), 20, "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn walks_at_the_same_time_drop_nothing_twice_and_go_through_all() {
    on_both(|store| async move {
        let room = talk(&store, "lobby", 0).await;
        let number = 500;
        for _ in 0..number {
            store.append(&[message(room, Uuid::new_v4(), 1, NOW)]).await.unwrap();
        }
        let before = NOW + DAY;
        let (first, second, third) =
            tokio::join!(drop_all(&store, before), drop_all(&store, before), drop_all(&store, before));
        assert_eq!(first + second + third + drop_all(&store, before).await, number);
        store.append(&[message(room, Uuid::new_v4(), 1, NOW), message(room, Uuid::new_v4(), 1, NOW)]).await.unwrap();
        // All of it is long ago.
        retention::walk(&store, DAY).await;
        assert_eq!(drop_all(&store, i64::MAX).await, 0);
    })
    .await;
}

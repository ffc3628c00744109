//! A good record is found good, and each way to break the promise is found in a record that is broken so and not otherwise.

use super::*;
use crate::{
    client::{End, Observation},
    frame::{Committed, Limits, Position, Refusal, Resume, Room, RoomKind, Welcome},
};

const LOBBY: Uuid = Uuid::from_u128(1);

/// Two people in one room, who were there from its creation on, talked, and each changed their connection once.
struct Scene {
    records: Vec<Record>,
    histories: Histories,
}

/// The log is: 1 created, 2 joined, then four messages of alice and bob in turn.
fn log() -> Vec<Event> {
    let event = |seq: u64, kind: &str, sender: &str, text: Option<&str>| Event {
        room: LOBBY,
        epoch: 1,
        seq,
        event: Uuid::from_u128(100 + u128::from(seq)),
        kind: kind.into(),
        sender: sender.into(),
        time: 1_000 + seq,
        text: text.map(str::to_owned),
    };
    let message = |seq, sender, text| event(seq, "message", sender, Some(text));
    vec![
        event(1, "created", "alice", None),
        event(2, "joined", "bob", None),
        message(3, "alice", "a1"),
        message(4, "bob", "b1"),
        message(5, "alice", "a2"),
        message(6, "bob", "b2"),
    ]
}

fn room(head: u64, resume: Option<Resume>) -> Room {
    Room { id: LOBBY, name: Some("lobby".into()), with: None, kind: RoomKind::Public, epoch: 1, head, resume }
}

fn connected(user: &str, rooms: Vec<Room>, seq: Option<u64>) -> Observation {
    let limits = Limits { text_bytes: 100, outstanding: 8, history_events: 100, outbox_days: 90 };
    let welcome = Welcome { user: user.into(), node: "demo-0".into(), outbox_last: Some(0), limits, rooms };
    let resumed = seq.map(|seq| Position { room: LOBBY, epoch: 1, seq, event: None }).into_iter().collect();
    Observation::Connected { welcome, resumed }
}

fn committed(n: u64, seq: u64) -> Observation {
    let event = Uuid::from_u128(100 + u128::from(seq));
    Observation::Committed(Committed { n, room: LOBBY, epoch: 1, seq, event })
}

fn person(user: &str, head_at_join: u64, places: [u64; 2]) -> Record {
    let mut record = Record::default();
    let mut now = |connection, what| record.write(0, connection, &what);
    let events = |from: u64, to: u64| {
        log().into_iter().filter(move |event| (from..=to).contains(&event.seq)).map(Observation::Event)
    };
    now(1, connected(user, Vec::new(), None));
    now(1, Observation::Joined(room(head_at_join, None)));
    for (n, place) in (1..).zip(places) {
        let text = log().into_iter().find(|event| event.seq == place).and_then(|event| event.text).unwrap();
        now(1, Observation::Queued { n, room: LOBBY, text });
    }
    events(head_at_join + 1, 4).for_each(|event| now(1, event));
    now(1, committed(1, places[0]));
    now(1, Observation::Ended(End::Silent));
    now(2, connected(user, vec![room(5, Some(Resume::Replayed))], Some(4)));
    events(5, 6).for_each(|event| now(2, event));
    now(2, committed(2, places[1]));
    record
}

fn good() -> Scene {
    let records = vec![person("alice", 1, [3, 5]), person("bob", 2, [4, 6])];
    Scene { records, histories: BTreeMap::from([(LOBBY, log())]) }
}

/// Breaks the good scene and expects exactly these violations.
#[track_caller]
fn broken(mutate: impl FnOnce(&mut Scene), expected: &[What]) {
    let mut scene = good();
    mutate(&mut scene);
    let found: Vec<What> =
        check(&scene.records, &scene.histories).violations.into_iter().map(|violation| violation.what).collect();
    assert_eq!(found, expected);
}

fn id(seq: u64) -> Uuid {
    Uuid::from_u128(100 + u128::from(seq))
}

#[test]
fn a_kept_promise_is_said_in_one_line() {
    let Scene { records, histories } = good();
    let report = check(&records, &histories);
    let line = "checked 4 committed messages, 9 deliveries to 2 clients: nothing lost, nothing twice, one order in 1 rooms; \
                moves per client min/max 1/1";
    assert_eq!(report.to_string(), line);
    assert!(report.is_clean());
}

#[test]
fn a_committed_message_that_is_gone_is_lost() {
    broken(
        |scene| {
            scene.histories.get_mut(&LOBBY).unwrap().pop();
        },
        &[What::Vanished { seq: 6 }, What::Lost { n: 2, seq: 6 }, What::Vanished { seq: 6 }],
    );
}

#[test]
fn an_accepted_message_that_is_gone_is_lost_even_when_its_sender_is_gone_too() {
    let part = |scene: &mut Scene| {
        let bob = &mut scene.records[1];
        bob.write(0, 2, &Observation::Queued { n: 3, room: LOBBY, text: "b3".into() });
        bob.write(0, 2, &Observation::Accepted { n: 3 });
        bob.parted = true;
    };
    broken(part, &[What::AcceptedAndLost { n: 3 }]);
    let arrive = |scene: &mut Scene| {
        part(scene);
        let mut event = log().pop().unwrap();
        (event.seq, event.event, event.text) = (7, id(7), Some("b3".into()));
        scene.records[0].write(0, 2, &Observation::Event(event.clone()));
        scene.histories.get_mut(&LOBBY).unwrap().push(event);
    };
    broken(arrive, &[]);
}

#[test]
fn a_hole_in_the_history_is_found() {
    broken(
        |scene| {
            scene.histories.get_mut(&LOBBY).unwrap().remove(1);
            scene.records[0].events.remove(0);
        },
        &[What::HistoryHole { expected: 2, found: 3 }, What::Hole { connection: 1, after: 1, seq: 3 }],
    );
}

#[test]
fn a_history_that_nobody_read_proves_nothing() {
    let no_history = [What::NoHistory, What::NoHistory, What::NoHistory];
    broken(|scene| scene.histories.clear(), &[no_history.clone(), no_history].concat());
}

#[test]
fn an_event_that_a_member_did_not_see_is_missed() {
    broken(
        |scene| {
            scene.records[0].events.pop();
        },
        &[What::Missed { seq: 6 }],
    );
    broken(
        |scene| {
            scene.records[1].events.remove(0);
        },
        &[What::Hole { connection: 1, after: 2, seq: 4 }, What::Missed { seq: 3 }],
    );
}

#[test]
fn an_event_left_out_by_a_resume_is_a_hole() {
    broken(
        |scene| {
            scene.records[1].events.retain(|seen| seen.event.seq != 5);
        },
        &[What::Hole { connection: 2, after: 4, seq: 6 }, What::Missed { seq: 5 }],
    );
}

#[test]
fn what_was_too_much_to_replay_is_not_missed() {
    broken(
        |scene| {
            scene.records[1].connections[1].rooms[0].resume = Some(Resume::TooFar);
            scene.records[1].events.retain(|seen| seen.event.seq != 5);
        },
        &[],
    );
}

#[test]
fn an_event_that_comes_twice_on_a_connection_is_found() {
    broken(
        |scene| {
            let twice = scene.records[0].events[1].clone();
            scene.records[0].events.insert(2, twice);
        },
        &[What::Again { connection: 1, after: 3, seq: 3 }],
    );
}

#[test]
fn an_event_that_comes_again_after_a_resume_from_it_is_found() {
    broken(
        |scene| {
            let mut again = scene.records[0].events[2].clone();
            again.connection = 2;
            scene.records[0].events.insert(3, again);
        },
        &[What::Again { connection: 2, after: 4, seq: 4 }],
    );
}

#[test]
fn events_in_another_order_are_found() {
    broken(
        |scene| scene.records[0].events.swap(0, 1),
        &[What::Hole { connection: 1, after: 1, seq: 3 }, What::Again { connection: 1, after: 3, seq: 2 }],
    );
}

#[test]
fn two_who_see_different_events_in_one_place_are_found() {
    let differs = What::Differs { seq: 4, here: id(40), elsewhere: id(4) };
    broken(|scene| scene.records[0].events[2].event.event = id(40), &[differs]);
    let differs = What::Differs { seq: 4, here: id(4), elsewhere: id(4) };
    broken(|scene| scene.records[0].events[2].event.text = Some("forged".into()), &[differs]);
}

#[test]
fn two_who_disagree_beyond_the_history_are_found() {
    let seq = 7;
    let see = |scene: &mut Scene, who: usize, event: Uuid| {
        let mut seen = scene.records[who].events.last().unwrap().clone();
        (seen.event.seq, seen.event.event) = (seq, event);
        scene.records[who].events.push(seen);
    };
    broken(
        |scene| {
            see(scene, 0, id(7));
            see(scene, 1, id(70));
        },
        &[What::Vanished { seq }, What::Differs { seq, here: id(70), elsewhere: id(7) }, What::Vanished { seq }],
    );
}

#[test]
fn an_acknowledgement_of_something_else_is_found() {
    let elsewhere = id(5);
    broken(
        |scene| scene.records[0].acks[1].committed.event = id(50),
        &[What::Differs { seq: 5, here: id(50), elsewhere }],
    );
    broken(
        |scene| scene.records[0].sends[1].text = "a3".into(),
        &[What::WrongMessage { n: 2, seq: 5 }, What::Doubled { text: "a2".into(), sent: 0, found: 1 }],
    );
}

#[test]
fn a_send_with_two_places_is_found() {
    broken(
        |scene| {
            let mut again = scene.records[0].acks[1];
            (again.committed.seq, again.committed.event) = (7, id(7));
            scene.records[0].acks.push(again);
        },
        &[What::TwoPlaces { n: 2, first: 5, second: 7 }],
    );
}

#[test]
fn a_server_that_knew_less_of_an_outbox_than_it_had_settled_is_found() {
    let (settled, known) = (2, 1);
    let set_back = |scene: &mut Scene| scene.records[0].write(0, 2, &Observation::SetBack { settled, known });
    broken(set_back, &[What::SetBack { settled, known }]);
}

#[test]
fn the_same_acknowledgement_may_come_again() {
    broken(
        |scene| {
            let again = scene.records[0].acks[1];
            scene.records[0].acks.push(again);
        },
        &[],
    );
}

#[test]
fn a_message_that_is_there_twice_is_found_even_without_an_acknowledgement() {
    broken(
        |scene| {
            let mut double = log().remove(5);
            (double.seq, double.event) = (7, id(7));
            for record in &mut scene.records {
                let mut seen = record.events.last().unwrap().clone();
                seen.event = double.clone();
                record.events.push(seen);
            }
            scene.histories.get_mut(&LOBBY).unwrap().push(double);
        },
        &[What::Doubled { text: "b2".into(), sent: 1, found: 2 }],
    );
}

#[test]
fn a_refused_message_that_is_there_is_found() {
    let refusal = Refusal {
        id: Some(1),
        n: Some(2),
        code: "not_a_member".into(),
        message: String::new(),
        retryable: false,
        expected: None,
        retry_after_ms: None,
    };
    broken(
        |scene| scene.records[0].write(0, 2, &Observation::Refused { n: 2, refusal }),
        &[What::RefusedAndCommitted { n: 2 }, What::Doubled { text: "a2".into(), sent: 0, found: 1 }],
    );
}

#[test]
fn a_sender_whose_messages_change_places_is_found() {
    broken(
        |scene| {
            let record = &mut scene.records[0];
            let (first, second) = (record.acks[0].committed, record.acks[1].committed);
            record.acks[0].committed = Committed { n: 1, ..second };
            record.acks[1].committed = Committed { n: 2, ..first };
            let text = record.sends[0].text.clone();
            record.sends[0].text = std::mem::replace(&mut record.sends[1].text, text);
        },
        &[What::Reordered { n: 2, seq: 3, before: 5 }],
    );
}

#[test]
fn answers_in_another_order_than_the_outbox_are_found() {
    broken(
        |scene| {
            let record = &mut scene.records[0];
            record.acks[0].connection = 2;
            record.acks.swap(0, 1);
        },
        &[What::AnswersReordered { connection: 2, first: 2, second: 1 }],
    );
}

#[test]
fn a_send_that_was_refused_as_retryable_is_answered_when_it_comes_again() {
    broken(
        |scene| {
            let record = &mut scene.records[0];
            record.acks[0].connection = 2;
            record.acks.swap(0, 1);
            let refusal = Refusal {
                id: None,
                n: Some(1),
                code: "unavailable".into(),
                message: String::new(),
                retryable: true,
                expected: None,
                retry_after_ms: None,
            };
            record.write(0, 2, &Observation::Deferred(refusal));
        },
        &[],
    );
}

#[test]
fn a_send_that_came_again_is_answered_again() {
    broken(
        |scene| {
            let acks = &mut scene.records[0].acks;
            acks.iter_mut().for_each(|ack| ack.connection = 2);
            acks.extend_from_within(..);
        },
        &[],
    );
}

#[test]
fn a_message_of_unknown_fate_is_told_of() {
    let mut scene = good();
    scene.records[0].write(0, 2, &Observation::Queued { n: 3, room: LOBBY, text: "a3".into() });
    let report = check(&scene.records, &scene.histories);
    assert!(report.violations.is_empty() && !report.is_clean());
    assert!(report.to_string().ends_with("; the fate of 1 messages is not known"), "{report}");
}

#[test]
fn moves_are_counted_from_the_client_that_moved_least_to_the_one_that_moved_most() {
    let mut scene = good();
    scene.records[1].write(0, 2, &Observation::Ended(End::Silent));
    scene.records[1].write(0, 3, &connected("bob", vec![room(6, Some(Resume::Replayed))], Some(6)));
    let report = check(&scene.records, &scene.histories);
    assert_eq!(report.moves, (1, 2));
    let words = moves_in_words(&scene.records[1]);
    assert_eq!(words.matches(" -> ").count(), 2, "{words}");
}

#[test]
fn many_violations_are_counted_and_the_first_are_shown() {
    let mut scene = good();
    let again = scene.records[0].events[4].clone();
    scene.records[0].events.extend(std::iter::repeat_n(again, 12));
    let shown = check(&scene.records, &scene.histories).to_string();
    assert!(shown.contains("12 violations") && shown.ends_with("and 2 more"), "{shown}");
    assert_eq!(shown.lines().count(), 1 + SHOWN_MAX + 1);
}

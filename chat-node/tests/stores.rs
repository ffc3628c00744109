//! What every store promises, claimed of SQLite and of a real PostgreSQL alike.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod support;

use std::{sync::Arc, time::Duration};

use chat_node::{
    event::{RoomKind, User},
    health::Health,
    intake::{First, Intake, IntakeLimits, Parts, Taken},
    protocol::{Code, HistoryRange, Position, RoomReference},
    store::{Answer, Append, Content, Hint, PostgresStore, SharedStore, SqliteStore, StoreError, StoreLimits},
    trace::Traces,
};
use services::Services;
use sqlx::Connection;
use uuid::Uuid;

const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 3, members_per_room_max: 3, outbox_results_kept: 5 };

const NOW: i64 = 1_767_225_600_000;

fn user(name: &str) -> User {
    name.into()
}

fn postgres(url: &str) -> SharedStore {
    Arc::new(PostgresStore::new(url, None, 6, LIMITS).unwrap())
}

async fn on_both<F: Future<Output = ()>>(claim: impl Fn(SharedStore) -> F) {
    support::on_both(LIMITS, claim).await;
}

fn send(sender: &str, outbox: u128, n: i64, room: Uuid, text: &str) -> Append {
    Append {
        sender: sender.into(),
        outbox: Uuid::from_u128(outbox),
        n,
        room,
        content: Content::text(text),
        event: Uuid::now_v7(),
        time: NOW,
    }
}

fn seq(answer: &Answer) -> i64 {
    match answer {
        Answer::Committed { event, .. } => event.seq,
        other => panic!("not committed: {other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Code {
    match result {
        Err(StoreError::Refused(code)) => code,
        other => panic!("not refused: {other:?}"),
    }
}

async fn room(store: &SharedStore, name: &str) -> Uuid {
    store.arrive("alice", None, &[], NOW).await.unwrap();
    store.create_room(&user("alice"), name, RoomKind::Public, NOW).await.unwrap().room.id
}

#[tokio::test]
async fn a_store_answers_nobody_before_its_tables_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let url = services.postgres.fresh_database().unwrap();
    let sqlite: SharedStore = Arc::new(SqliteStore::new(&folder.path().join("chat.db"), LIMITS));
    for store in [sqlite, postgres(&url)] {
        let (alice, id) = (user("alice"), Uuid::from_u128(1));
        let asked = [
            store.create_account("alice", "hash", NOW).await.err(),
            store.arrive("alice", Some(id), &[], NOW).await.err(),
            store.create_room(&alice, "lobby", RoomKind::Public, NOW).await.err(),
            store.append(&[send("alice", 1, 1, id, "hello")]).await.err(),
            store.heads(&[id]).await.err(),
            store.memberships(std::slice::from_ref(&alice)).await.err(),
            store.announcements(None, 1, NOW).await.err(),
            store.good_logins(&[id], NOW).await.err(),
            store.note_seen(&[(alice.clone(), NOW)]).await.err(),
            store.drop_outboxes(id, NOW, 1).await.err(),
            store.bots("", 1).await.err(),
        ];
        for (number, error) in asked.iter().enumerate() {
            assert!(matches!(error, Some(StoreError::Unmigrated)), "{} {number}: {error:?}", store.kind());
            assert_eq!(error.as_ref().map(StoreError::code), Some(Code::Unavailable));
        }
        store.ping().await.expect("whether it is there can be asked");
        store.migrate().await.unwrap();
        assert!(store.create_account("alice", "hash", NOW).await.unwrap());
        store.close().await;
    }
}

#[tokio::test]
async fn a_send_is_committed_once_and_in_order_however_often_it_comes() {
    on_both(|store| async move {
        let room = room(&store, "lobby").await;
        assert_eq!(store.arrive("alice", Some(Uuid::from_u128(1)), &[], NOW).await.unwrap().outbox_last, 0);
        let batch = [send("alice", 1, 1, room, "a"), send("alice", 1, 2, room, "b")];
        let first = store.append(&batch).await.unwrap();
        assert_eq!(first.iter().map(seq).collect::<Vec<_>>(), [3, 4], "after created and joined");
        let again = store.append(&batch).await.unwrap();
        assert_eq!(again.iter().map(seq).collect::<Vec<_>>(), [3, 4]);
        assert!(matches!(again[0], Answer::Committed { new: false, .. }));
        let gap = store.append(&[send("alice", 1, 4, room, "d")]).await.unwrap();
        assert_eq!(gap, [Answer::Gap { expected: 3 }]);
        let other = store.append(&[send("bob", 1, 1, room, "not alice's outbox")]).await.unwrap();
        assert_eq!(seq(&other[0]), 5);
        assert_eq!(store.arrive("alice", Some(Uuid::from_u128(1)), &[], NOW).await.unwrap().outbox_last, 2);
        let page = store.page(room, HistoryRange::default(), 10).await.unwrap();
        assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    })
    .await;
}

#[tokio::test]
async fn a_position_whose_event_is_another_one_is_contradicted() {
    on_both(|store| async move {
        let room = room(&store, "lobby").await;
        let page = store.page(room, HistoryRange::default(), 10).await.unwrap();
        let at = |seq, event| Position { room, epoch: 1, seq, event };
        let (own, foreign) = (Some(page.events[1].id), Some(Uuid::from_u128(404)));
        for (position, contradicted) in
            [(at(2, own), vec![]), (at(2, None), vec![]), (at(2, foreign), vec![room]), (at(9, foreign), vec![])]
        {
            let arrival = store.arrive("alice", None, &[position], NOW).await.unwrap();
            assert_eq!(arrival.contradicted, contradicted, "{position:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_arrives_at_the_same_time_finds_what_is_theirs_and_a_bad_name_keeps_nobody_out() {
    on_both(|store| async move {
        let room = room(&store, "lobby").await;
        let page = store.page(room, HistoryRange::default(), 10).await.unwrap();
        let (own, foreign) = (Some(page.events[1].id), Some(Uuid::from_u128(9)));
        let names: Vec<String> = (0..40).map(|number| format!("user{number}")).collect();
        for name in &names[..2] {
            store.arrive(name, None, &[], NOW).await.unwrap();
            store.join(&user(name), &RoomReference::Id(room), NOW).await.unwrap();
        }
        store.append(&[send("user3", 1, 1, room, "a"), send("user3", 1, 2, room, "b")]).await.unwrap();
        let at = |event| [Position { room, epoch: 1, seq: 2, event }];
        let arrivals = futures::future::join_all(names.iter().enumerate().map(|(number, name)| {
            let (store, resume) = (&store, at(if number % 2 == 0 { own } else { foreign }));
            async move { store.arrive(name, Some(Uuid::from_u128(1)), &resume, NOW).await }
        }));
        let (arrivals, bad) = tokio::join!(arrivals, store.arrive("nul\0", Some(Uuid::from_u128(1)), &[], NOW));
        assert!(store.kind() == "sqlite" || bad.is_err(), "PostgreSQL stores no NUL");
        for (number, arrival) in arrivals.into_iter().enumerate() {
            let arrival = arrival.unwrap();
            assert_eq!(arrival.rooms.len(), usize::from(number < 2), "{number}");
            assert_eq!(arrival.outbox_last, if number == 3 { 2 } else { 0 }, "{number}");
            assert_eq!(arrival.contradicted, if number % 2 == 0 { vec![] } else { vec![room] }, "{number}");
        }
    })
    .await;
}

#[tokio::test]
async fn results_are_kept_for_a_while_and_then_forgotten_but_never_repeated() {
    on_both(|store| async move {
        let room = room(&store, "lobby").await;
        let outbox = Some(Uuid::from_u128(1));
        store.arrive("alice", outbox, &[], NOW).await.unwrap();
        let batch: Vec<_> = (1..=9).map(|n| send("alice", 1, n, room, "x")).collect();
        store.append(&batch).await.unwrap();
        store.arrive("alice", outbox, &[], NOW).await.unwrap();
        let answers = store.append(&[batch[3].clone(), batch[4].clone()]).await.unwrap();
        assert_eq!(answers[0], Answer::Forgotten);
        assert_eq!(seq(&answers[1]), 7);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_uses_its_number_up_and_is_told_again() {
    on_both(|store| async move {
        let room = room(&store, "lobby").await;
        let refusal = Append { content: Content::Refused(Code::EmptyText), ..send("alice", 1, 1, room, "") };
        for _ in 0..2 {
            assert_eq!(store.append(std::slice::from_ref(&refusal)).await.unwrap(), [Answer::Refused(Code::EmptyText)]);
        }
        let missing = store.append(&[send("alice", 1, 2, Uuid::from_u128(404), "x")]).await.unwrap();
        assert_eq!(missing, [Answer::Refused(Code::UnknownRoom)]);
        assert_eq!(seq(&store.append(&[send("alice", 1, 3, room, "x")]).await.unwrap()[0]), 3);
    })
    .await;
}

#[tokio::test]
async fn a_row_that_poisons_its_batch_is_refused_alone() {
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let store = postgres(&services.postgres.fresh_database().unwrap());
    store.migrate().await.unwrap();
    let room = room(&store, "lobby").await;
    let limits = IntakeLimits { batch_max: 100, queue_max: 100, accepted_max: 100, gap_patience: Duration::ZERO };
    let (health, publish) = (Arc::new(Health::of_ready_store()), Arc::new(|_| {}));
    let traces = Traces::default();
    let parts = Parts { store: store.clone(), queue: None, health, publish, traces, first: First::Log, limits };
    let (intake, _task) = Intake::spawn(parts);
    // PostgreSQL takes no NUL in a text.
    let texts = ["a", "b", "poi\0son", "d", "e"];
    let waiting: Vec<_> =
        (1..).zip(texts).map(|(n, text)| intake.append(send("alice", 1, n, room, text)).unwrap()).collect();
    let mut seqs = Vec::new();
    for answer in waiting {
        seqs.push(match answer.await.unwrap() {
            Taken::Done(Ok(Answer::Refused(code))) => Err(code),
            Taken::Done(Ok(answer)) => Ok(seq(&answer)),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seqs, [Ok(3), Ok(4), Err(Code::BadText), Ok(5), Ok(6)]);
}

#[tokio::test]
async fn several_nodes_migrate_and_append_at_once_and_leave_no_hole() {
    const NODES: usize = 4;
    const SENDS: i64 = 50;
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let url = services.postgres.fresh_database().unwrap();
    let nodes: Vec<SharedStore> = (0..NODES).map(|_| postgres(&url)).collect();
    for migrated in futures::future::join_all(nodes.iter().map(|node| node.migrate())).await {
        migrated.unwrap();
    }
    let rooms = [room(&nodes[0], "one").await, room(&nodes[0], "two").await];
    let appends = nodes.iter().enumerate().map(|(index, node)| async move {
        let name = format!("user{index}");
        let mut seqs = Vec::new();
        for n in (1..=SENDS).step_by(2) {
            // Both rooms in each batch, in either order: locks are taken in one order all the same.
            let (first, second) = if index % 2 == 0 { (rooms[0], rooms[1]) } else { (rooms[1], rooms[0]) };
            let batch = [send(&name, 1, n, first, "x"), send(&name, 1, n + 1, second, "x")];
            seqs.extend(node.append(&batch).await.unwrap().iter().map(seq));
        }
        seqs.len()
    });
    let sent: usize = futures::future::join_all(appends).await.into_iter().sum();
    assert_eq!(sent, NODES * SENDS as usize);
    for room in rooms {
        let mut seqs = Vec::new();
        loop {
            let range = HistoryRange { before: None, after: Some(seqs.last().copied().unwrap_or(0)) };
            let page = nodes[1].page(room, range, 30).await.unwrap();
            seqs.extend(page.events.iter().map(|event| event.seq));
            if !page.more {
                break;
            }
        }
        assert_eq!(seqs, (1..=2 + (NODES as i64) * SENDS / 2).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_commit_tells_the_other_nodes_through_the_database() {
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let url = services.postgres.fresh_database().unwrap();
    let (writes, listens) = (postgres(&url), postgres(&url));
    writes.migrate().await.unwrap();
    listens.migrate().await.unwrap();
    let room = room(&writes, "lobby").await;
    let mut hints = listens.hints().await.unwrap();
    assert_eq!(hints.recv().await, Some(Hint::Missed), "what was before counts as missed");
    writes.append(&[send("alice", 1, 1, room, "x")]).await.unwrap();
    match hints.recv().await {
        Some(Hint::Changed { heads, users }) => {
            assert_eq!((&*heads, users.len()), (&[(room, 3)][..], 0));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rooms_are_joined_left_and_bounded() {
    on_both(|store| async move {
        let room = room(&store, "lobby").await;
        assert_eq!(refused(store.create_room(&user("bob"), "lobby", RoomKind::Public, NOW).await), Code::RoomExists);
        let by_name = RoomReference::Name("lobby".into());
        let joined = store.join(&user("bob"), &by_name, NOW).await.unwrap();
        assert_eq!((joined.room.id, joined.room.head, joined.events.len()), (room, 2, 1));
        assert_eq!(joined.memberships.len(), 1);
        let again = store.join(&user("bob"), &RoomReference::Id(room), NOW).await.unwrap();
        assert_eq!((again.room.head, again.events.len()), (3, 0), "a member stays one without a word");
        store.join(&user("carol"), &by_name, NOW).await.unwrap();
        assert_eq!(refused(store.join(&user("dave"), &by_name, NOW).await), Code::RoomFull);
        store.leave(&user("bob"), room, NOW).await.unwrap();
        assert_eq!(refused(store.leave(&user("bob"), room, NOW).await), Code::NotAMember);
        store.join(&user("dave"), &by_name, NOW).await.unwrap();
        let missing = RoomReference::Name("nowhere".into());
        assert_eq!(refused(store.join(&user("bob"), &missing, NOW).await), Code::UnknownRoom);
        for name in ["two", "three"] {
            store.create_room(&user("alice"), name, RoomKind::Public, NOW).await.unwrap();
        }
        assert_eq!(refused(store.create_room(&user("alice"), "four", RoomKind::Public, NOW).await), Code::TooManyRooms);
        let heads = store.heads(&[room, Uuid::from_u128(404)]).await.unwrap();
        assert_eq!((heads.len(), heads[0].seq), (1, 6));
    })
    .await;
}

#[tokio::test]
async fn strangers_cannot_use_up_the_rooms_of_a_user() {
    on_both(|store| async move {
        for name in ["alice", "one", "two", "three", "four"] {
            store.arrive(name, None, &[], NOW).await.unwrap();
        }
        let alice = user("alice");
        for stranger in ["one", "two", "three"] {
            store.direct(&user(stranger), &alice, NOW).await.unwrap();
        }
        assert_eq!(refused(store.direct(&user("four"), &alice, NOW).await), Code::TooManyRooms, "others have a bound");
        store.direct(&user("three"), &alice, NOW).await.expect("what is there is found");
        for other in ["four", "alice"] {
            store.direct(&alice, &user(other), NOW).await.expect("it is not hers");
        }
        let room = store.create_room(&alice, "lobby", RoomKind::Public, NOW).await.unwrap().room.id;
        store.leave(&alice, room, NOW).await.unwrap();
        store.join(&alice, &RoomReference::Id(room), NOW).await.expect("nor is it here");
        store.direct(&user("four"), &user("one"), NOW).await.unwrap();
        for other in ["two", "three"] {
            store.direct(&user("four"), &user(other), NOW).await.unwrap();
        }
        assert_eq!(
            refused(store.direct(&user("four"), &user("four"), NOW).await),
            Code::TooManyRooms,
            "her own has one"
        );
    })
    .await;
}

#[tokio::test]
async fn two_people_have_one_direct_room_whoever_asks() {
    on_both(|store| async move {
        store.arrive("alice", None, &[], NOW).await.unwrap();
        assert_eq!(refused(store.direct(&user("alice"), &user("bob"), NOW).await), Code::UnknownUser);
        store.arrive("bob", None, &[], NOW).await.unwrap();
        let (first, second) = (user("alice"), user("bob"));
        let both = tokio::join!(store.direct(&first, &second, NOW), store.direct(&second, &first, NOW));
        let (one, other) = (both.0.unwrap(), both.1.unwrap());
        assert_eq!((one.room.id, one.room.kind), (other.room.id, RoomKind::Direct));
        assert_eq!(one.events.len() + other.events.len(), 1, "it was made once");
        store.arrive("carol", None, &[], NOW).await.unwrap();
        let reference = RoomReference::Id(one.room.id);
        assert_eq!(refused(store.join(&user("carol"), &reference, NOW).await), Code::UnknownRoom);
        assert_eq!(refused(store.leave(&user("bob"), one.room.id, NOW).await), Code::NotAllowed);
        let memberships = store.memberships(&[user("bob"), user("carol")]).await.unwrap();
        assert_eq!(memberships.len(), 1);
        assert_eq!(memberships[0].1.room.with("bob"), Some(&user("alice")));
    })
    .await;
}

#[tokio::test]
async fn requests_that_hang_take_no_connection_from_sends() {
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let url = services.postgres.fresh_database().unwrap();
    let store = postgres(&url);
    store.migrate().await.unwrap();
    let room = room(&store, "lobby").await;
    let mut locking = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").execute(&mut locking).await.unwrap();
    let hanging: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.password_hash("alice").await.map(drop) })
        })
        .collect();
    let waits = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE datname = current_database() AND NOT granted";
    let all_hang = async {
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut locking).await.unwrap() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_hang).await.expect("three of six connections are for requests");
    let answers = store.append(&[send("alice", 1, 1, room, "hello")]).await.unwrap();
    assert!(matches!(answers[..], [Answer::Committed { .. }]), "{answers:?}");
    store.ping().await.expect("the database is there for sends");
    assert!(hanging.iter().all(|request| !request.is_finished()), "they hang still");
    sqlx::raw_sql("ROLLBACK").execute(&mut locking).await.unwrap();
    for request in hanging {
        request.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_migration_that_is_locked_out_lets_everybody_go_on() {
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let url = services.postgres.fresh_database().unwrap();
    let (former, next) = (postgres(&url), postgres(&url));
    former.migrate().await.unwrap();
    let room = room(&former, "lobby").await;
    // As if the latest migration, which alters `rooms`, were still to come.
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let undo = "ALTER TABLE rooms DROP COLUMN first_seq, DROP COLUMN oldest_ms; DELETE FROM _sqlx_migrations WHERE version >= 7";
    sqlx::raw_sql(undo).execute(&mut connection).await.unwrap();
    // Somebody reads for long.
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM rooms").execute(&mut connection).await.unwrap();
    let migrating = tokio::spawn({
        let next = next.clone();
        async move { next.migrate().await.map_err(|error| error.to_string()) }
    });
    // The one before says nothing of what a later one needs, and goes on, but for the moment in which the other is in the way.
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    let mut n = 0;
    while tokio::time::Instant::now() < until {
        n += 1;
        let batch = [send("alice", 1, n, room, "hello")];
        let answer = tokio::time::timeout(Duration::from_secs(3), former.append(&batch))
            .await
            .expect("a commit waits for a migration");
        assert!(matches!(answer.unwrap()[..], [Answer::Committed { .. }]));
    }
    let refused = migrating.await.unwrap().unwrap_err();
    assert!(refused.contains("lock timeout"), "{refused}");
    // What it held is free again: another node's turn comes, and its own.
    let held = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE datname = current_database() AND locktype = 'advisory'";
    assert_eq!(sqlx::query_scalar::<_, i64>(held).fetch_one(&mut connection).await.unwrap(), 0);
    sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn results_that_nobody_asks_for_any_more_go_while_their_client_stays() {
    let folder = tempfile::tempdir().unwrap();
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let (url, file) = (services.postgres.fresh_database().unwrap(), folder.path().join("chat.db"));
    let sqlite: SharedStore = Arc::new(SqliteStore::new(&file, LIMITS));
    for store in [postgres(&url), sqlite] {
        store.migrate().await.unwrap();
        let room = room(&store, "lobby").await;
        let is_committed = |answers: &[Answer]| matches!(answers, [Answer::Committed { .. }]);
        assert!(is_committed(&store.append(&[send("alice", 1, 1, room, "hello")]).await.unwrap()));
        let numbers = async |statements: &str| -> Vec<i64> {
            let (statements, numbers) =
                (sqlx::AssertSqlSafe(statements.to_owned()), "SELECT n FROM outbox_results ORDER BY n");
            if store.kind() == "sqlite" {
                let mut connection =
                    sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
                sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
                sqlx::query_scalar(numbers).fetch_all(&mut connection).await.unwrap()
            } else {
                let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
                sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
                sqlx::query_scalar(numbers).fetch_all(&mut connection).await.unwrap()
            }
        };
        // As after very many sends, of whose results these are left.
        let (last, old) = (256 * 1_200 - 1, 256 * 1_200 - 200_100);
        let so = format!(
            "UPDATE outboxes SET last = {last};
             INSERT INTO outbox_results (outbox, n, refusal) SELECT outbox, {old}, 'old' FROM outbox_results WHERE n = 1;
             INSERT INTO outbox_results (outbox, n, refusal) SELECT outbox, {last}, 'old' FROM outbox_results WHERE n = 1"
        );
        assert_eq!(numbers(&so).await, [1, old, last]);
        assert!(is_committed(&store.append(&[send("alice", 1, last + 1, room, "and so on")]).await.unwrap()));
        assert_eq!(numbers("").await, [1, last, last + 1], "the first is left to an arrival");
        store.arrive("alice", Some(Uuid::from_u128(1)), &[], NOW).await.unwrap();
        assert_eq!(numbers("").await, [last, last + 1]);
    }
}

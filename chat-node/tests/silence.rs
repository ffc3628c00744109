//! A PostgreSQL that has lost its power: its connections are not ended, and say nothing more.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use chat_node::{
    bus::Bus,
    event::{RoomKind, User},
    health::Health,
    hub::{ConnectionId, Hub, Outbound, Socket, Start},
    protocol::RoomReference,
    store::{Append, Content, Hint, PostgresStore, SharedStore, StoreLimits},
    trace::Traces,
};
use futures::{FutureExt, future::BoxFuture};
use services::Services;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 3, members_per_room_max: 3, outbox_results_kept: 5 };

const NOW: i64 = 1_767_225_600_000;

/// How long a question may take that is asked again.
const COMMIT: Duration = Duration::from_secs(3);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn user(name: &str) -> User {
    name.into()
}

/// Carries connections to a server, until it carries nothing more and lets go of none: what a server leaves that has lost its power.
struct Wires {
    address: SocketAddr,
    are_dead: watch::Sender<bool>,
}

impl Wires {
    async fn to(server: String) -> Wires {
        let (are_dead, dead) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(&server).await.unwrap();
                let mut dead = dead.clone();
                // Whoever comes later finds the server that took the place of the other.
                dead.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = dead.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Wires { address, are_dead }
    }
}

/// An empty database, reached past the wires and through them.
async fn stores() -> (Services, String, Wires, [SharedStore; 2]) {
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let url = services.postgres.fresh_database().unwrap();
    let (server, database) = url.rsplit_once('@').unwrap().1.split_once('/').unwrap();
    let wires = Wires::to(server.to_owned()).await;
    let through = url.replace(server, &wires.address.to_string());
    let stores =
        [&url, &through].map(|url| -> SharedStore { Arc::new(PostgresStore::new(url, None, 8, LIMITS).unwrap()) });
    for store in &stores {
        store.migrate().await.unwrap();
    }
    (services, database.to_owned(), wires, stores)
}

/// A connection whose client takes everything and is told nothing.
struct Sink;

impl Socket for Sink {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        async { Ok(()) }.boxed()
    }
}

#[tokio::test]
async fn a_room_is_followed_in_the_end_although_its_head_was_asked_of_a_server_that_is_gone() {
    let (services, database, wires, [past, through]) = stores().await;
    let room = past.create_room(&user("alice"), "lobby", RoomKind::Public, NOW).await.unwrap().room;
    let hub = Hub::new(through, Bus::InProcess, Traces::default(), 10);
    // While the table is locked the question is under way.
    let lock = "BEGIN; LOCK TABLE rooms IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT";
    let locked = std::thread::spawn({
        let database = database.clone();
        move || Services::new().unwrap().postgres.sql(&database, lock).unwrap()
    });
    let waits = |of: &str| services.postgres.sql(&database, of).unwrap().trim() == "1";
    until(|| waits("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LOCK TABLE%pg_sleep(3)%' AND wait_event = 'PgSleep'")).await;
    let outbound = Arc::new(Outbound::new(Arc::new(Sink), 10, 10_000));
    let start = Start { room: room.id, epoch: room.epoch, position: room.head, ended: CancellationToken::new() };
    let follows = tokio::spawn(hub.clone().follow(ConnectionId(1), outbound, vec![start]));
    until(|| {
        waits("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    })
    .await;
    wires.are_dead.send_replace(true);
    locked.join().unwrap();
    timeout(PATIENCE, follows).await.expect("it waits for a server that is gone").unwrap();
    assert_eq!(hub.rooms_resident(), 1);
    past.close().await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_within_a_transaction_keeps_no_room_from_others() {
    let (services, database, wires, [past, through]) = stores().await;
    let room = past.create_room(&user("alice"), "lobby", RoomKind::Public, NOW).await.unwrap().room.id;
    let join = async move |store: &SharedStore, who: &str| store.join(&user(who), &RoomReference::Id(room), NOW).await;
    // While that table is locked, whoever joins has the room locked and waits.
    let lock = "BEGIN; LOCK TABLE members IN EXCLUSIVE MODE; SELECT pg_sleep(6); COMMIT";
    let locked = std::thread::spawn({
        let database = database.clone();
        move || Services::new().unwrap().postgres.sql(&database, lock).unwrap()
    });
    let count = |of: &str| {
        let activity = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND ";
        services.postgres.sql(&database, &format!("{activity}{of}")).unwrap().trim() == "1"
    };
    until(|| count("query LIKE '%LOCK TABLE members%' AND wait_event = 'PgSleep'")).await;
    let cut_off = tokio::spawn(async move { join(&through, "bob").await });
    until(|| count("wait_event_type = 'Lock'")).await;
    wires.are_dead.send_replace(true);
    locked.join().unwrap();
    until(|| count("state = 'idle in transaction'")).await;
    let joined = async {
        while join(&past, "carol").await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, joined).await.expect("the room is locked by a node that is gone");
    cut_off.abort();
    past.close().await;
}

#[tokio::test]
async fn sends_and_requests_go_on_over_new_connections_when_a_server_is_gone() {
    let (services, database, wires, [past, through]) = stores().await;
    let room = past.create_room(&user("alice"), "lobby", RoomKind::Public, NOW).await.unwrap().room.id;
    let hub = Hub::new(through.clone(), Bus::InProcess, Traces::default(), 10);
    let health = Arc::new(Health::of_ready_store());
    tokio::spawn(health.clone().watch(through.clone(), Bus::InProcess, hub));
    let send = |outbox| Append {
        sender: user("alice"),
        outbox: Uuid::from_u128(outbox),
        n: 1,
        room,
        content: Content::text("hello"),
        event: Uuid::now_v7(),
        time: NOW,
    };
    // While the tables are locked, every connection has a question under way.
    let lock = "BEGIN; LOCK TABLE rooms, members, outboxes IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT";
    let locked = std::thread::spawn({
        let database = database.clone();
        move || Services::new().unwrap().postgres.sql(&database, lock).unwrap()
    });
    let counts = |of: &str| services.postgres.sql(&database, of).unwrap().trim().parse::<u32>().unwrap();
    until(|| counts("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LOCK TABLE%pg_sleep(4)%' AND wait_event = 'PgSleep'") == 1).await;
    for outbox in 10..13 {
        let (through, send) = (through.clone(), send(outbox));
        tokio::spawn(async move { timeout(COMMIT, through.append(&[send])).await });
    }
    for _ in 0..5 {
        let through = through.clone();
        tokio::spawn(async move { timeout(COMMIT, through.unread("alice")).await });
    }
    until(|| {
        counts("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            == 8
    })
    .await;
    wires.are_dead.send_replace(true);
    locked.join().unwrap();
    let send = send(1);
    let sent = async {
        while let Ok(Err(_)) | Err(_) =
            timeout(Duration::from_secs(3), through.append(std::slice::from_ref(&send))).await
        {
            health.lost_store();
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, sent).await.expect("no send gets through to the server that is there");
    let read = async { while !matches!(timeout(Duration::from_secs(1), through.unread("alice")).await, Ok(Ok(_))) {} };
    timeout(PATIENCE, read).await.expect("no request gets through");
    timeout(PATIENCE, health.store_is_up()).await.expect("the node does not see that it is there");
    past.close().await;
}

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, so).await.unwrap();
}

#[tokio::test]
async fn a_listener_whose_server_is_silent_for_ever_listens_anew() {
    let (_services, _, wires, [writes, listens]) = stores().await;
    let mut hints = listens.hints().await.unwrap();
    assert_eq!(hints.recv().await, Some(Hint::Missed));
    wires.are_dead.send_replace(true);
    let missed = timeout(PATIENCE, hints.recv()).await;
    assert_eq!(missed.expect("it waits for a server that is gone"), Some(Hint::Missed));
    let room = writes.create_room(&user("alice"), "lobby", RoomKind::Public, NOW).await.unwrap().room.id;
    let told = timeout(PATIENCE, hints.recv()).await.unwrap();
    assert!(matches!(&told, Some(Hint::Changed { heads, .. }) if heads[0].0 == room), "{told:?}");
    writes.close().await;
}

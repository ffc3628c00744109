//! Two nodes on a real PostgreSQL and a real RabbitMQ, and people on either side.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

#[allow(dead_code, reason = "written for other tests as well")]
#[path = "support/running.rs"]
mod running;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::Method;
use chat_load::{
    checker::{self, Histories},
    frame::{Page, RoomRef},
    record::Record,
    rest::{self, Call, RestError},
};
use chat_node::{
    event::{RoomKind, User},
    protocol::{Command, RoomReference},
    store::{Append, Content, PostgresStore, Store, StoreLimits},
};
use crds::node_config::{Bus, Endpoint, Store as StoreConfig};
use metrics_exporter_prometheus::PrometheusBuilder;
use running::{PATIENCE, Person, Running, loopback};
use serde_json::{Value, json};
use services::Services;
use tokio::time::timeout;
use uuid::Uuid;

/// The promise for a room's last message when its node dies before it could tell: three seconds, and a moment for a busy machine.
const TAIL: Duration = Duration::from_secs(5);

const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 9, members_per_room_max: 99, outbox_results_kept: 99 };

/// Two nodes on an empty database and an empty virtual host.
struct Pair {
    nodes: [Running; 2],
    postgres: String,
    rabbitmq: String,
    key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Pair {
    /// `with_bus: false` leaves the nodes to find out from the database alone.
    async fn start(with_bus: bool) -> Pair {
        let services = Services::new().unwrap();
        services.up().unwrap();
        let postgres = services.postgres.fresh_database().unwrap();
        let rabbitmq = match with_bus {
            true => services.rabbitmq.fresh_vhost().unwrap(),
            // Nothing listens there.
            false => "amqp://guest:guest@127.0.0.1:9/%2f".into(),
        };
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "a secret for two nodes of one test").unwrap();
        let nodes = [start(0, &postgres, &rabbitmq, &key).await, start(1, &postgres, &rabbitmq, &key).await];
        Pair { nodes, postgres, rabbitmq, key, _folder: folder }
    }

    fn url(&self, node: usize) -> &str {
        &self.nodes[node].url
    }

    async fn stop(self) {
        for node in self.nodes {
            timeout(Duration::from_secs(60), node.stop()).await.expect("a node does not end");
        }
    }
}

async fn start(number: usize, postgres: &str, rabbitmq: &str, key: &Path) -> Running {
    let mut config = loopback();
    // Nothing here takes so long: a node that waits for it has forgotten whom it waits for.
    config.drain.flush_seconds = 300;
    config.store = StoreConfig::Postgres { endpoint: Endpoint::Url(postgres.into()), pool_connections_max: 5 };
    config.bus = Bus::Rabbitmq { endpoint: Endpoint::Url(rabbitmq.into()) };
    config.auth.key_file = Some(key.into());
    config.addresses.enforced = false;
    Running::start(number, config, PrometheusBuilder::new().build_recorder().handle()).await
}

impl Person {
    async fn hears(&self, text: &str, within: Duration) -> bool {
        let heard =
            |record: &Record| record.events.iter().any(|seen| seen.event.text.as_deref() == Some(text)).then_some(());
        self.recorder.until(within, heard).await.is_some()
    }
}

/// Judges what people saw of one room against its history.
async fn judge(people: &[&Person], room: Uuid) -> checker::Report {
    let page = Page { before: None, after: Some(0), limit: 200 };
    let history = people[0].client.history(room, page).await.unwrap();
    assert!(!history.more, "the tests' rooms are small");
    let head = history.events.last().unwrap().seq;
    for person in people {
        let caught_up = |record: &Record| {
            record.events.iter().any(|seen| seen.event.room == room && seen.event.seq >= head).then_some(())
        };
        assert!(person.recorder.until(PATIENCE, caught_up).await.is_some(), "{} missed {head}", person.name);
    }
    let records: Vec<Record> = people.iter().map(|person| person.recorder.look().clone()).collect();
    checker::check(&records, &Histories::from(BTreeMap::from([(room, history.events)])))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_on_two_nodes_share_rooms_and_direct_messages() {
    for with_bus in [true, false] {
        let pair = Pair::start(with_bus).await;
        let (alice, bob) = (Person::at(&[pair.url(0)]).await, Person::at(&[pair.url(1)]).await);
        let room = alice.client.create_room("lobby").await.unwrap().id;
        bob.client.join(RoomRef::Name("lobby".into())).await.unwrap();
        for round in 0..10 {
            alice.say(room, &format!("alice {round}")).await;
            assert!(bob.hears(&format!("alice {round}"), PATIENCE).await);
            bob.say(room, &format!("bob {round}")).await;
            assert!(alice.hears(&format!("bob {round}"), PATIENCE).await);
        }
        let report = judge(&[&alice, &bob], room).await;
        assert!(report.is_clean(), "{report}");
        let direct = alice.client.direct(&bob.name).await.unwrap().id;
        alice.say(direct, "psst").await;
        assert!(bob.hears("psst", PATIENCE).await, "a direct room reaches the other node, with the bus: {with_bus}");
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rooms_last_message_arrives_although_its_node_died_before_it_told() {
    let pair = Pair::start(true).await;
    let alice = Person::at(&[pair.url(0)]).await;
    let room = alice.client.create_room("lobby").await.unwrap().id;
    alice.say(room, "before").await;
    // A commit without a publication and then silence is what a node leaves that is killed between the two.
    let dead = PostgresStore::new(&pair.postgres, None, 1, LIMITS).unwrap();
    dead.migrate().await.unwrap();
    let append = Append {
        sender: User::from("ghost"),
        outbox: Uuid::new_v4(),
        n: 1,
        room,
        content: Content::text("last words"),
        event: Uuid::now_v7(),
        time: 0,
    };
    dead.append(&[append]).await.unwrap();
    assert!(alice.hears("last words", TAIL).await);
    // The same for a membership: a room that was joined elsewhere.
    let other = dead.create_room(&User::from("ghost"), "elsewhere", RoomKind::Public, 0).await.unwrap().room.id;
    dead.join(&User::from(alice.name.as_str()), &RoomReference::Id(other), 0).await.unwrap();
    let told = |record: &Record| record.rooms.iter().any(|room| room.id == other).then_some(());
    assert!(alice.recorder.until(TAIL, told).await.is_some());
    // And for its end, with the cause.
    let ghost = User::from("ghost");
    let kick = Command::Kick { room: other, user: alice.name.clone() };
    dead.carry_out(&ghost, &kick, 0).await.unwrap();
    let removed = |record: &Record| record.removed.last().cloned();
    assert_eq!(alice.recorder.until(TAIL, removed).await, Some((other, "kicked".to_owned())));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_moves_its_people_once_and_they_miss_nothing() {
    let pair = Pair::start(true).await;
    let both = [pair.url(0).to_owned(), pair.url(1).to_owned()];
    let both = both.each_ref().map(String::as_str);
    let mover = Person::at(&both).await;
    // Where the mover is depends on how often registering had to be tried.
    let other = usize::from(mover.client.online().await.unwrap() == "node-0");
    let stayer = Person::at(&[both[other]]).await;
    let room = mover.client.create_room("lobby").await.unwrap().id;
    stayer.client.join(RoomRef::Room(room)).await.unwrap();
    pair.nodes[1 - other].stop.cancel();
    let moved = |record: &Record| (record.connections.len() == 2).then_some(());
    for round in 0..20 {
        stayer.say(room, &format!("stayer {round}")).await;
        mover.say(room, &format!("mover {round}")).await;
    }
    assert!(mover.recorder.until(PATIENCE, moved).await.is_some(), "nobody moved");
    let report = judge(&[&mover, &stayer], room).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.moves, (0, 1));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_again_and_again_resumes_on_any_node() {
    let pair = Pair::start(true).await;
    let both = [pair.url(0), pair.url(1)];
    let (restless, calm) = (Person::at(&both).await, Person::at(&[both[0]]).await);
    let room = calm.client.create_room("lobby").await.unwrap().id;
    restless.client.join(RoomRef::Room(room)).await.unwrap();
    // Each cut doubles what the next one may cost, because no connection lasts.
    for round in 0..4 {
        restless.client.cut().await;
        calm.say(room, &format!("calm {round}")).await;
        restless.say(room, &format!("restless {round}")).await;
    }
    let report = judge(&[&restless, &calm], room).await;
    assert!(report.is_clean(), "{report}");
    assert!(report.moves.1 >= 3, "{report}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_on_an_empty_database_ask_it_nothing_that_it_cannot_answer() {
    let services = Services::new().unwrap();
    services.up().unwrap();
    let (postgres, rabbitmq) = (services.postgres.fresh_database().unwrap(), services.rabbitmq.fresh_vhost().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a secret for two nodes of one test").unwrap();
    let nodes = [start(0, &postgres, &rabbitmq, &key).await, start(1, &postgres, &rabbitmq, &key).await];
    // Somebody who does not wait until they are ready.
    let urls = [[&*nodes[0].url], [&*nodes[1].url]];
    let (alice, bob) = tokio::join!(Person::at(&urls[0]), Person::at(&urls[1]));
    let room = alice.client.create_room("lobby").await.unwrap().id;
    bob.client.join(RoomRef::Room(room)).await.unwrap();
    alice.say(room, "hello").await;
    assert!(bob.hears("hello", PATIENCE).await);
    for node in nodes {
        node.stop().await;
    }
    let database = postgres.rsplit('/').next().unwrap();
    // Counted to the last once nobody is connected. A statement that fails is a transaction that is rolled back.
    let counted = format!(
        "SELECT xact_rollback FROM pg_stat_database WHERE datname = '{database}' AND numbackends = 0 AND xact_commit > 0"
    );
    let rolled_back = async {
        loop {
            match services.postgres.sql("postgres", &counted).unwrap().trim() {
                "" => tokio::time::sleep(Duration::from_millis(50)).await,
                counted => break counted.to_owned(),
            }
        }
    };
    assert_eq!(timeout(PATIENCE, rolled_back).await.unwrap(), "0");
}

/// What the next version's migrations may do while this one still runs: add tables, and columns that may be left out.
const NEXT_VERSION: &str = "
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations' LOOP
            EXECUTE format('ALTER TABLE %I ADD COLUMN of_the_next_version integer NOT NULL DEFAULT 7', name);
        END LOOP;
    END $$;
    CREATE TABLE of_the_next_version (id bigint);
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (9999, 'of the next version', true, '\\x00', 0);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_go_on_over_what_the_next_version_adds_to_the_database_and_begin_over_it() {
    let pair = Pair::start(true).await;
    let veterans = [Person::at(&[pair.url(0)]).await, Person::at(&[pair.url(1)]).await];
    chat(&veterans).await;
    let database = pair.postgres.rsplit('/').next().unwrap();
    Services::new().unwrap().postgres.sql(database, NEXT_VERSION).unwrap();
    // Those who are connected, over statements that were prepared before.
    chat(&veterans).await;
    chat(&[Person::at(&[pair.url(0)]).await, Person::at(&[pair.url(1)]).await]).await;
    let third = start(2, &pair.postgres, &pair.rabbitmq, &pair.key).await;
    chat(&[Person::at(&[&third.url]).await, Person::at(&[pair.url(1)]).await]).await;
    third.stop().await;
    pair.stop().await;
}

/// Two people do what touches every table.
async fn chat([alice, bob]: &[Person; 2]) {
    let room = alice.client.create_room(Uuid::new_v4().to_string()).await.unwrap().id;
    bob.client.join(RoomRef::Room(room)).await.unwrap();
    alice.say(room, "hello").await;
    assert!(bob.hears("hello", PATIENCE).await);
    alice.client.direct(&bob.name).await.unwrap();
    let page = Page { before: None, after: Some(0), limit: 200 };
    let history = alice.client.history(room, page).await.unwrap().events;
    let said = history.iter().find(|event| event.text.as_deref() == Some("hello")).unwrap();
    let signed_in = rest::sign_in(&*alice.dial, &alice.name, "correct horse").await.unwrap();
    let token = rest::refresh(&*alice.dial, &signed_in.refresh_token).await.unwrap().token;
    let (message, event) = (format!("/rooms/{room}/messages/{}", said.seq), said.event);
    let of_bob = |what: &str| format!("/rooms/{room}/{what}/{}", bob.name);
    let (text, for_ever) = (json!({"text": "hello there"}), json!({}));
    let asked: [(Method, String, Option<&Value>); 10] = [
        (Method::PATCH, format!("{message}?event={event}"), Some(&text)),
        (Method::PUT, format!("{message}/reactions/ok?event={event}"), None),
        (Method::PUT, of_bob("mutes"), Some(&for_ever)),
        (Method::PUT, of_bob("bans"), Some(&for_ever)),
        (Method::DELETE, of_bob("bans"), None),
        (Method::PUT, of_bob("members"), None),
        (Method::GET, format!("/rooms/{room}/events"), None),
        (Method::GET, "/unread".into(), None),
        (Method::GET, "/announcements".into(), None),
        (Method::GET, "/sessions".into(), None),
    ];
    for (method, path, body) in asked {
        let path = format!("/api/v1{path}");
        let call = Call { method, path: &path, token: Some(&token), body, ..Call::default() };
        let answer = rest::call(&*alice.dial, &call).await.unwrap();
        assert!(answer.status.is_success(), "{} {path}: {} {}", call.method, answer.status, answer.body);
    }
    let refused = rest::login(&*bob.dial, &bob.name, "wrong horse").await;
    assert!(matches!(&refused, Err(RestError::Refused { code, .. }) if code == "bad_credentials"), "{refused:?}");
}

//! A Redis that is gone without a word, or is the primary no more: whatever is at its address by then is connected to anew.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chat_node::{
    auth::RefreshToken,
    redis::RedisSessions,
    store::{Hint, NewLogin, PostgresStore, SharedSessions, SharedStore, StoreError},
};
use services::{Apart, Services};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::ground::LIMITS;

/// TCP itself gives up after a quarter of an hour.
const PATIENCE: Duration = Duration::from_secs(20);

/// The address of a server. What was connected when the server vanishes stays so, and nothing comes through.
struct Address {
    address: SocketAddr,
    vanish: watch::Sender<()>,
    connections: Arc<AtomicUsize>,
}

impl Address {
    async fn of(port: u16) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (vanish, vanished) = watch::channel(());
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut vanished = vanished.clone();
                vanished.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        Ok(()) = vanished.changed() => pending().await,
                    }
                });
            }
        });
        Address { address, vanish, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Sessions of an empty Redis behind an address, connected.
async fn connected(redis: &services::Redis) -> (Address, SharedSessions, mpsc::Receiver<Hint>) {
    let address = Address::of(redis.port()).await;
    let services = Services::new().unwrap();
    services.postgres.start().unwrap();
    let postgres = services.postgres.fresh_database().unwrap();
    let store: SharedStore = Arc::new(PostgresStore::new(&postgres, None, 5, LIMITS).unwrap());
    store.migrate().await.unwrap();
    let url = redis.fresh_database().unwrap();
    let url = url.replace(&redis.port().to_string(), &address.address.port().to_string());
    let (sessions, mut endings) = RedisSessions::new(&url, None, store).unwrap();
    let sessions: SharedSessions = Arc::new(sessions);
    begin(&sessions).await.unwrap();
    assert!(matches!(endings.recv().await, Some(Hint::Missed)));
    (address, sessions, endings)
}

async fn begin(sessions: &SharedSessions) -> Result<(), StoreError> {
    let login = NewLogin {
        id: Uuid::now_v7(),
        user: "alice".into(),
        address: None,
        expires_ms: 10_000,
        token: RefreshToken::new(Uuid::new_v4(), [1; 32]),
        password_hash: None,
    };
    sessions.begin_login(&login, 0).await.map(drop)
}

/// Until somebody can sign in again, and is heard of.
async fn back(sessions: &SharedSessions, endings: &mut mpsc::Receiver<Hint>, address: &Address, before: usize) {
    let back = async {
        while begin(sessions).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        while !matches!(endings.recv().await, Some(Hint::Missed)) {}
    };
    timeout(PATIENCE, back).await.expect("it goes on with a connection that is of no use");
    assert!(address.connections() >= before + 2, "one to ask and one to hear");
}

#[tokio::test]
async fn a_redis_that_is_gone_without_a_word_is_connected_to_anew() {
    let services = Services::new().unwrap();
    services.redis.start().unwrap();
    let (address, sessions, mut endings) = connected(&services.redis).await;
    let before = address.connections();
    address.vanish.send_replace(());
    back(&sessions, &mut endings, &address, before).await;
}

#[tokio::test]
async fn a_redis_that_is_the_primary_no_more_is_connected_to_anew() {
    let apart = Apart::new().unwrap();
    apart.redis.start().unwrap();
    let (address, sessions, mut endings) = connected(&apart.redis).await;
    let before = address.connections();
    apart.redis.demote().unwrap();
    begin(&sessions).await.unwrap_err();
    apart.redis.promote().unwrap();
    back(&sessions, &mut endings, &address, before).await;
}

//! The node: puts the rooms together, and takes them apart in order.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crds::{
    NodeConfig, binding,
    node_config::{self, Endpoint, Persistence},
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Admin},
    announcements::Announcements,
    auth::Tokens,
    bus::{Bus, Incoming, Server, queue::Queue},
    drain::{self, Drain},
    gateway::{Gateway, Parts},
    health::Health,
    hearing::{self, Hearing},
    hub::Hub,
    intake::{self, First, Intake, IntakeLimits},
    logins::Logins,
    metric::Metric,
    reach::Reach,
    redis::RedisSessions,
    retention,
    self_test::SelfTester,
    signals::Signals,
    stats::Stats,
    store::{Hint, PostgresStore, SharedSessions, SharedStore, SqliteStore, StoreLimits},
    trace::Traces,
};

/// How long a queued send waits for the one before it. That is put back within moments by a consumer that leaves, and once a dead one is
/// found out.
const GAP_PATIENCE: Duration = Duration::from_secs(30);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration cannot be used.
    #[error("{key}: {reason}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The key.
        key: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

fn refuse(key: &'static str, reason: impl ToString) -> StartError {
    StartError::Config { key, reason: reason.to_string() }
}

/// What the environment tells a node about itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, unique among the nodes.
    pub node: String,
    /// The revision of its pod; empty outside Kubernetes.
    pub revision: String,
}

/// A node that listens.
pub struct Node {
    gateway: Arc<Gateway>,
    admin: Arc<Admin>,
    intake: JoinHandle<()>,
    clients: TcpListener,
    admins: TcpListener,
    /// Tasks that live as long as the node.
    background: JoinSet<()>,
}

impl Node {
    /// Opens what the configuration names. Dependencies that are away are waited for in the background.
    ///
    /// # Errors
    /// Names the key that is to blame.
    pub async fn start(config: NodeConfig, identity: Identity, metrics: PrometheusHandle) -> Result<Node, StartError> {
        let store = open_store(&config)?;
        let (sessions, redis) = open_sessions(&config, &store)?;
        let (redis, endings) = redis.unzip();
        let tokens = Tokens::new(&signing_key(&config)?, &config.auth).map_err(|(key, why)| refuse(key, why))?;
        let traces = Traces::start(config.traces.as_ref(), &identity.node).map_err(|(key, why)| refuse(key, why))?;
        let (bus, queue, incoming) = open_bus(&config, &identity.node, &traces)?;
        let clients = listen("listen.client", config.listen.client).await?;
        let admins = listen("listen.admin", config.listen.admin).await?;
        let hub = Hub::new(store.clone(), bus.clone(), traces.clone(), config.limits.ring_events);
        let signals = Signals::start(store.clone(), sessions.clone(), bus.clone(), hub.clone());
        let publish = {
            let (hub, bus, traces) = (hub.clone(), bus.clone(), traces.clone());
            Arc::new(move |mut events: Vec<crate::event::Event>| {
                traces.mark(&mut events);
                bus.publish_events(&events);
                hub.deliver(events);
            })
        };
        let health = Arc::new(Health::default());
        let (intake, taking) = Intake::spawn(intake::Parts {
            store: store.clone(),
            queue,
            health: health.clone(),
            publish,
            traces: traces.clone(),
            first: match config.persistence {
                Persistence::Direct => First::Log,
                Persistence::Queued => First::Queue,
            },
            limits: IntakeLimits {
                batch_max: config.limits.append_batch_max,
                queue_max: config.limits.append_queue_max,
                accepted_max: config.limits.accepted_sends_max,
                gap_patience: GAP_PATIENCE,
            },
        });
        let logins = Logins::start(sessions.clone(), store.clone());
        let announcements = Arc::new(Announcements::new(store.clone()));
        let stats = Arc::new(Stats::default());
        let node = identity.node;
        let gateway = Gateway::new(Parts {
            node,
            config,
            store: store.clone(),
            sessions,
            intake: intake.clone(),
            hub: hub.clone(),
            signals: signals.clone(),
            announcements: announcements.clone(),
            bus: bus.clone(),
            tokens,
            logins: logins.clone(),
            stats,
            traces,
        });
        let client_address = clients.local_addr().map_err(|source| StartError::Listen {
            key: "listen.client",
            address: gateway.config.listen.client,
            source,
        })?;
        let admin = Arc::new(Admin {
            gateway: gateway.clone(),
            drain: Arc::new(Drain::default()),
            self_tester: SelfTester::new(gateway.clone(), client_address),
            health: health.clone(),
            redis,
            metrics,
            revision: identity.revision,
            started: Instant::now(),
        });
        let mut background = JoinSet::new();
        let hearing = Hearing::new(hearing::Parts {
            hub: hub.clone(),
            intake: intake.clone(),
            signals,
            logins,
            announcements: announcements.clone(),
        });
        background.spawn(hearing.clone().look());
        background.spawn(hearing.clone().returns(health.clone()));
        if let Some(incoming) = incoming {
            background.spawn(hearing.clone().bus(incoming));
        }
        if let Some(endings) = endings {
            background.spawn(hearing.clone().sessions(endings));
        }
        background.spawn(intake.background());
        background.spawn(announcements.clone().follow());
        let kept = gateway.config.retention;
        background.spawn(retention::run(store.clone(), health.clone(), intake, kept));
        background.spawn(async move {
            health.migrate(&store).await;
            let hears = async {
                if let Some(hints) = store.hints().await {
                    hearing.store(hints).await;
                }
            };
            tokio::join!(hears, health.watch(store.clone(), bus, hub));
        });
        Ok(Node { gateway, admin, intake: taking, clients, admins, background })
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// The system's.
    pub fn client_address(&self) -> io::Result<std::net::SocketAddr> {
        self.clients.local_addr()
    }

    /// Where probes and metrics are.
    ///
    /// # Errors
    /// The system's.
    pub fn admin_address(&self) -> io::Result<std::net::SocketAddr> {
        self.admins.local_addr()
    }

    /// Serves until `shutdown` is cancelled, then drains and closes everything in order: connections, queued sends, bus, store.
    ///
    /// # Errors
    /// When a listening socket fails.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let Node { gateway, admin, intake, clients, admins, mut background } = self;
        let stop = CancellationToken::new();
        let mut servers = JoinSet::new();
        servers.spawn(gateway.clone().serve(clients, stop.clone()));
        let probes = tokio::spawn({
            let router = admin::router(admin.clone());
            async move { axum::serve(admins, router).await }
        });
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(ended) = servers.join_next() => {
                return ended.unwrap_or_else(|error| Err(io::Error::other(error)));
            }
        }
        let drain = gateway.config.drain.clone();
        let flush = Duration::from_secs(drain.flush_seconds);
        drain::run(&gateway, &admin.drain, &drain).await;
        stop.cancel();
        // Beside the goodbyes, requests that are under way are answered.
        let (_, answered) =
            tokio::join!(drain::wait_for_goodbyes(&gateway, flush), timeout(flush, servers.join_next()));
        if answered.is_err() {
            tracing::warn!("some requests were not answered in time");
        }
        background.abort_all();
        let (store, signals, traces) = (gateway.store.clone(), gateway.signals.clone(), gateway.traces.clone());
        // The intake ends once nobody can give it sends any more and all that it has are answered.
        drop((gateway, admin, servers));
        probes.abort();
        let _ = probes.await;
        let (answered, ()) = tokio::join!(timeout(flush, intake), signals.end());
        if answered.is_err() {
            tracing::warn!("some sends were not answered in time; their clients send them again");
        }
        if timeout(flush, store.close()).await.is_err() {
            tracing::warn!("the database did not answer a goodbye in time");
        }
        traces.flush(flush).await;
        tracing::info!("drained");
        Ok(())
    }
}

async fn listen(key: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { key, address, source })
}

fn open_store(config: &NodeConfig) -> Result<SharedStore, StartError> {
    let limits = StoreLimits {
        rooms_per_user_max: config.limits.rooms_per_user_max,
        members_per_room_max: config.limits.members_per_room_max,
        outbox_results_kept: config.limits.outbox_results_kept,
    };
    Ok(match &config.store {
        node_config::Store::Sqlite { path } => Arc::new(SqliteStore::new(path, limits)),
        node_config::Store::Postgres { endpoint, pool_connections_max } => {
            let key = "store.postgres.endpoint";
            let (url, ca) = connection(key, binding::Service::Postgres, endpoint)?;
            let store = PostgresStore::new(&url, ca, *pool_connections_max, limits).map_err(|why| refuse(key, why))?;
            Arc::new(store)
        }
    })
}

/// Where sessions live: in the store, or in Redis, which tells whether it is there and what other nodes have ended.
type Sessions = (SharedSessions, Option<(Reach, mpsc::Receiver<Hint>)>);

fn open_sessions(config: &NodeConfig, store: &SharedStore) -> Result<Sessions, StartError> {
    let Some(node_config::Redis { endpoint }) = &config.redis else {
        // Nothing is missed that is not there.
        Metric::RedisUp.set(1.0);
        return Ok((store.clone(), None));
    };
    let key = "redis.endpoint";
    let (url, ca) = connection(key, binding::Service::Redis, endpoint)?;
    let (sessions, endings) = RedisSessions::new(&url, ca, store.clone()).map_err(|why| refuse(key, why))?;
    let reach = sessions.reach();
    Ok((Arc::new(sessions), Some((reach, endings))))
}

/// How a node speaks with others: the bus, the durable queue, and what comes in.
type Connected = (Bus, Option<Queue>, Option<mpsc::Receiver<Incoming>>);

fn open_bus(config: &NodeConfig, node: &str, traces: &Traces) -> Result<Connected, StartError> {
    match &config.bus {
        node_config::Bus::InProcess {} => Ok((Bus::InProcess, None, None)),
        node_config::Bus::Rabbitmq { endpoint } => {
            let (url, ca) = connection("bus.rabbitmq.endpoint", binding::Service::Rabbitmq, endpoint)?;
            let server = Server::new(url, ca);
            let (bus, incoming) = Bus::rabbitmq(server.clone(), node, traces.clone());
            Ok((bus, Some(Queue::rabbitmq(server, node)), Some(incoming)))
        }
    }
}

/// The URL of an endpoint, given or made of the files of a mounted Secret, and the certificates that its server is verified with, in PEM.
fn connection(
    key: &'static str,
    service: binding::Service,
    endpoint: &Endpoint,
) -> Result<(String, Option<Vec<u8>>), StartError> {
    let folder = match endpoint {
        Endpoint::Url(url) => return Ok((url.clone(), None)),
        Endpoint::Binding(folder) => folder,
    };
    let cannot_read = |error: io::Error| refuse(key, format!("cannot read {}: {error}", folder.display()));
    let mut entries = BTreeMap::new();
    for file in fs::read_dir(folder).map_err(cannot_read)? {
        let file = file.map_err(cannot_read)?;
        // A mounted Secret also has folders, whose names begin with two dots.
        if let (Ok(name), true) = (file.file_name().into_string(), file.path().is_file()) {
            entries.insert(name, fs::read(file.path()).map_err(cannot_read)?);
        }
    }
    let connection = binding::connection(service, &entries);
    let connection = connection.map_err(|why| refuse(key, format!("{}: {why}", folder.display())))?;
    Ok((connection.url, connection.ca))
}

/// Reads the signing secret. A node on SQLite makes one beside its database the first time.
fn signing_key(config: &NodeConfig) -> Result<Vec<u8>, StartError> {
    let path = match (&config.auth.key_file, &config.store) {
        (Some(path), _) => return read_key(path),
        (None, node_config::Store::Sqlite { path }) => path.with_extension("key"),
        (None, node_config::Store::Postgres { .. }) => return Err(refuse("auth.keyFile", "is needed")),
    };
    match make_key(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(refuse("auth.keyFile", format!("cannot make {}: {error}", path.display())))
        }
        _ => read_key(&path),
    }
}

fn read_key(path: &PathBuf) -> Result<Vec<u8>, StartError> {
    let key =
        fs::read(path).map_err(|error| refuse("auth.keyFile", format!("cannot read {}: {error}", path.display())))?;
    Ok(key.trim_ascii().to_vec())
}

fn make_key(path: &Path) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // Four random UUIDs have 61 random bytes.
    let key: String = (0..4).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    file.write_all(key.as_bytes())
}

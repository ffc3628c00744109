//! Two nodes on an empty database. RabbitMQ is away: what is told here goes through the database alone.

use std::{path::Path, time::Duration};

use chat_load::{
    dial::Tcp,
    rest::{self, Call},
};
use crds::node_config::{Bus, Endpoint, Redis, Store as StoreConfig};
use metrics_exporter_prometheus::PrometheusBuilder;
use services::Services;
use tokio::time::timeout;

use super::running::{Running, loopback};

/// How long a node may take to have its tables.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// An administrator, once registered.
pub(crate) const ADMIN: &str = "root";

/// Two nodes on an empty database, and a bus that cannot be reached.
pub(crate) struct Pair {
    pub(crate) nodes: [Running; 2],
    services: Services,
    database: String,
    _folder: tempfile::TempDir,
}

impl Pair {
    pub(crate) async fn start() -> Pair {
        Pair::with_redis(None).await
    }

    /// Sessions live there, if it is given.
    pub(crate) async fn with_redis(redis: Option<&str>) -> Pair {
        let services = Services::new().unwrap();
        services.postgres.start().unwrap();
        let postgres = services.postgres.fresh_database().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "a secret for two nodes of one test").unwrap();
        let nodes = [start(0, &postgres, redis, &key).await, start(1, &postgres, redis, &key).await];
        let database = postgres.rsplit('/').next().unwrap().to_owned();
        Pair { nodes, services, database, _folder: folder }
    }

    /// Runs a statement in the database, past the nodes.
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.services.postgres.sql(&self.database, statement).unwrap()
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

async fn start(number: usize, postgres: &str, redis: Option<&str>, key: &Path) -> Running {
    let mut config = loopback();
    config.store = StoreConfig::Postgres { endpoint: Endpoint::Url(postgres.into()), pool_connections_max: 5 };
    // Nothing listens there.
    config.bus = Bus::Rabbitmq { endpoint: Endpoint::Url("amqp://guest:guest@127.0.0.1:9/%2f".into()) };
    config.redis = redis.map(|url| Redis { endpoint: Endpoint::Url(url.into()) });
    config.auth.key_file = Some(key.into());
    config.auth.admins = vec![ADMIN.into()];
    let node = Running::start(number, config, PrometheusBuilder::new().build_recorder().handle()).await;
    let admin = Tcp::new(&[&node.admin], 0).unwrap();
    let ready = async {
        let ask = Call { path: "/readyz", ..Call::default() };
        while rest::call(&admin, &ask).await.unwrap().status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(READY_WITHIN, ready).await.expect("the node is not ready in time");
    node
}

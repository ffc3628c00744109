//! Nodes that run within a test, and people who talk on them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chat_load::{
    client::{Client, Identity, Options},
    dial::Tcp,
    record::Recorder,
    rest,
};
use chat_node::{Identity as NodeIdentity, Node};
use crds::NodeConfig;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running node.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(number: usize, config: NodeConfig, metrics: PrometheusHandle) -> Running {
        let identity = NodeIdentity { node: format!("node-{number}"), revision: String::new() };
        let node = Node::start(config, identity, metrics).await.unwrap();
        let url = format!("http://{}", node.client_address().unwrap());
        let admin = format!("http://{}", node.admin_address().unwrap());
        let stop = CancellationToken::new();
        let ended = tokio::spawn({
            let stop = stop.clone();
            async move { node.run(stop).await.unwrap() }
        });
        Running { url, admin, stop, ended }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap();
    }
}

/// A node on free ports of loopback, which drains within a second.
pub(crate) fn loopback() -> NodeConfig {
    let mut config = NodeConfig::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.listen.client, config.listen.admin) = (any, any);
    config.drain.settle_seconds = 0;
    config.drain.window_seconds = 1;
    config
}

/// Somebody with an account and a connection.
pub(crate) struct Person {
    pub(crate) dial: Arc<Tcp>,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) name: String,
}

impl Person {
    /// On any of these nodes.
    pub(crate) async fn at(urls: &[&str]) -> Person {
        let dial = Arc::new(Tcp::new(urls, 0).unwrap());
        let name = format!("p{}", &Uuid::new_v4().simple().to_string()[..10]);
        let registered = async {
            // The node may still be waiting for its database.
            while rest::register(&*dial, &name, "correct horse").await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, registered).await.unwrap();
        let identity = Identity::Account { username: name.clone(), password: "correct horse".into() };
        let recorder = Recorder::default();
        let client = Client::start(Options::new(dial.clone(), identity), recorder.clone());
        timeout(PATIENCE, client.online()).await.unwrap().unwrap();
        Person { dial, client, recorder, name }
    }

    pub(crate) async fn say(&self, room: Uuid, text: &str) {
        let pending = self.client.send(room, text).await.unwrap();
        timeout(PATIENCE, pending.committed()).await.unwrap().unwrap();
    }
}

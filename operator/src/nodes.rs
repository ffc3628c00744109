//! The edge to the nodes: what is asked of them on their admin ports.
//!
//! Owns addresses and the time that an answer may take. What an answer means is decided elsewhere.

use std::time::Duration;

use async_trait::async_trait;
use crds::{NodeStatus, node_status::SelfTest};
use reqwest::StatusCode;

/// How long a node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection to a node may take. A network policy that drops what the operator sends must not hold up whoever waits for a turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node may take to test itself; it gives up earlier by itself.
const SELF_TEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Port of a node's admin server.
const ADMIN_PORT: u16 = 9090;

/// Asks nodes.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// How the node at this address is; `None` when it does not answer.
    async fn status(&self, ip: &str) -> Option<NodeStatus>;

    /// Has the node at this address test itself; `None` when it does not answer.
    async fn self_test(&self, ip: &str) -> Option<SelfTest>;
}

/// Asks nodes over HTTP.
pub struct HttpNodes {
    http: reqwest::Client,
}

impl Default for HttpNodes {
    fn default() -> Self {
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(STATUS_TIMEOUT);
        HttpNodes { http: http.no_proxy().build().unwrap_or_default() }
    }
}

#[async_trait]
impl Nodes for HttpNodes {
    async fn status(&self, ip: &str) -> Option<NodeStatus> {
        let url = format!("http://{}/status", authority(ip));
        self.http.get(url).send().await.ok()?.error_for_status().ok()?.json().await.ok()
    }

    async fn self_test(&self, ip: &str) -> Option<SelfTest> {
        let url = format!("http://{}/self-test", authority(ip));
        let answer = self.http.post(url).timeout(SELF_TEST_TIMEOUT).send().await.ok()?;
        if answer.status() == StatusCode::NOT_FOUND {
            // A node from before there were self-tests. That an operator is newer must not stop its rollouts.
            return Some(SelfTest { passed: true, ..SelfTest::default() });
        }
        answer.error_for_status().ok()?.json().await.ok()
    }
}

fn authority(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{ADMIN_PORT}") } else { format!("{ip}:{ADMIN_PORT}") }
}

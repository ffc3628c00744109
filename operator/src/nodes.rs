//! The edge to the nodes: what is asked of them on their admin ports.
//!
//! Owns addresses and the time that an answer may take. What an answer means is decided elsewhere.

use std::time::Duration;

use async_trait::async_trait;
use crds::NodeStatus;

/// How long a node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Port of a node's admin server.
const ADMIN_PORT: u16 = 9090;

/// Asks nodes.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// How the node at this address is; `None` when it does not answer.
    async fn status(&self, ip: &str) -> Option<NodeStatus>;
}

/// Asks nodes over HTTP.
pub struct HttpNodes {
    http: reqwest::Client,
}

impl Default for HttpNodes {
    fn default() -> Self {
        HttpNodes { http: reqwest::Client::builder().timeout(STATUS_TIMEOUT).no_proxy().build().unwrap_or_default() }
    }
}

#[async_trait]
impl Nodes for HttpNodes {
    async fn status(&self, ip: &str) -> Option<NodeStatus> {
        let url = format!("http://{}/status", authority(ip));
        self.http.get(url).send().await.ok()?.error_for_status().ok()?.json().await.ok()
    }
}

fn authority(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{ADMIN_PORT}") } else { format!("{ip}:{ADMIN_PORT}") }
}

//! Where everything is: folders, addresses, ports. Decides nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use daemon::Roster;

/// The bridge that pods are plugged into, and this machine's address on it.
pub(crate) const BRIDGE: &str = "localkube0";
pub(crate) const BRIDGE_ADDRESS: &str = "10.244.0.1";
pub(crate) const POD_NETWORK: &str = "10.244.0.0/24";

/// Addresses of Services. The first one is the API server's by convention.
pub(crate) const SERVICE_NETWORK: &str = "10.96.0.0/16";
pub(crate) const API_SERVICE_ADDRESS: &str = "10.96.0.1";
pub(crate) const DNS_ADDRESS: &str = "10.96.0.10";

/// Ports that a cluster made by other means does not use.
pub(crate) const API_PORT: u16 = 26443;
pub(crate) const ETCD_PORT: u16 = 26379;
pub(crate) const ETCD_PEER_PORT: u16 = 26380;

/// The name of the one node.
pub(crate) const NODE: &str = "localkube";

/// Sockets and mounts of containerd: a short path, because a socket's may have 107 bytes.
pub(crate) const RUN: &str = "/run/localkube";

/// The folders of localkube.
pub(crate) struct Layout {
    cache: PathBuf,
}

impl Layout {
    /// Under `CHATCLUSTER_CACHE`, or else `~/.cache/chatcluster`.
    pub(crate) fn new() -> Result<Self> {
        let cache = match std::env::var_os("CHATCLUSTER_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/chatcluster"),
        };
        Ok(Layout { cache })
    }

    /// Binaries that were built from source; kept.
    pub(crate) fn bin(&self) -> PathBuf {
        self.cache.join("bin")
    }

    /// What belongs to a running cluster; removed by `down`.
    pub(crate) fn state(&self) -> PathBuf {
        self.cache.join("localkube")
    }

    /// Certificates and keys.
    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.state().join("pki").join(file)
    }

    /// A user's kubeconfig.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.state().join(format!("{user}.kubeconfig"))
    }

    /// What a setting of the kernel was before the cluster came up; absent when that was right already.
    pub(crate) fn before(&self, setting: &str) -> PathBuf {
        let name = Path::new(setting).file_name().unwrap_or_default();
        self.state().join("before").join(name)
    }

    /// Who wrote what to the API server.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.state().join("audit.log")
    }

    /// The background processes.
    pub(crate) fn roster(&self) -> Roster {
        Roster::new(self.state().join("run"), self.state().join("log"))
    }

    /// containerd's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        Path::new(RUN).join("containerd.sock")
    }
}

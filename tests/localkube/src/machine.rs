//! What the machine has to be and to have, told before anything is changed.

use std::path::Path;

use anyhow::{Result, bail};

/// Files that the cluster needs, and the Debian package that brings each.
const NEEDED: [(&str, &str); 6] = [
    ("/usr/bin/containerd", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/sbin/conntrack", "conntrack"),
];

/// Checks that this is Linux, that we are root and that the packages are there.
pub(crate) fn check() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!(
            "a kubelet needs Linux: use kind (https://kind.sigs.k8s.io) here, or set CHATCLUSTER_CONTEXT to a cluster"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("a kubelet needs root: run this as root, or use kind, or set CHATCLUSTER_CONTEXT to a cluster");
    }
    let missing: Vec<&str> =
        NEEDED.into_iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, package)| package).collect();
    if !missing.is_empty() {
        bail!("packages are missing; install them with: apt-get install {}", missing.join(" "));
    }
    Ok(())
}

//! What the machine has to be and to have, told before anything is changed.

use std::{fs::File, path::Path};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// One cluster a machine, and one hand at a time on it.
const LOCK: &str = "/run/localkube.lock";

/// Files that the cluster needs, and the Debian package that brings each.
const NEEDED: [(&str, &str); 5] = [
    ("/usr/bin/containerd", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/sbin/nft", "nftables"),
    ("/sbin/ip", "iproute2"),
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

/// Waits until no other run brings a cluster up or down; holds until dropped.
pub(crate) fn lock() -> Result<File> {
    let file = File::create(LOCK).with_context(|| format!("cannot write {LOCK}"))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        println!("localkube: waiting for another run to end");
        flock(&file, FlockOperation::LockExclusive)?;
    }
    Ok(file)
}

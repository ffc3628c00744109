//! The cluster's processes: in which order they start, with which flags, and how they end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use daemon::{Process, Signal, until};

use crate::{
    certificates, image,
    layout::{
        API_PORT, BRIDGE, BRIDGE_ADDRESS, DNS_ADDRESS, ETCD_PEER_PORT, ETCD_PORT, Layout, NODE, POD_NETWORK, RUN,
        SERVICE_NETWORK,
    },
};

/// In the order in which they start; they end in the opposite one.
const PROCESSES: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet", "kube-proxy"];

/// Images that the cluster itself needs.
const PAUSE_IMAGE: &str = "localkube/pause:1";
const COREDNS_IMAGE: &str = "localkube/coredns:1";

/// Volumes that tests can claim.
const VOLUMES: usize = 8;

/// How long anything may take to become ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a process has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Brings everything up, unless it is.
pub(crate) fn up(layout: &Layout) -> Result<()> {
    let roster = layout.roster();
    if PROCESSES.iter().all(|name| roster.find(name).is_some()) {
        return wait_ready(layout);
    }
    down(layout)?;
    fs::create_dir_all(layout.state())?;
    certificates::make(layout)?;
    make_bridge()?;
    write_configuration(layout)?;
    for name in PROCESSES {
        roster.start(name, &mut command(layout, name))?;
        match name {
            "kube-apiserver" => roster.wait_ready(name, PATIENCE, || {
                kubectl(layout, &["get", "--raw", "/readyz"]).ok()?;
                Some(())
            })?,
            "containerd" => {
                roster.wait_ready(name, PATIENCE, || ctr(layout).arg("version").quiet().then_some(()))?;
                load_own_images(layout)?;
            }
            _ => {}
        }
    }
    apply(layout, include_str!("../manifests/storage-class.yaml"))?;
    make_volumes(layout)?;
    let coredns = include_str!("../manifests/coredns.yaml");
    apply(layout, &coredns.replace("${DNS_ADDRESS}", DNS_ADDRESS).replace("${COREDNS_IMAGE}", COREDNS_IMAGE))?;
    wait_ready(layout)
}

/// Ends everything and removes what it left; what was built and cached stays.
pub(crate) fn down(layout: &Layout) -> Result<()> {
    let roster = layout.roster();
    let first_without_containers = ["kube-proxy", "kubelet"];
    for name in first_without_containers {
        roster.stop(name, Signal::TERM, GRACE)?;
    }
    // A shim carries the address of its containerd, so these are ours; the containers descend from them.
    let socket = layout.socket();
    let is_our_shim = |arguments: &[&str]| {
        arguments.first().is_some_and(|program| program.ends_with("containerd-shim-runc-v2"))
            && arguments.iter().any(|argument| Path::new(argument) == socket)
    };
    for shim in Process::all_with_arguments(is_our_shim) {
        shim.kill_tree()?;
    }
    for name in PROCESSES.iter().rev().filter(|name| !first_without_containers.contains(name)) {
        roster.stop(name, Signal::TERM, GRACE)?;
    }
    unmount_below(&[Path::new(RUN), &layout.state()])?;
    for folder in [Path::new(RUN), &layout.state()] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    for family in ["ip", "ip6"] {
        Command::new("nft").args(["delete", "table", family, "kube-proxy"]).quiet();
    }
    Command::new("ip").args(["link", "delete", BRIDGE]).quiet();
    Ok(())
}

/// Tells what runs, where, and how much memory it takes.
pub(crate) fn status(layout: &Layout) {
    let roster = layout.roster();
    for name in PROCESSES {
        match roster.find(name) {
            Some(process) => {
                println!("{name:<24} process {:<8} {:>5} MB", process.id, process.resident_bytes() / 1_000_000);
            }
            None => println!("{name:<24} not running"),
        }
    }
    println!("kubeconfig               {}", layout.kubeconfig("admin").display());
    println!("audit log                {}", layout.audit_log().display());
    println!("pods reach this machine  {BRIDGE_ADDRESS}");
}

/// Imports archives that are not known yet.
pub(crate) fn load_images(layout: &Layout, archives: &[PathBuf]) -> Result<()> {
    let loaded = layout.state().join("images");
    fs::create_dir_all(&loaded)?;
    for archive in archives {
        let (names, digest) = image::inspect(archive)?;
        let record = loaded.join(&digest);
        if record.exists() && fs::read_to_string(&record)? == names.join(" ") {
            println!("localkube: {} is loaded", names.join(" "));
            continue;
        }
        let status = ctr(layout).args(["images", "import"]).arg(archive).stdout(Stdio::null()).status()?;
        if !status.success() {
            bail!("cannot load {}: is the cluster up?", archive.display());
        }
        fs::write(record, names.join(" "))?;
        println!("localkube: loaded {}", names.join(" "));
    }
    Ok(())
}

fn load_own_images(layout: &Layout) -> Result<()> {
    let mut archives = Vec::new();
    for (name, binary) in [(PAUSE_IMAGE, "pause"), (COREDNS_IMAGE, "coredns")] {
        let archive = layout.state().join(format!("{binary}.tar"));
        image::build(name, &layout.bin().join(binary), &archive)?;
        archives.push(archive);
    }
    load_images(layout, &archives)
}

/// The flags of each process.
fn command(layout: &Layout, name: &str) -> Command {
    let mut command = match name {
        "containerd" => Command::new("containerd"),
        part => Command::new(layout.bin().join(part)),
    };
    let state = |file: &str| layout.state().join(file).display().to_string();
    let pki = |file: &str| layout.pki(file).display().to_string();
    let kubeconfig = format!("--kubeconfig={}", layout.kubeconfig(name).display());
    let flags = match name {
        "etcd" => vec![
            format!("--data-dir={}", state("etcd")),
            format!("--listen-client-urls=http://127.0.0.1:{ETCD_PORT}"),
            format!("--advertise-client-urls=http://127.0.0.1:{ETCD_PORT}"),
            format!("--listen-peer-urls=http://127.0.0.1:{ETCD_PEER_PORT}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{ETCD_PEER_PORT}"),
            format!("--initial-cluster=default=http://127.0.0.1:{ETCD_PEER_PORT}"),
            // The cluster is empty after every start anyway.
            "--unsafe-no-fsync".into(),
        ],
        "kube-apiserver" => vec![
            format!("--etcd-servers=http://127.0.0.1:{ETCD_PORT}"),
            format!("--secure-port={API_PORT}"),
            // Loopback is not allowed here: pods reach the server at this address.
            format!("--advertise-address={BRIDGE_ADDRESS}"),
            format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
            format!("--kubelet-client-key={}", pki("kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", pki("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            format!("--audit-policy-file={}", state("audit-policy.yaml")),
            format!("--audit-log-path={}", layout.audit_log().display()),
        ],
        "kube-controller-manager" => vec![
            kubeconfig,
            "--leader-elect=false".into(),
            "--use-service-account-credentials".into(),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--service-account-private-key-file={}", pki("service-accounts.key")),
        ],
        "kube-scheduler" => vec![kubeconfig, "--leader-elect=false".into()],
        "containerd" => vec![format!("--config={}", state("containerd.toml"))],
        "kubelet" => vec![
            kubeconfig,
            format!("--config={}", state("kubelet.yaml")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={BRIDGE_ADDRESS}"),
            format!("--root-dir={}", state("kubelet")),
            format!("--cert-dir={}", state("kubelet-pki")),
        ],
        _ => vec![format!("--config={}", state("kube-proxy.yaml"))],
    };
    command.args(flags);
    command
}

fn write_configuration(layout: &Layout) -> Result<()> {
    let fill = |text: &str| {
        text.replace("${STATE}", &layout.state().display().to_string())
            .replace("${RUN}", RUN)
            .replace("${BRIDGE}", BRIDGE)
            .replace("${POD_NETWORK}", POD_NETWORK)
            .replace("${DNS_ADDRESS}", DNS_ADDRESS)
            .replace("${NODE}", NODE)
            .replace("${PAUSE_IMAGE}", PAUSE_IMAGE)
    };
    let files = [
        ("audit-policy.yaml", include_str!("../manifests/audit-policy.yaml")),
        ("containerd.toml", include_str!("../manifests/containerd.toml")),
        ("kubelet.yaml", include_str!("../manifests/kubelet.yaml")),
        ("kube-proxy.yaml", include_str!("../manifests/kube-proxy.yaml")),
        ("cni/10-localkube.conflist", include_str!("../manifests/cni.json")),
        // Pods look names up in the cluster's DNS, and nowhere else.
        ("resolv.conf", ""),
    ];
    for (name, text) in files {
        let file = layout.state().join(name);
        fs::create_dir_all(file.parent().context("a file has a folder")?)?;
        fs::write(file, fill(text))?;
    }
    Ok(())
}

fn make_bridge() -> Result<()> {
    let address = format!("{BRIDGE_ADDRESS}/24");
    let steps: [&[&str]; 3] = [
        &["link", "add", BRIDGE, "type", "bridge"],
        &["address", "add", &address, "dev", BRIDGE],
        &["link", "set", BRIDGE, "up"],
    ];
    for step in steps {
        let done = Command::new("ip").args(step).output().context("ip is missing: apt-get install iproute2")?;
        if !done.status.success() {
            bail!("ip {}: {}", step.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot allow forwarding between pods")
}

fn make_volumes(layout: &Layout) -> Result<()> {
    let mut manifests = String::new();
    for number in 0..VOLUMES {
        let (name, path) = (format!("local-{number}"), layout.state().join(format!("volumes/{number}")));
        fs::create_dir_all(&path)?;
        let volume = include_str!("../manifests/volume.yaml");
        manifests += &volume.replace("${NAME}", &name).replace("${PATH}", &path.display().to_string());
        manifests += "\n---\n";
    }
    apply(layout, &manifests)
}

fn wait_ready(layout: &Layout) -> Result<()> {
    let ready = |what: &str, arguments: &[&str]| {
        until(PATIENCE, || kubectl(layout, arguments).ok().filter(|out| out.trim() == "True" || out.trim() == "1"))
            .map_err(|limit| {
                anyhow::anyhow!("{what} is not ready {limit}: see {}", layout.state().join("log").display())
            })
    };
    let node = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    ready("the node", &["get", "node", NODE, "-o", node])?;
    let dns = "jsonpath={.status.readyReplicas}";
    ready("CoreDNS", &["get", "deployment", "coredns", "-n", "kube-system", "-o", dns])?;
    Ok(())
}

fn kubectl(layout: &Layout, arguments: &[&str]) -> Result<String> {
    let out = Command::new(layout.bin().join("kubectl"))
        .arg("--kubeconfig")
        .arg(layout.kubeconfig("admin"))
        .args(arguments)
        .output()?;
    if !out.status.success() {
        bail!("kubectl: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8(out.stdout)?)
}

fn apply(layout: &Layout, manifest: &str) -> Result<()> {
    let file = layout.state().join("apply.yaml");
    fs::write(&file, manifest)?;
    let file = file.display().to_string();
    // The first writes can come before the API server has all that it makes for itself.
    until(PATIENCE, || kubectl(layout, &["apply", "-f", &file]).ok())
        .map(drop)
        .map_err(|limit| anyhow::anyhow!("{file} cannot be applied {limit}"))
}

fn ctr(layout: &Layout) -> Command {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(layout.socket()).args(["--namespace", "k8s.io"]);
    ctr
}

/// Unmounts what is mounted below these folders, the latest first.
fn unmount_below(folders: &[&Path]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let points: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| folders.iter().any(|folder| point.starts_with(folder)))
        .collect();
    for point in points.iter().rev() {
        rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

trait Quiet {
    /// Runs without a word; tells whether it succeeded.
    fn quiet(&mut self) -> bool;
}

impl Quiet for Command {
    fn quiet(&mut self) -> bool {
        let run = self.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    }
}

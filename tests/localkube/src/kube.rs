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
    leftovers, machine, volumes,
};

/// In the order in which they start; they end in the opposite one.
const PROCESSES: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet", "kube-proxy"];

/// Images that the cluster itself needs.
const PAUSE_IMAGE: &str = "localkube/pause:1";
const COREDNS_IMAGE: &str = "localkube/coredns:1";

/// Forwarding between pods, Services and this machine.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Pods share a bridge: without this, an answer that stays on it goes past the translation of the Service's address.
const BRIDGE_FILTERING: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// How long anything may take to become ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a process has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Brings everything up, unless it is.
pub(crate) fn up(layout: &Layout) -> Result<()> {
    let _lock = machine::lock()?;
    let roster = layout.roster();
    if PROCESSES.iter().all(|name| roster.find(name).is_some()) {
        wait_ready(layout)?;
        return offer_volumes_again(layout);
    }
    end(layout)?;
    fs::create_dir_all(layout.state())?;
    certificates::make(layout)?;
    make_bridge(layout)?;
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
    apply(layout, &volumes::prepare(layout)?)?;
    let coredns = include_str!("../manifests/coredns.yaml");
    apply(layout, &coredns.replace("${DNS_ADDRESS}", DNS_ADDRESS).replace("${COREDNS_IMAGE}", COREDNS_IMAGE))?;
    wait_ready(layout)
}

/// Ends everything and removes what it left; what was built and cached stays.
pub(crate) fn down(layout: &Layout) -> Result<()> {
    let _lock = machine::lock()?;
    end(layout)
}

/// Works whatever is there, from a whole cluster to what a power cut left of one.
fn end(layout: &Layout) -> Result<()> {
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
    leftovers::unmount_below(&[Path::new(RUN), &layout.state()])?;
    leftovers::remove_cgroups()?;
    for setting in [FORWARDING, BRIDGE_FILTERING] {
        leftovers::restore_kernel(Path::new(setting), &layout.before(setting))?;
    }
    for folder in [Path::new(RUN), &layout.state()] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    leftovers::remove_proxy_tables();
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
    if layout.roster().find("containerd").is_none() {
        bail!("the cluster is not up: run `localkube up` first");
    }
    let loaded = layout.state().join("images");
    fs::create_dir_all(&loaded)?;
    for archive in archives {
        let (names, digest) = image::inspect(archive)?;
        // Named by what was imported and holding what came of it: each name may have been given to another image since.
        let record = loaded.join(&digest);
        if fs::read_to_string(&record).is_ok_and(|targets| targets == image_targets(layout, &names)) {
            println!("localkube: {} is loaded", names.join(" "));
            continue;
        }
        let status = ctr(layout).args(["images", "import"]).arg(archive).stdout(Stdio::null()).status()?;
        if !status.success() {
            bail!("cannot load {}", archive.display());
        }
        fs::write(record, image_targets(layout, &names))?;
        println!("localkube: loaded {}", names.join(" "));
    }
    Ok(())
}

/// The digest behind each name, one a line; a name that is not known has no line.
fn image_targets(layout: &Layout, names: &[String]) -> String {
    let known = ctr(layout).args(["images", "list"]).output().map(|out| out.stdout).unwrap_or_default();
    let known = String::from_utf8_lossy(&known).into_owned();
    // The columns are name, media type and digest.
    let lines = known.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = lines.filter(|line| line.len() > 2 && names.iter().any(|name| name == line[0]));
    ours.map(|line| format!("{} {}\n", line[0], line[2])).collect()
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
            // A benchmark with a thousand StatefulSets is not to measure how slowly their controller may ask by default: 20 a second.
            "--kube-api-qps=200".into(),
            "--kube-api-burst=400".into(),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--service-account-private-key-file={}", pki("service-accounts.key")),
        ],
        "kube-scheduler" => {
            vec![kubeconfig, "--leader-elect=false".into(), "--kube-api-qps=200".into(), "--kube-api-burst=400".into()]
        }
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

fn make_bridge(layout: &Layout) -> Result<()> {
    let address = format!("{BRIDGE_ADDRESS}/24");
    let steps: [&[&str]; 4] = [
        &["link", "add", BRIDGE, "type", "bridge"],
        &["address", "add", &address, "dev", BRIDGE],
        &["link", "set", BRIDGE, "up"],
        // This machine reaches Services even when it has no default route.
        &["route", "add", SERVICE_NETWORK, "dev", BRIDGE],
    ];
    for step in steps {
        let done = Command::new("ip").args(step).output().context("ip is missing: apt-get install iproute2")?;
        if !done.status.success() {
            bail!("ip {}: {}", step.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
    }
    // Where it is a module, it is not there until somebody asks for it.
    Command::new("modprobe").arg("br_netfilter").quiet();
    for setting in [FORWARDING, BRIDGE_FILTERING] {
        leftovers::set_kernel(Path::new(setting), "1", &layout.before(setting))?;
    }
    Ok(())
}

/// Gives volumes whose claims are gone to the next ones.
fn offer_volumes_again(layout: &Layout) -> Result<()> {
    let list = kubectl(layout, &["get", "persistentvolumes", "-o", "json"])?;
    for name in volumes::released(&serde_json::from_str(&list)?) {
        kubectl(layout, &["delete", "persistentvolume", &name])?;
        apply(layout, &volumes::prepare_one(layout, &name)?)?;
    }
    Ok(())
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

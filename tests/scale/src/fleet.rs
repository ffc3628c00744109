//! Machines that only pretend: Node objects, a kubelet that says of each pod what a kubelet would, and one chat node that answers for
//! all of them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use axum::{Json, Router, routing::get};
use crds::NodeStatus;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval},
};

use crate::clusters::NAMESPACE;

/// The label of a pretended machine.
pub(crate) const LABEL: &str = "chatcluster.dev/pretended";
/// Its taint: nothing else is to be put there.
pub(crate) const TAINT: &str = "chatcluster.dev/pretended";

/// What the API server lets a kubelet have, and a little more.
const PODS_A_MACHINE: usize = 250;
/// Where the operator asks a chat node.
const NODE_ADMIN_PORT: u16 = 9090;
/// A kubelet renews its lease this often by default.
const LEASE_RENEWAL: Duration = Duration::from_secs(10);
/// Pods that are served at once.
const AT_ONCE: usize = 32;
const MANAGER: &str = "scale";

/// The machines; they end when this is dropped.
pub(crate) struct Fleet {
    nodes: Api<Node>,
    count: usize,
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// As many machines as `pods` need, whose chat nodes answer at `host`.
    pub(crate) async fn start(client: Client, host: IpAddr, pods: usize) -> Result<Fleet> {
        let nodes: Api<Node> = Api::all(client.clone());
        let count = pods.div_ceil(PODS_A_MACHINE) + 1;
        for index in 0..count {
            make(&nodes, &machine(index)).await?;
        }
        let address = SocketAddr::from((host, NODE_ADMIN_PORT));
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // It ends with the process only.
            let _ = axum::serve(listener, chat_node()).await;
        });
        tasks.spawn(kubelet(Api::namespaced(client.clone(), NAMESPACE), host));
        tasks.spawn(renew(Api::namespaced(client, "kube-node-lease"), count));
        Ok(Fleet { nodes, count, _tasks: tasks })
    }

    /// Removes the machines.
    pub(crate) async fn end(self) {
        for index in 0..self.count {
            // One that is gone already is no loss.
            let _ = self.nodes.delete(&machine(index), &DeleteParams::default()).await;
        }
    }
}

fn machine(index: usize) -> String {
    format!("pretended-{index}")
}

async fn make(nodes: &Api<Node>, name: &str) -> Result<()> {
    let params = PatchParams::apply(MANAGER).force();
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: "true", "kubernetes.io/hostname": name}},
        "spec": {"taints": [{"key": TAINT, "value": "true", "effect": "NoSchedule"}]},
    });
    nodes.patch(name, &params, &Patch::Apply(&node)).await.with_context(|| format!("make the machine {name}"))?;
    let room = json!({"cpu": "1000", "memory": "1000Gi", "pods": (PODS_A_MACHINE * 2).to_string()});
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Pretended", "message": "it only pretends",
        "lastHeartbeatTime": Timestamp::now(), "lastTransitionTime": Timestamp::now(),
    });
    let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [ready]}});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

/// Keeps the machines alive in the eyes of the node controller.
async fn renew(leases: Api<Lease>, count: usize) {
    let mut ticks = interval(LEASE_RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for name in (0..count).map(machine) {
            let now = format!("{:.6}", Timestamp::now());
            let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now});
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec});
            // The next renewal is soon.
            let _ = leases.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&lease)).await;
        }
    }
}

/// Says of each pod of a pretended machine that it runs and is ready, and lets it go when it is deleted.
async fn kubelet(pods: Api<Pod>, host: IpAddr) {
    let ours = watcher::Config::default().labels("app.kubernetes.io/managed-by=chatcluster-operator");
    let events = watcher(pods.clone(), ours).default_backoff().touched_objects();
    // The watch goes on by itself after an error.
    let pods_seen = events.filter_map(|pod| std::future::ready(pod.ok()));
    pods_seen.for_each_concurrent(AT_ONCE, |pod| serve(&pods, host, pod)).await;
}

/// What fails here comes again with the pod's next event.
async fn serve(pods: &Api<Pod>, host: IpAddr, pod: Pod) {
    let is_assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let runs = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
    } else if is_assigned && !runs {
        let now = Timestamp::now();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
        let conditions = ["Initialized", "ContainersReady", "Ready"].map(condition);
        let status = json!({"status": {
            "phase": "Running", "podIP": host, "podIPs": [{"ip": host}], "startTime": now,
            "conditions": conditions,
            "containerStatuses": [{
                "name": "chat-node", "ready": true, "started": true, "restartCount": 0, "image": "pretended", "imageID": "pretended",
                "state": {"running": {"startedAt": now}},
            }],
        }});
        let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&status)).await;
    }
}

/// The one chat node that answers for all.
fn chat_node() -> Router {
    let up = |kind: &str| crds::node_status::Dependency { kind: kind.into(), up: true, error: None };
    let status = NodeStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        store: up("sqlite"),
        bus: up("in-process"),
        ..NodeStatus::default()
    };
    Router::new().route("/status", get(move || std::future::ready(Json(status.clone()))))
}

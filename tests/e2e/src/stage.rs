//! The cluster under test: the operator's release and its namespace, and the tools to look at it.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use chat_load::dial::Dial;
use crds::{ChatCluster, chatcluster::RolloutPhase};
use daemon::{Process, Signal};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::Value;
use services::Services;
use tokio::time::{Instant, sleep};

use crate::dial::ToNode;

/// The release and the namespaces of the suite: its own, so that it can share a cluster.
pub const RELEASE: &str = "chatcluster-e2e";
/// Where the operator runs.
pub const OPERATOR_NAMESPACE: &str = "chatcluster-e2e-system";
/// Where the clusters are made.
pub const NAMESPACE: &str = "chatcluster-e2e";
/// Where a cluster of the same name is made.
pub const OTHER_NAMESPACE: &str = "chatcluster-e2e-other";

/// The bound cluster that several claims share.
pub const BOUND: &str = "demo";
/// The database and the virtual host of its nodes, named as those that nobody wants back.
pub const DATABASE: &str = "test_e2e";

/// How long anything on Kubernetes may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Everything that a claim needs.
pub struct Stage {
    /// The cluster.
    pub client: Client,
    /// PostgreSQL and RabbitMQ.
    pub services: Services,
    host: String,
    node_image: String,
    operator_image: String,
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run the suite by make e2e"))
}

impl Stage {
    /// Connects to the cluster that the environment names, and starts the servers that nodes are bound to.
    ///
    /// # Errors
    /// When something is missing.
    pub async fn new() -> Result<Stage> {
        let client = Client::try_default().await.context("no cluster: KUBECONFIG has to name it")?;
        let services = Services::new()?;
        services.up()?;
        Ok(Stage {
            client,
            services,
            host: variable("CHATCLUSTER_HOST_ADDRESS")?,
            node_image: variable("CHATCLUSTER_NODE_IMAGE")?,
            operator_image: variable("CHATCLUSTER_OPERATOR_IMAGE")?,
        })
    }

    /// Installs the operator with its chart, or upgrades it; `values` are set beside the usual ones.
    ///
    /// # Errors
    /// Helm's.
    pub fn install(&self, values: &[&str]) -> Result<()> {
        for name in [NAMESPACE, OTHER_NAMESPACE] {
            let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            apply(&namespace)?;
        }
        let image = |value: &str, image: &str| {
            let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
            format!("{value}.repository={repository},{value}.tag={tag}")
        };
        run(Command::new("helm")
            .args(["upgrade", "--install", RELEASE, "helm/chatcluster-operator", "--namespace", OPERATOR_NAMESPACE])
            .args(["--create-namespace", "--take-ownership", "--wait", "--timeout", "3m"])
            .args(["--set", &image("image", &self.operator_image), "--set", &image("nodeImage", &self.node_image)])
            .args(["--set", &format!("watchNamespaces={{{NAMESPACE},{OTHER_NAMESPACE}}},rbac.serviceBindings=true")])
            .args(values.iter().flat_map(|value| ["--set", value]))
            .current_dir(tree::root()))
        .map(drop)
    }

    /// Makes a bound cluster of three nodes, unless it is there, and waits until it is at rest.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn bound(&self) -> Result<()> {
        let postgres = self.services.postgres.database(DATABASE, &self.host)?;
        let rabbitmq = self.services.rabbitmq.vhost(DATABASE, &self.host)?;
        apply(&secret("postgres", &[("uri", &postgres)]))?;
        apply(&secret("rabbitmq", &[("uri", &rabbitmq)]))?;
        let spec = serde_json::json!({
            "replicas": 3,
            "postgres": {"secret": {"name": "postgres"}},
            "rabbitmq": {"secret": {"name": "rabbitmq"}},
            "updateStrategy": {"drainSeconds": 3, "soakSeconds": 2},
        });
        apply(&chat_cluster(BOUND, spec))?;
        self.at_rest(BOUND, 3).await
    }

    /// The Postgres URL of the bound cluster, for another role.
    pub fn postgres_url(&self, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@{}:25432/{DATABASE}", self.host)
    }

    /// The address at which pods reach this machine.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Waits until a cluster is ready and its rollout stable, with exactly so many pods.
    ///
    /// # Errors
    /// When it is not in time, with what it was; at once when its rollout has failed and waits for a person.
    pub async fn at_rest(&self, name: &str, nodes: usize) -> Result<()> {
        let failure = self
            .until(&format!("{name} to be at rest with {nodes} nodes"), || async {
                let cluster = self.cluster(name).await?;
                let status = cluster.status.unwrap_or_default();
                let rollout = status.rollout.unwrap_or_default();
                if status.observed_generation != cluster.metadata.generation {
                    return Ok(None);
                }
                if rollout.phase == RolloutPhase::Paused && !rollout.failure.is_empty() {
                    return Ok(Some(rollout.failure));
                }
                let ready =
                    status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
                let pods = self.pods(name).await?;
                let there = pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none());
                let rests = rollout.phase == RolloutPhase::Stable && ready && there && pods.len() == nodes;
                Ok(rests.then(String::new))
            })
            .await?;
        ensure!(failure.is_empty(), "the rollout of {name} has failed: {failure}");
        Ok(())
    }

    /// Kills a node without a word: its process gets SIGKILL. Waits until it, or another in its place, serves again. Where the process is
    /// not on this machine, the pod is deleted without waiting for it, which is the nearest that Kubernetes itself offers.
    ///
    /// # Errors
    /// When nothing serves in its place in time.
    pub async fn kill_node(&self, pod: &str) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let before = incarnation(&api.get(pod).await?);
        let processes = Process::all_with_arguments(|arguments| arguments.first() == Some(&"/chat-node"));
        let uid = &before.0;
        // A container's control group is named by its pod.
        let in_pod = |process: &&Process| {
            let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", process.id)).unwrap_or_default();
            groups.contains(uid.as_str()) || groups.contains(&uid.replace('-', "_"))
        };
        match processes.iter().find(in_pod) {
            Some(process) => process.signal(Signal::KILL)?,
            None => drop(kubectl(&["-n", NAMESPACE, "delete", "pod", pod, "--grace-period=0", "--force"])?),
        }
        self.until(&format!("{pod} to serve again"), || async {
            let Some(made) = api.get_opt(pod).await? else { return Ok(None) };
            let conditions = made.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
            let ready = ready.any(|condition| condition.status == "True");
            Ok((incarnation(&made) != before && ready).then_some(()))
        })
        .await
    }

    /// A cluster's resource.
    ///
    /// # Errors
    /// The API server's.
    pub async fn cluster(&self, name: &str) -> Result<ChatCluster> {
        Ok(Api::namespaced(self.client.clone(), NAMESPACE).get(name).await?)
    }

    /// A cluster's pods.
    ///
    /// # Errors
    /// The API server's.
    pub async fn pods(&self, name: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(api.list(&ListParams::default().labels(&format!("app.kubernetes.io/instance={name}"))).await?.items)
    }

    /// A condition of a cluster: status, reason, message.
    ///
    /// # Errors
    /// The API server's.
    pub async fn condition(&self, name: &str, type_: &str) -> Result<Option<(String, String, String)>> {
        let status = self.cluster(name).await?.status.unwrap_or_default();
        let found = status.conditions.into_iter().find(|condition| condition.type_ == type_);
        Ok(found.map(|condition| (condition.status, condition.reason, condition.message)))
    }

    /// The way to any ready node of a cluster.
    pub fn service(&self, name: &str) -> Arc<dyn Dial> {
        ToNode::behind(&self.client, NAMESPACE, name)
    }

    /// The ways to a cluster's pods, one each.
    ///
    /// # Errors
    /// The API server's.
    pub async fn each_pod(&self, name: &str) -> Result<Vec<Arc<dyn Dial>>> {
        let pods = self.pods(name).await?;
        Ok(pods.iter().map(|pod| ToNode::pod(&self.client, NAMESPACE, &pod.name_any())).collect())
    }

    /// Looks again and again until something is so.
    ///
    /// # Errors
    /// When it is not in time. An error of a look counts as not yet.
    pub async fn until<T, F: Future<Output = Result<Option<T>>>>(
        &self,
        what: &str,
        mut look: impl FnMut() -> F,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match look().await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) if Instant::now() < deadline => {}
                Err(_) if Instant::now() < deadline => {}
                Ok(None) => bail!("waited in vain for {what}"),
                Err(error) => return Err(error.context(format!("waited in vain for {what}"))),
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// What one wants to see when a claim failed.
    pub fn diagnosis(&self) -> String {
        let looks: [&[&str]; 4] = [
            &["-n", NAMESPACE, "get", "chatclusters,statefulsets,pods,services", "-o", "wide"],
            &[
                "-n",
                NAMESPACE,
                "get",
                "chatclusters",
                "-o",
                "jsonpath={range .items[*]}{.metadata.name}{' '}{.status}{'\\n'}{end}",
            ],
            &["-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp"],
            &[
                "-n",
                OPERATOR_NAMESPACE,
                "logs",
                "--selector",
                "app.kubernetes.io/instance=chatcluster-e2e",
                "--tail=40",
            ],
        ];
        looks.iter().map(|look| kubectl(look).unwrap_or_else(|error| error.to_string())).collect::<Vec<_>>().join("\n")
    }
}

/// Which life of a pod this is: its id, and how often its container was started again.
fn incarnation(pod: &Pod) -> (String, i32) {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    (pod.uid().unwrap_or_default(), containers.map(|container| container.restart_count).sum())
}

/// A `ChatCluster` as JSON.
pub fn chat_cluster(name: &str, spec: Value) -> Value {
    serde_json::json!({
        "apiVersion": "chatcluster.dev/v1alpha1",
        "kind": "ChatCluster",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    })
}

/// A Secret as JSON.
pub fn secret(name: &str, entries: &[(&str, &str)]) -> Value {
    let entries: serde_json::Map<String, Value> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": entries,
    })
}

/// `kubectl apply` of an object.
///
/// # Errors
/// With what `kubectl` says.
pub fn apply(object: &Value) -> Result<String> {
    kubectl_with(&["apply", "-f", "-"], &object.to_string())
}

/// Runs `kubectl`.
///
/// # Errors
/// With what it says.
pub fn kubectl(arguments: &[&str]) -> Result<String> {
    run(Command::new("kubectl").args(arguments))
}

/// Runs `kubectl` with an input.
///
/// # Errors
/// With what it says.
pub fn kubectl_with(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("kubectl is missing")?;
    child.stdin.take().context("kubectl takes no input")?.write_all(input.as_bytes())?;
    told(child.wait_with_output()?, "kubectl")
}

/// Runs a command to its end.
///
/// # Errors
/// With what it says.
pub fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    told(command.output().with_context(|| format!("{program} is missing"))?, &program)
}

fn told(output: std::process::Output, program: &str) -> Result<String> {
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

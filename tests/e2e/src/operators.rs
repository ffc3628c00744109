//! The operators that bindings are tested with: their real CRDs, and they themselves as processes of this machine, where
//! `tests/setup/operators build` has built them. They write their Secrets without a running pod.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::stage::{NAMESPACE, OPERATOR_NAMESPACE, kubectl, run};

/// How often a CRD is waited for, a few seconds each time.
const ATTEMPTS: usize = 12;
/// Time between attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// CloudNativePG's `Cluster`.
pub const POSTGRES_CRD: &str = "postgresql.cnpg.io_clusters.yaml";
/// The RabbitMQ Cluster Operator's `RabbitmqCluster`.
pub const RABBITMQ_CRD: &str = "rabbitmq.com_rabbitmqclusters.yaml";

fn folder() -> Result<PathBuf> {
    Ok(PathBuf::from(std::env::var("CHATCLUSTER_CACHE").context("CHATCLUSTER_CACHE is not set")?).join("operators"))
}

/// Installs a CRD of theirs, as their modules hold it.
///
/// # Errors
/// With what `kubectl` says.
pub fn install(crd: &str) -> Result<()> {
    let file = folder()?.join("crds").join(crd);
    let file = file.to_str().context("a path that is text")?;
    kubectl(&["apply", "--server-side", "--force-conflicts", "-f", file])?;
    // A CRD that was made just now has `conditions: null`, of which `kubectl wait` says that it is no list.
    for _ in 1..ATTEMPTS {
        if kubectl(&["wait", "--for=condition=Established", "--timeout=5s", "-f", file]).is_ok() {
            return Ok(());
        }
        sleep(PAUSE);
    }
    kubectl(&["wait", "--for=condition=Established", "--timeout=5s", "-f", file]).map(drop)
}

/// Removes a CRD, and with it every object of its kind.
///
/// # Errors
/// With what `kubectl` says.
pub fn remove(crd: &str) -> Result<()> {
    let (group, plural) = crd.trim_end_matches(".yaml").split_once('_').context("group_plural.yaml")?;
    kubectl(&["delete", "customresourcedefinition", &format!("{plural}.{group}"), "--ignore-not-found"]).map(drop)
}

/// An operator that runs until it is dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts both operators, or tells that they are not built.
///
/// # Errors
/// When one is there and cannot be started.
pub fn start() -> Result<Option<[Running; 2]>> {
    let programs = folder()?.join("bin");
    let [postgres, rabbitmq] = ["cloudnative-pg", "rabbitmq-cluster-operator"].map(|name| programs.join(name));
    if !postgres.is_file() || !rabbitmq.is_file() {
        return Ok(None);
    }
    for file in std::fs::read_dir(folder()?.join("crds"))? {
        install(file?.file_name().to_str().context("a name that is text")?)?;
    }
    let work = folder()?.join("run");
    certificate(&work)?;
    let log = |name: &str| Ok::<_, std::io::Error>(Stdio::from(std::fs::File::create(work.join(name))?));
    let cloudnative_pg = Command::new(&postgres)
        .args(["controller", "--metrics-bind-address=127.0.0.1:28081", "--webhook-port=29443"])
        .args(["--pprof-server=false"])
        .env("OPERATOR_NAMESPACE", OPERATOR_NAMESPACE)
        .env("WATCH_NAMESPACE", NAMESPACE)
        .env("WEBHOOK_CERT_DIR", &work)
        .env("OPERATOR_IMAGE_NAME", "cloudnative-pg")
        .current_dir(&work)
        .stdin(Stdio::null())
        .stdout(log("cloudnative-pg.log")?)
        .stderr(log("cloudnative-pg.err")?)
        .spawn()?;
    let cloudnative_pg = Running(cloudnative_pg);
    let rabbitmq = Command::new(&rabbitmq)
        .args(["--metrics-bind-address=127.0.0.1:28082"])
        .env("OPERATOR_NAMESPACE", OPERATOR_NAMESPACE)
        .env("OPERATOR_SCOPE_NAMESPACE", NAMESPACE)
        .current_dir(&work)
        .stdin(Stdio::null())
        .stdout(log("rabbitmq.log")?)
        .stderr(log("rabbitmq.err")?)
        .spawn()?;
    Ok(Some([cloudnative_pg, Running(rabbitmq)]))
}

/// What CloudNativePG does not start without: a certificate for its webhooks, which nobody calls here, and the programs that its instances
/// would run.
fn certificate(work: &std::path::Path) -> Result<()> {
    let programs = work.join("operator");
    std::fs::create_dir_all(&programs)?;
    std::fs::write(programs.join("manager_amd64"), "")?;
    if !work.join("apiserver.crt").is_file() {
        let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=webhook"];
        let files = ["-keyout", "apiserver.key", "-out", "apiserver.crt"];
        run(Command::new("openssl").args(request).args(files).current_dir(work))?;
    }
    Ok(())
}

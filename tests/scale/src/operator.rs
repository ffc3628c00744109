//! The operator as a process: started, measured by what the kernel tells of it, and ended.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kube::config::Kubeconfig;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::clusters::NAMESPACE;

/// As whom the operator speaks, so that its calls can be told from all others.
pub(crate) const USER: &str = "chatcluster-scale";

/// The running operator.
pub(crate) struct Operator {
    process: Child,
    admin: SocketAddr,
    resident_max_kib: u64,
    _folder: TempDir,
}

/// What it has used so far.
pub(crate) struct Usage {
    /// In user and in kernel mode.
    pub(crate) cpu_seconds: f64,
}

impl Operator {
    /// Starts it, to watch the benchmark's namespace as a user of its own.
    pub(crate) async fn start(program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut config = Kubeconfig::read()?;
        for auth in &mut config.auth_infos {
            let auth = auth.auth_info.get_or_insert_default();
            auth.impersonate = Some(USER.into());
            auth.impersonate_groups = Some(vec!["system:masters".into()]);
        }
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, serde_yaml::to_string(&config)?)?;
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let process = Command::new(program)
            .args(["--namespace", NAMESPACE, "--lease-namespace", NAMESPACE, "--admin-addr", &admin.to_string()])
            .args(["--log-filter", "warn"])
            .env("KUBECONFIG", &file)
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let operator = Operator { process, admin, resident_max_kib: 0, _folder: folder };
        operator.metrics_answer().await?;
        Ok(operator)
    }

    async fn metrics_answer(&self) -> Result<()> {
        const LOOKS_MAX: usize = 200;
        for _ in 0..LOOKS_MAX {
            if TcpStream::connect(self.admin).is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the operator does not answer on {}", self.admin)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let id = self.process.id().context("the operator has ended")?;
        Ok(std::fs::read_to_string(format!("/proc/{id}/{file}"))?)
    }

    /// Notes how much memory it has now; an error when it has ended.
    pub(crate) fn look(&mut self) -> Result<()> {
        ensure!(self.process.try_wait()?.is_none(), "the operator has ended");
        let status = self.proc("status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        self.resident_max_kib = resident.trim().trim_end_matches(" kB").parse()?;
        Ok(())
    }

    /// The most memory that was resident at once, as of the last look.
    pub(crate) fn resident_max_mib(&self) -> f64 {
        self.resident_max_kib as f64 / 1024.0
    }

    /// What it has used so far.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        self.look()?;
        let id = self.process.id().context("the operator has ended")?;
        let used = daemon::cpu_time(id.cast_signed()).context("the operator has ended")?;
        Ok(Usage { cpu_seconds: used.as_secs_f64() })
    }

    /// In words: how many reconciles there were, and how long they took.
    pub(crate) async fn reconciles(&self) -> Result<String> {
        let metrics = self.metrics().await?;
        let buckets: Vec<(f64, f64)> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("chatcluster_reconcile_duration_seconds_bucket{le=\""))
            .filter_map(|line| {
                let (bound, count) = line.split_once("\"} ")?;
                Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
            })
            .collect();
        let total = buckets.last().map_or(0.0, |(_, count)| *count);
        let within =
            |share: f64| buckets.iter().find(|(_, count)| *count >= share * total).map_or(0.0, |(bound, _)| *bound);
        Ok(format!(
            "{total} reconciles, half within {:.0} ms, 99% within {:.0} ms",
            within(0.5) * 1e3,
            within(0.99) * 1e3
        ))
    }

    async fn metrics(&self) -> Result<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.admin).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Ends it.
    pub(crate) async fn end(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}

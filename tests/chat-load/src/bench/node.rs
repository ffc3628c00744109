//! The servers under test: a chat node, its PostgreSQL, and RabbitMQ where there are two nodes. All on one core.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use daemon::Process;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use services::Apart;
use tempfile::TempDir;

use super::machine::{self, Cores};

const KEY: &[u8] = b"only for measuring: 0123456789abcdef0123456789abcdef0123456789ab";
const READY_WITHIN: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
const TOKEN_SECONDS: u64 = 24 * 60 * 60;

/// A PostgreSQL of its own, with one database, and RabbitMQ if it was asked for.
pub(super) struct Backends {
    apart: Apart,
    database: String,
    /// RabbitMQ's virtual host.
    vhost: Option<String>,
    /// Of PostgreSQL.
    postmaster: Process,
}

impl Backends {
    /// Starts them on the servers' core.
    pub(super) fn start(cores: Cores, with_rabbitmq: bool) -> anyhow::Result<Self> {
        machine::pin(cores.servers)?;
        let started = Self::start_here(with_rabbitmq);
        machine::pin(cores.load)?;
        started
    }

    fn start_here(with_rabbitmq: bool) -> anyhow::Result<Self> {
        let apart = Apart::new()?;
        apart.postgres.start()?;
        let database = apart.postgres.fresh_database()?;
        let pid = apart.postgres.sql("postgres", "SELECT pg_read_file('postmaster.pid')")?;
        let pid = pid.lines().next().and_then(|pid| pid.trim().parse().ok());
        let postmaster = pid.and_then(Process::with_id).context("PostgreSQL's process is not found")?;
        let vhost = if with_rabbitmq {
            apart.rabbitmq.start()?;
            Some(apart.rabbitmq.fresh_vhost()?)
        } else {
            None
        };
        Ok(Backends { apart, database, vhost, postmaster })
    }

    /// PostgreSQL's processes as they are now.
    pub(super) fn postgres_processes(&self) -> Vec<i32> {
        self.postmaster.tree().iter().map(|process| process.id).collect()
    }

    /// One number that a query gives.
    pub(super) fn number(&self, query: &str) -> anyhow::Result<f64> {
        let name = self.database.rsplit_once('/').map_or("", |(_, name)| name);
        Ok(self.apart.postgres.sql(name, query)?.trim().parse()?)
    }
}

/// A chat node; it ends when this is dropped.
pub(super) struct Node {
    folder: TempDir,
    program: PathBuf,
    name: String,
    process: Child,
    cores: Cores,
    /// Where clients connect.
    pub(super) address: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    /// Starts a node on the servers' core; returns when it is ready.
    pub(super) fn start(program: &Path, name: &str, cores: Cores, backends: &Backends) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (address, admin) = (free_address()?, free_address()?);
        let key = folder.path().join("key");
        fs::write(&key, KEY)?;
        let bus = match &backends.vhost {
            Some(url) => json!({"rabbitmq": {"endpoint": {"url": url}}}),
            None => json!({"inProcess": {}}),
        };
        let config = json!({
            "listen": {"client": address, "admin": admin},
            "store": {"postgres": {"endpoint": {"url": backends.database}}},
            "bus": bus,
            "auth": {"keyFile": key},
            "limits": {"connectionsMax": 20_000, "sendsPerSecondMax": 1_000_000, "sendsBurstMax": 1_000_000},
            "addresses": {"enforced": false},
            "drain": {"settleSeconds": 0, "windowSeconds": 1, "flushSeconds": 2},
            "log": {"filter": "warn"},
        });
        // JSON is YAML.
        fs::write(folder.path().join("node.yaml"), config.to_string())?;
        let process = spawn(program, name, folder.path(), cores)?;
        let (program, name) = (program.to_owned(), name.to_owned());
        let mut node = Node { folder, program, name, process, cores, address, admin };
        node.wait_until_ready()?;
        Ok(node)
    }

    /// Kills it as a power cut would, and starts it again at once.
    pub(super) fn kill_and_start_again(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        self.process = spawn(&self.program, &self.name, self.folder.path(), self.cores)?;
        Ok(())
    }

    pub(super) fn id(&self) -> i32 {
        self.process.id().cast_signed()
    }

    /// Resident memory in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        Process::with_id(self.id()).map_or(0, |process| process.resident_bytes())
    }

    /// The value of a counter of its metrics, over all labels.
    pub(super) fn counter(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.get("/metrics")?;
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
        let lines = lines.filter(|rest| rest.starts_with([' ', '{']));
        Ok(lines.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.get("/readyz").is_ok_and(|answer| answer.split(' ').nth(1) == Some("200")) {
            if let Some(ended) = self.process.try_wait()? {
                bail!("the node ended with {ended}: {}", self.log());
            }
            ensure!(Instant::now() < deadline, "the node is not ready: {}", self.log());
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(())
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(READY_WITHIN))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = self.log();
        if !log.is_empty() {
            eprintln!("{} says:\n{}", self.name, log.lines().take(20).collect::<Vec<_>>().join("\n"));
        }
    }
}

fn spawn(program: &Path, name: &str, folder: &Path, cores: Cores) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let mut command = Command::new(program);
    command.args(["--name", name, "--config"]).arg(folder.join("node.yaml"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    start_pinned(&mut command, cores).with_context(|| format!("start {}", program.display()))
}

/// Starts a program on the servers' core.
pub(super) fn start_pinned(command: &mut Command, cores: Cores) -> anyhow::Result<Child> {
    machine::pin(cores.servers)?;
    let child = command.spawn();
    machine::pin(cores.load)?;
    Ok(child?)
}

/// An address on which nobody listens.
pub(super) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())
}

/// A token for this user.
pub(super) fn token(user: &str) -> anyhow::Result<String> {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + TOKEN_SECONDS;
    let claims: Value = json!({"sub": user, "exp": expires});
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(KEY))?)
}

//! Chat nodes as processes of their own: the real program with a configuration in a folder that goes away, for tests that talk to it
//! from outside, end it in order, kill it or freeze it.
//!
//! Whatever goes wrong here panics: for a test there is nothing else to do, and the node's log is shown.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is the report of a test")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use daemon::{Process, Signal};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A node is ready, or has ended, by then.
const WITHIN: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
const KEY: &[u8] = b"only for tests: 0123456789abcdef0123456789abcdef0123456789abcdef";

/// A running node; it ends when this is dropped.
pub struct Node {
    folder: TempDir,
    config: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
    process: Child,
}

impl Node {
    /// Starts a node with SQLite whose configuration has these further keys; one that is null is left out. Returns when it is ready.
    pub fn start(further: Value) -> Self {
        let mut node = Node::begin(further);
        node.wait_until_ready();
        node
    }

    /// The same, without waiting: it may be configured so that it never is.
    pub fn begin(further: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (client, admin) = (free_address(), free_address());
        let mut config = json!({
            "listen": {"client": client, "admin": admin},
            "store": {"sqlite": {"path": folder.path().join("chat.db")}},
            "auth": {"keyFile": folder.path().join("key")},
            "addresses": {"enforced": false},
            "drain": {"settleSeconds": 0, "windowSeconds": 1, "flushSeconds": 1},
        });
        merge(&mut config, further);
        std::fs::write(folder.path().join("key"), KEY).unwrap();
        let path = folder.path().join("node.yaml");
        // JSON is YAML.
        std::fs::write(&path, config.to_string()).unwrap();
        let process = spawn(&path);
        Node { folder, config: path, address: client, admin, process }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it answers the probes and tells its metrics.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends the node at once, like a power cut, and starts it again with the same configuration.
    pub fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Ends the node at once, like a power cut.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts a node that has ended with the same configuration. Returns when it is ready.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.config);
        self.wait_until_ready();
    }

    /// Freezes the node: its connections stay open, and nothing comes from it.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends the freeze.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks the node to leave, as Kubernetes does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        let id = self.process.id().try_into().unwrap();
        Process::with_id(id).expect("the node runs").signal(signal).unwrap();
    }

    /// Waits until the node has left and starts it again.
    pub fn start_again_after_it_left(&mut self) {
        let left = self.process.wait().unwrap();
        assert!(left.success(), "the node ended with {left}");
        self.start_again();
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + WITHIN;
        while !self.is_ready() {
            if let Some(ended) = self.process.try_wait().unwrap() {
                panic!("the node ended with {ended}: {}", self.log());
            }
            assert!(Instant::now() < deadline, "the node is not ready: {}", self.log());
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    fn is_ready(&self) -> bool {
        let answer = || {
            let mut stream = TcpStream::connect(self.admin)?;
            stream.set_read_timeout(Some(WITHIN))?;
            stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        answer().is_ok_and(|answer: String| answer.split(' ').nth(1) == Some("200"))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the node's log:\n{}", self.log());
        }
    }
}

/// Starts a node that is expected to refuse its configuration. Gives what it says.
pub fn refusal(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.yaml");
    std::fs::write(&path, config).unwrap();
    let output = Command::new(program()).arg("--config").arg(&path).output().unwrap();
    assert!(!output.status.success(), "the node took {config:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A token for `user` that expires in `seconds`.
pub fn token(user: &str, seconds: i64) -> String {
    token_with(user, seconds, json!({}))
}

/// The same with further claims.
pub fn token_with(user: &str, seconds: i64, further: Value) -> String {
    signed(user, seconds, further, KEY)
}

/// A token that somebody else signed.
pub fn forged_token(user: &str) -> String {
    signed(user, 3_600, json!({}), b"another key: 0123456789abcdef0123456789abcdef0123456789abcdef0123")
}

fn signed(user: &str, seconds: i64, further: Value, key: &[u8]) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expires = i64::try_from(now.as_secs()).unwrap() + seconds;
    let mut claims = json!({"sub": user, "exp": expires});
    merge(&mut claims, further);
    jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(key)).unwrap()
}

/// Writes `further` over `into`, map by map.
fn merge(into: &mut Value, further: Value) {
    match (into, further) {
        (Value::Object(into), Value::Object(further)) => {
            for (key, value) in further {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, further) => *into = further,
    }
}

fn spawn(config: &Path) -> Child {
    let log = config.with_file_name("log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let errors = log.try_clone().unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

/// The program: that of `CHATCLUSTER_STANDALONE`, or built now.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("CHATCLUSTER_STANDALONE").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let arguments = ["build", "--package", "chat-node", "--message-format", "json-render-diagnostics"];
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(built.status.success(), "chat-node does not build");
    let messages = String::from_utf8(built.stdout).unwrap();
    let executable = |line: &str| serde_json::from_str::<Value>(line).ok()?["executable"].as_str().map(PathBuf::from);
    messages.lines().filter_map(executable).next_back().expect("cargo names the program")
}

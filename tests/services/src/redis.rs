//! Redis: a server of its own port and folder, which keeps what it has on disk.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    ops::Deref,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use daemon::Signal;

use crate::{
    Ports, Server, Tls,
    folders::{certify, command_as, give, lock, owned, password, remove},
};

const NAME: &str = "redis";
const USER: &str = "redis";

/// Numbers of databases. The first keeps the number that was given last.
const DATABASES: u32 = 65_536;

const PATIENCE: Duration = Duration::from_secs(30);

/// The server.
pub struct Redis {
    root: PathBuf,
    folder: PathBuf,
    server: Server,
    port: u16,
    tls: Option<Tls>,
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Redis {
    pub(crate) fn new(root: &Path, ports: Ports, tls: Option<&Tls>) -> Redis {
        Redis {
            root: root.to_owned(),
            folder: root.join(NAME),
            server: Server::new(root, NAME),
            port: ports.redis,
            tls: tls.cloned(),
        }
    }

    /// Starts it unless it runs; returns when it answers.
    ///
    /// # Errors
    /// With its last words when it does not start.
    pub fn start(&self) -> Result<()> {
        let _lock = lock(&self.root)?;
        owned(&self.folder, USER)?;
        // What was acknowledged outlives a power cut, as with the other two servers.
        let mut config = format!(
            "bind 0.0.0.0\nunixsocket {}\nrequirepass {}\ndatabases {DATABASES}\ndir {}\nappendonly yes\nappendfsync always\nsave \"\"\n",
            self.socket().display(),
            password(&self.folder)?,
            self.folder.display()
        );
        config += &match &self.tls {
            None => format!("port {}\n", self.port),
            Some(tls) => {
                let [certificate, key] = certify(&self.folder, USER, tls)?;
                format!(
                    "port 0\ntls-port {}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-auth-clients no\n",
                    self.port
                )
            }
        };
        let file = self.folder.join("redis.conf");
        fs::write(&file, config)?;
        give(&file, USER)?;
        self.begin(command_as(USER, "redis-server").arg(&file))?;
        self.wait_ready(PATIENCE, || self.ask(&[&["PING"]]).ok().map(drop))
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::TERM, Duration::from_secs(10))
    }

    /// Makes it a replica of nothing that is there: it can be read, and refuses to be written.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn demote(&self) -> Result<()> {
        self.ask(&[&["REPLICAOF", "127.0.0.1", "9"]]).map(drop)
    }

    /// Makes it a primary again.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn promote(&self) -> Result<()> {
        self.ask(&[&["REPLICAOF", "NO", "ONE"]]).map(drop)
    }

    /// Where it is asked without TLS.
    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of an empty database for one test.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn fresh_database(&self) -> Result<String> {
        self.fresh_database_at("127.0.0.1")
    }

    /// The same, as `host` reaches it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn fresh_database_at(&self, host: &str) -> Result<String> {
        let given = self.ask(&[&["INCR", "given"]])?;
        let number = given.strip_prefix(':').and_then(|number| number.parse::<u32>().ok());
        let number = number.with_context(|| format!("Redis answered {given:?}"))? % (DATABASES - 1) + 1;
        self.ask(&[&["SELECT", &number.to_string()], &["FLUSHDB"]])?;
        Ok(format!("redis://:{}@{host}:{}/{number}", password(&self.folder)?, self.port))
    }

    /// Whether the database of this URL has a key.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn has(&self, url: &str, key: &str) -> Result<bool> {
        let number = url.rsplit('/').next().unwrap_or_default();
        Ok(self.ask(&[&["SELECT", number], &["EXISTS", key]])? == ":1")
    }

    /// Removes what a stopped server has stored; its password stays.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn empty(&self) -> Result<()> {
        remove(&self.folder.join("appendonlydir"))
    }

    /// Asks on a connection of its own; gives the first line of the last answer.
    fn ask(&self, requests: &[&[&str]]) -> Result<String> {
        let password = password(&self.folder)?;
        let greeting = ["AUTH", &password];
        let requests: Vec<&[&str]> = [&greeting[..]].into_iter().chain(requests.iter().copied()).collect();
        if self.tls.is_some() {
            let stream = UnixStream::connect(self.socket())?;
            stream.set_read_timeout(Some(PATIENCE))?;
            return exchange(stream, &requests);
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        exchange(stream, &requests)
    }
}

/// One request after the other (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
fn exchange(stream: impl Read + Write, requests: &[&[&str]]) -> Result<String> {
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    for request in requests {
        let words = request.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect::<String>();
        stream.get_mut().write_all(format!("*{}\r\n{words}", request.len()).as_bytes())?;
        answer.clear();
        stream.read_line(&mut answer)?;
        ensure!(answer.starts_with(['+', ':']), "Redis answered {answer:?}");
    }
    Ok(answer.trim_end().to_owned())
}

//! A real PostgreSQL, a real RabbitMQ and a real Redis for the tests, from Debian's packages: on ports and folders of their own, next to
//! whatever else runs on the machine.
//!
//! All listen on every address, because pods come from a bridge that may appear later, and all ask for a password. They keep their
//! durability: `fsync` stays on.

mod authority;
mod folders;
mod postgres;
mod rabbitmq;
mod redis;
mod server;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    ops::Deref,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use uuid::Uuid;

pub use self::{authority::Authority, postgres::Postgres, rabbitmq::Rabbitmq, redis::Redis, server::Server};

/// The servers.
pub struct Services {
    /// The database.
    pub postgres: Postgres,
    /// The bus.
    pub rabbitmq: Rabbitmq,
    /// Where sessions may live. It is for those who start it.
    pub redis: Redis,
    root: PathBuf,
}

/// A certificate and its key, in PEM: who has them speaks TLS alone.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Where the servers of one set listen.
#[derive(Clone, Copy)]
struct Ports {
    postgres: u16,
    rabbitmq: u16,
    /// RabbitMQ's own: between nodes and for its tools; on loopback only.
    distribution: u16,
    /// Erlang's port mapper; on loopback only.
    mapper: u16,
    redis: u16,
}

/// What the names of databases and virtual hosts that nobody wants back begin with.
const OF_TESTS: &str = "test_";

/// Of the servers that everybody shares. Away from what the packages' own servers use.
const SHARED: Ports = Ports { postgres: 25432, rabbitmq: 25672, distribution: 25682, mapper: 24369, redis: 25379 };

impl Services {
    /// The servers that all tests of this machine share, running or not.
    ///
    /// # Errors
    /// When the cache's folder is not known.
    pub fn new() -> Result<Services> {
        Ok(Services::at(&folders::root()?, SHARED, None))
    }

    fn at(root: &Path, ports: Ports, tls: Option<&Tls>) -> Services {
        let (postgres, rabbitmq) = (Postgres::new(root, ports, tls), Rabbitmq::new(root, ports, tls));
        Services { postgres, rabbitmq, redis: Redis::new(root, ports, tls), root: root.to_owned() }
    }

    /// Starts PostgreSQL and RabbitMQ, unless they run, and returns when they answer.
    ///
    /// # Errors
    /// When one cannot be started, with its last words.
    pub fn up(&self) -> Result<()> {
        let _lock = folders::lock(&self.root)?;
        // RabbitMQ takes longer, so it begins first.
        self.rabbitmq.begin()?;
        self.postgres.start_locked()?;
        self.rabbitmq.start()
    }

    /// Ends all. What tests have stored goes: hundreds of databases and queues would be read again at the next start.
    ///
    /// # Errors
    /// When one cannot be ended.
    pub fn down(&self) -> Result<()> {
        let _lock = folders::lock(&self.root)?;
        // One that does not run, or not well, is not asked, and keeps everything.
        let keeps_something = !self.postgres.is_running() || self.postgres.keeps_something().unwrap_or(true);
        if keeps_something {
            // What one of them does not forget costs its next start some time, no more.
            let _ = self.postgres.forget_tests();
            let _ = self.rabbitmq.forget_tests();
        }
        self.redis.stop()?;
        self.rabbitmq.stop()?;
        self.postgres.stop()?;
        if keeps_something {
            return Ok(());
        }
        self.redis.empty()?;
        self.rabbitmq.empty()?;
        self.postgres.empty()
    }
}

/// The parts of a URL that one of the servers gave, as the keys of a Secret; `last` is the key of what stands behind the host.
///
/// # Errors
/// When it is none of these.
pub fn parts(url: &str, last: &str) -> Result<BTreeMap<String, String>> {
    let part = |text: &str, sign| text.split_once(sign).map(|(left, right)| (left.to_owned(), right.to_owned()));
    let cut = || {
        let (_, rest) = part(url, "://")?;
        let (who, place) = part(&rest, "@")?;
        let (username, password) = part(&who, ":")?;
        let (host, place) = part(&place, ":")?;
        let (port, name) = part(&place, "/")?;
        Some([("host", host), ("port", port), ("username", username), ("password", password), (last, name)])
    };
    let parts = cut().with_context(|| format!("{url:?} is no URL of a server"))?;
    Ok(parts.into_iter().filter(|(_, part)| !part.is_empty()).map(|(key, part)| (key.to_owned(), part)).collect())
}

/// Servers for one test alone, which may kill them; gone with all data when dropped.
pub struct Apart(Services);

impl Apart {
    /// Names ports and a folder of its own; starts nothing.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new() -> Result<Apart> {
        Apart::make(None)
    }

    /// The same, for servers that speak TLS alone.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn with_tls(tls: &Tls) -> Result<Apart> {
        Apart::make(Some(tls))
    }

    fn make(tls: Option<&Tls>) -> Result<Apart> {
        let root = folders::root()?;
        folders::prepare(&root)?;
        let [postgres, rabbitmq, distribution, mapper, redis] = free_ports()?;
        let ports = Ports { postgres, rabbitmq, distribution, mapper, redis };
        Ok(Apart(Services::at(&root.join(format!("apart-{}", Uuid::new_v4().simple())), ports, tls)))
    }
}

impl Deref for Apart {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // A test that fails already must not fail for another reason; what is left says so in its log.
        let _ = self.0.down();
        let _ = std::fs::remove_dir_all(&self.0.root);
    }
}

/// Ports that nobody listens on, all different because they are held until the last is found.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

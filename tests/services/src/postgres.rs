//! PostgreSQL: initialized once, then started in a second.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use daemon::Signal;
use uuid::Uuid;

use crate::{
    OF_TESTS, Ports, Server, Tls,
    folders::{PASSWORD_FILE, certify, check_name, command_as, give, lock, owned, password, remove, run},
};

const NAME: &str = "postgres";
const USER: &str = "postgres";

/// After a power cut it reads what it had logged, which takes a while on a slow disk.
const PATIENCE: Duration = Duration::from_secs(180);

/// The database server.
pub struct Postgres {
    root: PathBuf,
    folder: PathBuf,
    server: Server,
    port: u16,
    tls: Option<Tls>,
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Postgres {
    pub(crate) fn new(root: &Path, ports: Ports, tls: Option<&Tls>) -> Postgres {
        Postgres {
            root: root.to_owned(),
            folder: root.join(NAME),
            server: Server::new(root, NAME),
            port: ports.postgres,
            tls: tls.cloned(),
        }
    }

    /// Starts it unless it runs; returns when it answers.
    ///
    /// # Errors
    /// With its last words when it does not start.
    pub fn start(&self) -> Result<()> {
        let _lock = lock(&self.root)?;
        self.start_locked()
    }

    /// Likewise, for whoever keeps all others from starting servers.
    pub(crate) fn start_locked(&self) -> Result<()> {
        let binaries = binaries()?;
        let data = self.folder.join("data");
        owned(&self.folder, USER)?;
        if !data.join("PG_VERSION").exists() {
            password(&self.folder)?;
            let password_file = self.folder.join(PASSWORD_FILE);
            give(&password_file, USER)?;
            let mut initdb = command_as(USER, binaries.join("initdb"));
            initdb.arg("--pgdata").arg(&data).args([
                "--username",
                USER,
                "--auth",
                "scram-sha-256",
                "--encoding",
                "UTF8",
            ]);
            run(initdb.arg("--pwfile").arg(&password_file))?;
            let host = if self.tls.is_some() { "hostssl" } else { "host" };
            fs::write(data.join("pg_hba.conf"), format!("local all all trust\n{host} all all all scram-sha-256\n"))?;
        }
        let mut server = command_as(USER, binaries.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &self.port.to_string(), "-k"]).arg(&self.folder);
        server.args(["-c", "listen_addresses=*", "-c", "max_connections=300", "-c", "fsync=on"]);
        // After a power cut it would open each file of each database that tests have left; the kernel knows what is not written yet.
        server.args(["-c", "recovery_init_sync_method=syncfs"]);
        if let Some(tls) = &self.tls {
            let [certificate, key] = certify(&self.folder, USER, tls)?;
            server.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={certificate}")]);
            server.args(["-c", &format!("ssl_key_file={key}")]);
        }
        self.begin(&mut server)?;
        self.wait_ready(PATIENCE, || self.sql("postgres", "SELECT 1").ok().map(drop))
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn stop(&self) -> Result<()> {
        // SIGINT is its fast shutdown: open connections are closed, nothing is lost.
        self.end(Signal::INT, Duration::from_secs(10))
    }

    /// Keeps a copy of the data as it is now. The server is away meanwhile.
    ///
    /// # Errors
    /// When it cannot be stopped, copied or started.
    pub fn keep(&self) -> Result<()> {
        self.stop()?;
        self.copy("data", "kept")?;
        self.start()
    }

    /// Goes back to the copy, as after a restore from a backup: what came after it is lost, and the timeline is another one.
    ///
    /// # Errors
    /// When it cannot be stopped, copied or started.
    pub fn set_back(&self) -> Result<()> {
        self.stop()?;
        self.copy("kept", "data")?;
        let data = self.folder.join("data");
        // It recovers from an archive that has nothing, and goes on from there on a timeline of its own.
        let signal = data.join("recovery.signal");
        fs::write(&signal, "")?;
        give(&signal, USER)?;
        fs::write(data.join("postgresql.auto.conf"), "restore_command = 'false'\n")?;
        self.start()
    }

    fn copy(&self, from: &str, to: &str) -> Result<()> {
        let to = self.folder.join(to);
        remove(&to)?;
        run(Command::new("cp").arg("-a").arg(self.folder.join(from)).arg(&to))?;
        Ok(())
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a database unless it is there; tells the URL at which `host` reaches it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn database(&self, name: &str, host: &str) -> Result<String> {
        check_name(name)?;
        let exists = self.sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"))?;
        if exists.trim().is_empty() {
            self.sql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        }
        Ok(format!("postgres://{USER}:{}@{host}:{}/{name}", password(&self.folder)?, self.port))
    }

    /// A new, empty database for one test.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn fresh_database(&self) -> Result<String> {
        self.database(&format!("{OF_TESTS}{}", Uuid::new_v4().simple()), "127.0.0.1")
    }

    /// Whether there is a database that is no test's.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn keeps_something(&self) -> Result<bool> {
        Ok(self.databases()?.iter().any(|name| !name.starts_with(OF_TESTS)))
    }

    /// Drops the databases of tests.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn forget_tests(&self) -> Result<()> {
        let databases = self.databases()?;
        let mut of_tests = databases.iter().filter(|name| name.starts_with(OF_TESTS));
        of_tests.try_for_each(|name| self.sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)")).map(drop))
    }

    fn databases(&self) -> Result<Vec<String>> {
        let all = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'";
        Ok(self.sql("postgres", all)?.lines().map(str::to_owned).collect())
    }

    /// Removes what a stopped server has stored; its password stays.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn empty(&self) -> Result<()> {
        remove(&self.folder.join("data"))
    }

    /// Runs a statement as the superuser; tells the rows, without headings.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string(), "-U", USER, "-d", database]);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        run(&mut psql)
    }
}

/// Debian keeps each version's programs in a folder of its own, away from `PATH`.
fn binaries() -> Result<PathBuf> {
    let versions =
        fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is missing: run tests/setup/install services")?;
    let newest = versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).max();
    newest.context("PostgreSQL is missing: run tests/setup/install services")
}

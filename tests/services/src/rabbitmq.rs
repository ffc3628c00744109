//! RabbitMQ: a node of its own name, ports and folders, with an Erlang port mapper of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use daemon::{Roster, Signal};
use uuid::Uuid;

use crate::folders::{command_as, owned, run};

const NAME: &str = "rabbitmq";
const USER: &str = "rabbitmq";
const PORT: u16 = 25672;
const DISTRIBUTION_PORT: u16 = 25682;
const PORT_MAPPER_PORT: u16 = 24369;
const NODE: &str = "chatcluster-tests@localhost";

/// For tests on this machine only.
const ACCOUNT: &str = "chatcluster";
const PASSWORD: &str = "chatcluster";

const PATIENCE: Duration = Duration::from_secs(90);

/// The server.
pub struct Rabbitmq {
    folder: PathBuf,
    roster: Roster,
}

impl Rabbitmq {
    pub(crate) fn new(root: &Path) -> Rabbitmq {
        Rabbitmq { folder: root.join(NAME), roster: Roster::new(root.join("run"), root.join("log")) }
    }

    /// Begins to start it, without waiting.
    pub(crate) fn begin(&self) -> Result<()> {
        owned(&self.folder, USER)?;
        self.roster.start(NAME, &mut self.command("rabbitmq-server")).map(drop)
    }

    /// Starts it unless it runs; returns when it answers.
    ///
    /// # Errors
    /// With its last words when it does not start.
    pub fn start(&self) -> Result<()> {
        self.begin()?;
        self.roster.wait_ready(NAME, PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", PORT)).ok().map(drop))?;
        if !self.ctl(&["list_users", "--silent"])?.lines().any(|line| line.split('\t').next() == Some(ACCOUNT)) {
            self.ctl(&["add_user", ACCOUNT, PASSWORD])?;
        }
        Ok(())
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn stop(&self) -> Result<()> {
        self.roster.stop(NAME, Signal::TERM, Duration::from_secs(20))?;
        // The port mapper was started by it and outlives it.
        let mut mapper = self.command("epmd");
        let _ = mapper.args(["-port", &PORT_MAPPER_PORT.to_string(), "-kill"]).output();
        Ok(())
    }

    /// Kills it with all its processes, as a power cut would.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(&self) -> Result<()> {
        self.roster.kill(NAME)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.roster.find(NAME).is_some()
    }

    /// Makes a virtual host unless it is there; tells the URL at which `host` reaches it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn vhost(&self, name: &str, host: &str) -> Result<String> {
        if !self.ctl(&["list_vhosts", "--silent"])?.lines().any(|line| line.trim() == name) {
            self.ctl(&["add_vhost", name])?;
        }
        self.ctl(&["set_permissions", "--vhost", name, ACCOUNT, ".*", ".*", ".*"])?;
        Ok(format!("amqp://{ACCOUNT}:{PASSWORD}@{host}:{PORT}/{name}"))
    }

    /// A new, empty virtual host for one test.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn fresh_vhost(&self) -> Result<String> {
        self.vhost(&format!("test_{}", Uuid::new_v4().simple()), "127.0.0.1")
    }

    fn ctl(&self, arguments: &[&str]) -> Result<String> {
        run(self.command("rabbitmqctl").args(arguments))
    }

    /// A program of RabbitMQ that speaks of this node.
    fn command(&self, program: &str) -> Command {
        let mut command = command_as(USER, "env");
        let folder = |name: &str| self.folder.join(name).display().to_string();
        command.args([
            format!("HOME={}", self.folder.display()),
            format!("RABBITMQ_NODENAME={NODE}"),
            format!("RABBITMQ_NODE_PORT={PORT}"),
            format!("RABBITMQ_DIST_PORT={DISTRIBUTION_PORT}"),
            format!("ERL_EPMD_PORT={PORT_MAPPER_PORT}"),
            format!("RABBITMQ_MNESIA_BASE={}", folder("data")),
            format!("RABBITMQ_LOG_BASE={}", folder("log")),
            format!("RABBITMQ_PID_FILE={}", folder("pid")),
            format!("RABBITMQ_ENABLED_PLUGINS_FILE={}", folder("plugins")),
            format!("RABBITMQ_CONFIG_FILE={}", folder("config")),
            // No file of the system's own server is read.
            "RABBITMQ_CONF_ENV_FILE=/dev/null".into(),
            "PATH=/usr/lib/rabbitmq/bin:/usr/bin:/bin".into(),
        ]);
        command.arg(program);
        command
    }
}

//! RabbitMQ: a node of its own name, ports and folders, with an Erlang port mapper of its own.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use daemon::Signal;
use uuid::Uuid;

use crate::{
    OF_TESTS, Ports, Server, Tls,
    folders::{certify, check_name, command_as, give, owned, password, remove, run_with_input},
};

const NAME: &str = "rabbitmq";
const USER: &str = "rabbitmq";
const NODE: &str = "chatcluster-tests@localhost";
const ACCOUNT: &str = "chatcluster";

/// A start reads the queues of every virtual host: of 400, for 90 s on two busy cores.
const PATIENCE: Duration = Duration::from_secs(300);

/// The server.
pub struct Rabbitmq {
    folder: PathBuf,
    server: Server,
    ports: Ports,
    tls: Option<Tls>,
}

impl Deref for Rabbitmq {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Rabbitmq {
    pub(crate) fn new(root: &Path, ports: Ports, tls: Option<&Tls>) -> Rabbitmq {
        Rabbitmq { folder: root.join(NAME), server: Server::new(root, NAME), ports, tls: tls.cloned() }
    }

    /// Begins to start it, without waiting.
    pub(crate) fn begin(&self) -> Result<()> {
        owned(&self.folder, USER)?;
        // Only a server without data reads the account; later it knows it.
        let mut config = format!("default_user = {ACCOUNT}\ndefault_pass = {}\n", password(&self.folder)?);
        if let Some(tls) = &self.tls {
            let [certificate, key] = certify(&self.folder, USER, tls)?;
            config += &format!(
                "listeners.tcp = none\nlisteners.ssl.default = {}\nssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n",
                self.ports.rabbitmq
            );
        }
        let file = self.folder.join("config.conf");
        fs::write(&file, config)?;
        give(&file, USER)?;
        self.server.begin(&mut self.command("rabbitmq-server"))
    }

    /// Starts it unless it runs; returns when it answers.
    ///
    /// # Errors
    /// With its last words when it does not start.
    pub fn start(&self) -> Result<()> {
        self.begin()?;
        let connect = || std::net::TcpStream::connect(("127.0.0.1", self.ports.rabbitmq)).ok().map(drop);
        self.wait_ready(PATIENCE, connect)
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::TERM, Duration::from_secs(20))?;
        // The port mapper was started by it and outlives it.
        let mut mapper = self.command("epmd");
        let _ = mapper.args(["-port", &self.ports.mapper.to_string(), "-kill"]).output();
        Ok(())
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.ports.rabbitmq
    }

    /// Makes a virtual host unless it is there, once the server has all of its tables; tells the URL at which `host` reaches it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn vhost(&self, name: &str, host: &str) -> Result<String> {
        check_name(name)?;
        self.evaluate(&format!(
            r#"rabbit:await_startup(), Vhost = <<"{name}">>, User = <<"{ACCOUNT}">>, All = <<".*">>,
            rabbit_vhost:exists(Vhost) orelse rabbit_vhost:add(Vhost, User),
            rabbit_auth_backend_internal:set_permissions(User, Vhost, All, All, All, User)."#
        ))?;
        Ok(format!("amqp://{ACCOUNT}:{}@{host}:{}/{name}", password(&self.folder)?, self.ports.rabbitmq))
    }

    /// A new, empty virtual host for one test.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn fresh_vhost(&self) -> Result<String> {
        self.vhost(&format!("{OF_TESTS}{}", Uuid::new_v4().simple()), "127.0.0.1")
    }

    /// Removes the virtual hosts of tests: each has queues of its own, and a start reads those of hundreds for minutes.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn forget_tests(&self) -> Result<()> {
        self.evaluate(&format!(
            r#"OfTests = [Vhost || Vhost = <<"{OF_TESTS}", _/binary>> <- rabbit_vhost:list_names()],
            lists:foreach(fun(Vhost) -> rabbit_vhost:delete(Vhost, <<"{ACCOUNT}">>) end, OfTests)."#
        ))
    }

    /// Removes what a stopped server has stored; its password stays.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn empty(&self) -> Result<()> {
        remove(&self.folder.join("data"))
    }

    /// Evaluates Erlang within the server: what `rabbitmqctl eval` does in seconds, this does in milliseconds.
    fn evaluate(&self, code: &str) -> Result<()> {
        let mut call = self.command("erl_call");
        // Every caller needs a name of its own, or the server refuses the second of two that call at once.
        call.args(["-e", "-h", &format!("caller_{}", Uuid::new_v4().simple())]);
        call.args(["-address", &format!("localhost:{}", self.ports.distribution)]);
        let answer = run_with_input(&mut call, &format!("{code}\n"))?;
        ensure!(answer.starts_with("{ok, ok}"), "RabbitMQ answered {answer}");
        Ok(())
    }

    /// A program of RabbitMQ that speaks of this node.
    fn command(&self, program: &str) -> Command {
        let mut command = command_as(USER, "env");
        let folder = |name: &str| self.folder.join(name).display().to_string();
        command.args([
            format!("HOME={}", self.folder.display()),
            format!("RABBITMQ_NODENAME={NODE}"),
            format!("RABBITMQ_DIST_PORT={}", self.ports.distribution),
            format!("ERL_EPMD_PORT={}", self.ports.mapper),
            format!("RABBITMQ_MNESIA_BASE={}", folder("data")),
            format!("RABBITMQ_LOG_BASE={}", folder("log")),
            format!("RABBITMQ_PID_FILE={}", folder("pid")),
            format!("RABBITMQ_ENABLED_PLUGINS_FILE={}", folder("plugins")),
            format!("RABBITMQ_CONFIG_FILE={}", folder("config")),
            // Whoever knows Erlang's cookie may do anything: that port is for this machine alone.
            "ERL_EPMD_ADDRESS=127.0.0.1".into(),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}".into(),
            // No file of the system's own server is read.
            "RABBITMQ_CONF_ENV_FILE=/dev/null".into(),
            "PATH=/usr/lib/rabbitmq/bin:/usr/bin:/bin".into(),
        ]);
        if self.tls.is_none() {
            command.arg(format!("RABBITMQ_NODE_PORT={}", self.ports.rabbitmq));
        }
        command.arg(program);
        command
    }
}

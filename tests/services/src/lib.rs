//! A real PostgreSQL and a real RabbitMQ for the tests, from Debian's packages: on ports and folders of their own, next to
//! whatever else runs on the machine.
//!
//! Both listen on every address, because pods come from a bridge that may appear later, and both ask for a password. They keep their
//! durability: `fsync` stays on.

mod folders;
mod postgres;
mod rabbitmq;

use anyhow::Result;

pub use self::{postgres::Postgres, rabbitmq::Rabbitmq};

/// Both servers.
pub struct Services {
    /// The database.
    pub postgres: Postgres,
    /// The bus.
    pub rabbitmq: Rabbitmq,
}

impl Services {
    /// The servers of this machine, running or not.
    ///
    /// # Errors
    /// When the cache's folder is not known.
    pub fn new() -> Result<Services> {
        let root = folders::root()?;
        Ok(Services { postgres: Postgres::new(&root), rabbitmq: Rabbitmq::new(&root) })
    }

    /// Starts both, unless they run, and returns when they answer.
    ///
    /// # Errors
    /// When one cannot be started, with its last words.
    pub fn up(&self) -> Result<()> {
        folders::prepare()?;
        // RabbitMQ takes longer, so it begins first.
        self.rabbitmq.begin()?;
        self.postgres.start()?;
        self.rabbitmq.start()
    }

    /// Ends both.
    ///
    /// # Errors
    /// When one cannot be ended.
    pub fn down(&self) -> Result<()> {
        self.rabbitmq.stop()?;
        self.postgres.stop()
    }
}

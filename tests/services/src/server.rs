//! A server as a process, whichever it is: what tests do to it beside asking it.

use std::{path::Path, process::Command, time::Duration};

use anyhow::Result;
use daemon::{Roster, Signal};

/// The process of a server.
pub struct Server {
    roster: Roster,
    name: &'static str,
}

impl Server {
    /// That of this name in a set of servers, running or not.
    pub(crate) fn new(root: &Path, name: &'static str) -> Server {
        Server { roster: Roster::new(root.join("run"), root.join("log")), name }
    }

    /// Starts it unless it runs, without waiting.
    pub(crate) fn begin(&self, command: &mut Command) -> Result<()> {
        self.roster.start(self.name, command).map(drop)
    }

    /// Waits until it answers.
    pub(crate) fn wait_ready(&self, patience: Duration, answers: impl FnMut() -> Option<()>) -> Result<()> {
        self.roster.wait_ready(self.name, patience, answers)
    }

    /// Ends it by its own signal.
    pub(crate) fn end(&self, signal: Signal, grace: Duration) -> Result<()> {
        self.roster.stop(self.name, signal, grace)
    }

    /// Kills it with all its processes, as a power cut would.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(&self) -> Result<()> {
        self.roster.kill(self.name)
    }

    /// Freezes it with all its processes: connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn freeze(&self) -> Result<()> {
        self.roster.signal(self.name, Signal::STOP)
    }

    /// Ends the freeze.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn thaw(&self) -> Result<()> {
        self.roster.signal(self.name, Signal::CONT)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.roster.find(self.name).is_some()
    }
}

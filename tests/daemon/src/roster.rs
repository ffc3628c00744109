//! Owns the folder of records, one JSON file a background process, and starting and ending by them. Knows nothing of what the
//! processes are for.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::{Process, until};

/// The background processes recorded in one folder.
#[derive(Clone, Debug)]
pub struct Roster {
    records: PathBuf,
    logs: PathBuf,
}

impl Roster {
    /// Records go to `records` and what the processes print to `logs`, as `NAME.log`; both are made when needed.
    pub fn new(records: impl Into<PathBuf>, logs: impl Into<PathBuf>) -> Self {
        Self { records: records.into(), logs: logs.into() }
    }

    /// Starts `command` in the background under `name`, or returns the one that already runs under it.
    ///
    /// # Errors
    /// When it cannot be started or recorded.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<Process> {
        if let Some(running) = self.find(name) {
            return Ok(running);
        }
        for folder in [&self.records, &self.logs] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let log = File::create(self.log(name))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Of its own, so that an interrupt at the terminal ends the tool and not the server.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let Some(process) = Process::with_id(i32::try_from(child.id())?) else {
            bail!("{name} ended at once; its last words:\n{}", self.last_words(name));
        };
        let record = self.record(name);
        fs::write(&record, serde_json::to_vec(&process)?)
            .with_context(|| format!("cannot write {}", record.display()))?;
        Ok(process)
    }

    /// The process that runs under `name`.
    pub fn find(&self, name: &str) -> Option<Process> {
        let record = fs::read(self.record(name)).ok()?;
        let process: Process = serde_json::from_slice(&record).ok()?;
        process.is_running().then_some(process)
    }

    /// Waits until `ready` gives a value. Ends early, with the process's last words, when the process has ended.
    ///
    /// # Errors
    /// When the process has ended or `limit` has passed.
    pub fn wait_ready<T>(&self, name: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let outcome = until(limit, || match ready() {
            Some(value) => Some(Some(value)),
            None => self.find(name).is_none().then_some(None),
        });
        match outcome {
            Ok(Some(value)) => Ok(value),
            Ok(None) => bail!("{name} has ended; its last words:\n{}", self.last_words(name)),
            Err(timed_out) => bail!(
                "{name} is not ready {timed_out}; its log is {}, its last words:\n{}",
                self.log(name).display(),
                self.last_words(name)
            ),
        }
    }

    /// Ends the process under `name`, if it runs, as [`Process::stop`] does, and drops its record.
    ///
    /// # Errors
    /// As [`Process::stop`].
    pub fn stop(&self, name: &str, signal: Signal, grace: Duration) -> Result<()> {
        if let Some(process) = self.find(name) {
            process.stop(signal, grace).with_context(|| format!("cannot end {name}"))?;
        }
        self.forget(name);
        Ok(())
    }

    /// Kills the process under `name` and its descendants, and drops its record.
    ///
    /// # Errors
    /// As [`Process::kill_tree`].
    pub fn kill(&self, name: &str) -> Result<()> {
        if let Some(process) = self.find(name) {
            process.kill_tree().with_context(|| format!("cannot kill {name}"))?;
        }
        self.forget(name);
        Ok(())
    }

    /// Sends a signal to the process under `name`, if it runs, and to its descendants.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let tree = self.find(name).map(|process| process.tree()).unwrap_or_default();
        tree.iter().try_for_each(|process| process.signal(signal)).with_context(|| format!("cannot signal {name}"))
    }

    /// Where the process under `name` prints.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    fn record(&self, name: &str) -> PathBuf {
        self.records.join(format!("{name}.json"))
    }

    fn forget(&self, name: &str) {
        // A record of an ended process says nothing any more, so one that stays does no harm.
        let _ = fs::remove_file(self.record(name));
    }

    fn last_words(&self, name: &str) -> String {
        last_lines(&self.log(name), 15)
    }
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(folder: &Path) -> Roster {
        Roster::new(folder.join("run"), folder.join("log"))
    }

    #[test]
    fn another_roster_on_the_same_folder_ends_what_the_first_started() {
        let folder = tempfile::tempdir().unwrap();
        let process = roster(folder.path()).start("sleeper", Command::new("sleep").arg("60")).unwrap();
        let later = roster(folder.path());
        assert_eq!(later.find("sleeper"), Some(process.clone()));
        later.stop("sleeper", Signal::TERM, Duration::from_secs(5)).unwrap();
        assert!(!process.is_running());
        assert_eq!(later.find("sleeper"), None);
    }

    #[test]
    fn starting_twice_starts_once() {
        let folder = tempfile::tempdir().unwrap();
        let roster = roster(folder.path());
        let first = roster.start("sleeper", Command::new("sleep").arg("60")).unwrap();
        let second = roster.start("sleeper", Command::new("sleep").arg("60")).unwrap();
        assert_eq!(first, second);
        roster.kill("sleeper").unwrap();
    }

    #[test]
    fn waiting_for_one_that_failed_tells_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let roster = roster(folder.path());
        let mut command = Command::new("sh");
        command.args(["-c", "echo the port is taken; sleep 0.05; exit 1"]);
        roster.start("loser", &mut command).unwrap();
        let error = roster.wait_ready("loser", Duration::from_secs(5), || None::<()>).unwrap_err();
        assert!(error.to_string().contains("the port is taken"), "{error}");
    }
}

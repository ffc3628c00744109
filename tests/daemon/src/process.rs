//! Owns the identity of a process: its id together with the moment it started. Never signals a process by its id alone,
//! because ids are reused.

use std::fs;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};
use serde::{Deserialize, Serialize};

/// One process of this machine since its last boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The kernel's id for it.
    pub id: i32,
    /// When it started, in clock ticks since boot (`starttime` of proc(5)).
    start_ticks: u64,
    /// The boot in which it started: after another, every id means something else.
    boot: String,
}

impl Process {
    /// The process that has this id now, unless there is none or it has ended and only waits for its parent.
    pub fn with_id(id: i32) -> Option<Self> {
        let stat = Stat::read(id)?;
        (!stat.ended).then(|| Self { id, start_ticks: stat.start_ticks, boot: boot() })
    }

    /// Whether it still runs. One that has ended and only waits for its parent does not.
    pub fn is_running(&self) -> bool {
        Self::with_id(self.id).as_ref() == Some(self)
    }

    /// Sends the signal; does nothing when the process has ended.
    ///
    /// # Errors
    /// When the kernel refuses, as it does without the right to signal this process.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        let Some(pid) = Pid::from_raw(self.id) else {
            return Ok(());
        };
        // The descriptor is opened before the check: from then on the id cannot come to mean another process.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            other => other?,
        };
        if !self.is_running() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended, at most for `limit`; says whether it has. Reaps it when it is this program's child.
    pub fn wait_ended(&self, limit: Duration) -> bool {
        let Some(pid) = Pid::from_raw(self.id) else {
            return true;
        };
        if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
            && self.is_running()
        {
            let limit = Timespec::try_from(limit).ok();
            // An interrupted or failed poll is answered by the check below.
            let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], limit.as_ref());
        }
        let has_ended = !self.is_running();
        if has_ended {
            // Only now: what ends after this would be left unreaped, and a server that looks for its predecessor by the id would find it. Fails for
            // everybody else's children, which is no concern of ours.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        has_ended
    }

    /// Asks it to end with `signal`, and kills it when it has not ended after `grace`.
    ///
    /// # Errors
    /// When it cannot be signalled, or lives on for ten seconds after SIGKILL.
    pub fn stop(&self, signal: Signal, grace: Duration) -> std::io::Result<()> {
        self.signal(signal)?;
        if self.wait_ended(grace) {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        if self.wait_ended(Duration::from_secs(10)) {
            return Ok(());
        }
        Err(std::io::Error::other(format!("process {} does not end after SIGKILL", self.id)))
    }

    /// Kills it and all that descend from it, as a power cut would, and returns when none is left.
    ///
    /// # Errors
    /// As [`Process::stop`].
    pub fn kill_tree(&self) -> std::io::Result<()> {
        let tree = self.tree();
        for process in &tree {
            process.signal(Signal::KILL)?;
        }
        tree.iter().try_for_each(|process| process.stop(Signal::KILL, Duration::ZERO))
    }

    /// It and its descendants, parents first.
    pub fn tree(&self) -> Vec<Self> {
        let parents: Vec<(i32, i32)> = all_ids().filter_map(|id| Some((id, Stat::read(id)?.parent))).collect();
        let mut ids = vec![self.id];
        let mut next = 0;
        while let Some(&parent) = ids.get(next) {
            ids.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| id));
            next += 1;
        }
        ids.into_iter().filter_map(Self::with_id).collect()
    }

    /// Every process of the machine whose command line satisfies `wanted`; the arguments come as they were given to it.
    pub fn all_with_arguments(wanted: impl Fn(&[&str]) -> bool) -> Vec<Self> {
        let matches = |id: &i32| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            wanted(&line.split_terminator('\0').collect::<Vec<_>>())
        };
        all_ids().filter(matches).filter_map(Self::with_id).collect()
    }

    /// Resident memory in bytes; 0 when it has ended.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024)
    }
}

fn all_ids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// CPU time that a process has used, user and system; `None` when there is no such process.
pub fn cpu_time(id: i32) -> Option<Duration> {
    /// The kernel's for user space on Linux, whatever its own clock does.
    const TICKS_A_SECOND: u64 = 100;
    let ticks = cpu_ticks(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
}

/// `utime` and `stime` of proc(5), fields 14 and 15; they are counted from the end of the name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The fields of /proc/ID/stat that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    ended: bool,
    parent: i32,
    start_ticks: u64,
}

impl Stat {
    fn read(id: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses and may hold anything, so fields count from its end.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            ended: matches!(*fields.first()?, "Z" | "X"),
            parent: fields.get(1)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn stat_survives_a_name_with_spaces_and_parentheses() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 2 3";
        let expected = Stat { ended: false, parent: 7, start_ticks: 9876 };
        assert_eq!(Stat::parse(line), Some(expected));
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        assert_eq!(cpu_ticks("42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 1 0 9876"), Some(42));
    }

    #[test]
    fn another_process_with_the_same_id_is_never_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::with_id(child.id() as i32).unwrap();
        let earlier = Process { start_ticks: process.start_ticks - 1, ..process.clone() };
        earlier.signal(Signal::KILL).unwrap();
        assert!(process.is_running());
        assert!(!earlier.is_running());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_running());
    }

    #[test]
    fn stop_kills_what_ignores_the_signal() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo; while :; do sleep 0.1; done"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = Process::with_id(child.id() as i32).unwrap();
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut [0]).unwrap();
        process.stop(Signal::TERM, Duration::from_millis(50)).unwrap();
        assert!(!process.is_running());
        assert!(child.wait().is_err(), "it has been reaped already");
    }

    #[test]
    fn kill_tree_ends_grandchildren() {
        let mut child = Command::new("sh")
            .args(["-c", "sh -c 'sleep 60; true' & echo; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = Process::with_id(child.id() as i32).unwrap();
        let tree = crate::until(Duration::from_secs(5), || {
            let tree = process.tree();
            (tree.len() == 3).then_some(tree)
        })
        .unwrap();
        process.kill_tree().unwrap();
        assert!(tree.iter().all(|process| !process.is_running()));
        assert!(child.wait().is_err(), "it has been reaped already");
    }
}

//! What the kernel tells of a process, and which core it may use.

use std::{fs, io, time::Duration};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Where the servers run, and where the load does. The same one where the machine has one core only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    pub(super) servers: usize,
    pub(super) load: usize,
}

impl Cores {
    /// The first two cores that this process may use.
    pub(super) fn find() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let servers = cores.next().ok_or_else(|| io::Error::other("no core is allowed"))?;
        Ok(Cores { servers, load: cores.next().unwrap_or(servers) })
    }
}

/// Keeps this thread, and what it starts from now on, on one core.
pub(super) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Allows as many open files as the system lets this process and what it starts have.
pub(super) fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// CPU time that processes have used, user and system, in clock ticks of 10 ms (`utime` and `stime` of proc(5)). One that has
/// ended counts no more.
pub(super) fn cpu_time(processes: &[i32]) -> Duration {
    const TICKS_A_SECOND: u64 = 100;
    let ticks: u64 =
        processes.iter().filter_map(|id| ticks(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)).sum();
    Duration::from_millis(ticks * 1000 / TICKS_A_SECOND)
}

/// Fields 14 and 15; they are counted from the end of the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        assert_eq!(ticks("42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 1 0 9876"), Some(42));
    }
}

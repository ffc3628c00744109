//! Which cores the servers and the load may use, and how many files.

use std::io;

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

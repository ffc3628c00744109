//! Background processes that outlive the command that started them.
//!
//! A test tool's `up` starts servers and returns; its `down`, another process, has to end exactly those. [`Roster`]
//! keeps one record a server in a folder, and [`Process`] names a process so that a reused id is never mistaken for it.
//! Nothing here ever looks a process up by its name.

mod process;
mod roster;
mod wait;

pub use process::{Process, cpu_time};
pub use roster::Roster;
pub use rustix::process::Signal;
pub use wait::{TimedOut, until};

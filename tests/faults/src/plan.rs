//! Which faults befall the operator in one schedule, and what it asked for.
//!
//! A fault is written as text, so that a schedule that fails can be run again: `call:37:conflict`, `call:12:crash-before`,
//! `stale:pods:2`, `held:120:1`, `lost:88`. Calls are counted from 0 as the operator makes them; changes by their version.

use std::{
    fmt::{self, Display},
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::api::{
    call::{Call, Verb},
    kinds::KINDS,
    refusal::Refusal,
};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// It is refused with 409.
    Conflict,
    /// It is refused with 429.
    TooMany,
    /// It is refused with 500.
    ServerError,
    /// It never arrives.
    TimedOut,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is done, and nothing comes, not even that it failed, until the connection is given up.
    Silent,
    /// The caller gives it up, and it arrives after so many seconds.
    Delayed(u16),
    /// The process ends before the call arrives.
    CrashBefore,
    /// The process ends when the call has been done.
    CrashAfter,
    /// The process ends, and the call arrives after so many seconds: when another leads.
    CrashDelayed(u16),
}

/// One fault of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Something happens to the call of this number.
    Call(usize, Mishap),
    /// What watches tell of a kind is this many versions of the kind behind, all the time.
    Stale(&'static str, usize),
    /// The change of this version is told only when its object is this many versions further.
    Held(u64, usize),
    /// The change of this version is never told; the watch is told to list anew later.
    Lost(u64),
}

/// What becomes of a call.
pub(crate) enum Fate {
    Served,
    Refused(Refusal),
    TimedOut,
    AnswerLost,
    Silent,
    Arrives { after: Duration },
    CrashBefore,
    CrashAfter,
    CrashAndArrives { after: Duration },
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The verb.
    pub verb: Verb,
    /// The kind.
    pub plural: &'static str,
    /// The object, with `/status` for that part of it.
    pub name: String,
}

/// The faults of one schedule, and the account of the calls.
#[derive(Default)]
pub struct Plan {
    faults: Vec<Fault>,
    made: Mutex<Vec<Made>>,
    crash: Notify,
    met: AtomicBool,
}

impl Plan {
    /// A schedule with these faults.
    pub fn new(faults: &[Fault]) -> Self {
        Plan { faults: faults.to_vec(), ..Plan::default() }
    }

    /// Every call that was made so far.
    pub fn made(&self) -> Vec<Made> {
        self.made.lock().clone()
    }

    /// The number of calls that would change something.
    pub fn writes(&self) -> usize {
        self.made.lock().iter().filter(|made| made.verb.writes()).count()
    }

    /// Whether a fault came true.
    pub fn met(&self) -> bool {
        self.met.load(Relaxed)
    }

    /// Waits until the process has to end.
    pub async fn crashed(&self) {
        self.crash.notified().await;
    }

    pub(crate) fn crash(&self) {
        self.crash.notify_one();
    }

    /// Takes a call down and tells what becomes of it.
    pub(crate) fn fate(&self, call: &Call) -> Fate {
        let mut made = self.made.lock();
        let number = made.len();
        let part = if call.subresource.is_empty() { "" } else { "/" };
        // An Event is named by the clock on the wall.
        let name = if call.kind.plural == "events" { "" } else { call.name.as_str() };
        let name = format!("{name}{part}{}", call.subresource);
        made.push(Made { verb: call.verb, plural: call.kind.plural, name });
        let mishap = self.faults.iter().find_map(|fault| match fault {
            Fault::Call(of, mishap) if *of == number => Some(*mishap),
            _ => None,
        });
        let Some(mishap) = mishap else { return Fate::Served };
        self.met.store(true, Relaxed);
        let refused = |code, reason| Fate::Refused(Refusal { code, reason, message: "as planned".into() });
        let seconds = |seconds| Duration::from_secs(u64::from(seconds));
        match mishap {
            Mishap::Conflict => refused(409, "Conflict"),
            Mishap::TooMany => refused(429, "TooManyRequests"),
            Mishap::ServerError => refused(500, "InternalError"),
            Mishap::TimedOut => Fate::TimedOut,
            Mishap::Silent => Fate::Silent,
            Mishap::AnswerLost => Fate::AnswerLost,
            Mishap::Delayed(after) => Fate::Arrives { after: seconds(after) },
            Mishap::CrashBefore => Fate::CrashBefore,
            Mishap::CrashAfter => Fate::CrashAfter,
            Mishap::CrashDelayed(after) => Fate::CrashAndArrives { after: seconds(after) },
        }
    }

    /// Whether the change of this version is lost.
    pub(crate) fn loses(&self, version: u64) -> bool {
        let loses = self.faults.contains(&Fault::Lost(version));
        if loses {
            self.met.store(true, Relaxed);
        }
        loses
    }

    /// How many newer versions a change waits for, and whether only those of its own object count.
    pub(crate) fn holds(&self, plural: &str, version: u64) -> (usize, bool) {
        let held = self.faults.iter().find_map(|fault| match fault {
            Fault::Held(of, versions) if *of == version => Some((*versions, true)),
            Fault::Stale(of, versions) if *of == plural => Some((*versions, false)),
            _ => None,
        });
        if held.is_some() {
            self.met.store(true, Relaxed);
        }
        held.unwrap_or((0, false))
    }
}

impl Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mishap::Conflict => write!(f, "conflict"),
            Mishap::TooMany => write!(f, "429"),
            Mishap::ServerError => write!(f, "500"),
            Mishap::TimedOut => write!(f, "timeout"),
            Mishap::Silent => write!(f, "silent"),
            Mishap::AnswerLost => write!(f, "answer-lost"),
            Mishap::Delayed(seconds) => write!(f, "delayed-{seconds}"),
            Mishap::CrashBefore => write!(f, "crash-before"),
            Mishap::CrashAfter => write!(f, "crash-after"),
            Mishap::CrashDelayed(seconds) => write!(f, "crash-delayed-{seconds}"),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Call(number, mishap) => write!(f, "call:{number}:{mishap}"),
            Fault::Stale(plural, versions) => write!(f, "stale:{plural}:{versions}"),
            Fault::Held(version, versions) => write!(f, "held:{version}:{versions}"),
            Fault::Lost(version) => write!(f, "lost:{version}"),
        }
    }
}

impl FromStr for Mishap {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let seconds = |prefix| text.strip_prefix(prefix)?.parse().ok();
        Ok(match text {
            "conflict" => Mishap::Conflict,
            "429" => Mishap::TooMany,
            "500" => Mishap::ServerError,
            "timeout" => Mishap::TimedOut,
            "silent" => Mishap::Silent,
            "answer-lost" => Mishap::AnswerLost,
            "crash-before" => Mishap::CrashBefore,
            "crash-after" => Mishap::CrashAfter,
            _ => match (seconds("delayed-"), seconds("crash-delayed-")) {
                (Some(seconds), _) => Mishap::Delayed(seconds),
                (_, Some(seconds)) => Mishap::CrashDelayed(seconds),
                _ => return Err(()),
            },
        })
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let steps: Vec<_> = text.split(':').collect();
            Some(match steps[..] {
                ["call", number, mishap] => Fault::Call(number.parse().ok()?, mishap.parse().ok()?),
                ["stale", plural, versions] => {
                    let kind = KINDS.iter().find(|kind| kind.plural == plural)?;
                    Fault::Stale(kind.plural, versions.parse().ok()?)
                }
                ["held", version, versions] => Fault::Held(version.parse().ok()?, versions.parse().ok()?),
                ["lost", version] => Fault::Lost(version.parse().ok()?),
                _ => return None,
            })
        };
        read().ok_or_else(|| {
            format!("{text:?} is no fault: write call:N:MISHAP, stale:KIND:N, held:VERSION:N or lost:VERSION")
        })
    }
}

//! Counts the operator's calls in the API server's audit log, from a point in it on.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::operator::USER;

/// A place in the log.
pub(crate) struct AuditLog {
    path: PathBuf,
    from: u64,
}

/// Calls by verb and resource.
#[derive(Default)]
pub(crate) struct Calls(BTreeMap<(String, String), usize>);

impl AuditLog {
    /// What comes from now on.
    pub(crate) fn at_its_end(path: &Path) -> Result<Self> {
        let from = path.metadata().with_context(|| format!("no audit log at {}", path.display()))?.len();
        Ok(AuditLog { path: path.to_owned(), from })
    }

    /// The operator's calls since then.
    pub(crate) fn count(&self) -> Result<Calls> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut calls = Calls::default();
        for line in BufReader::new(file).lines() {
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<Value>(&line?) else { continue };
            if entry["impersonatedUser"]["username"] == USER {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let resource = match text(&entry["objectRef"]["subresource"]) {
                    none if none.is_empty() => text(&entry["objectRef"]["resource"]),
                    sub => format!("{}/{sub}", text(&entry["objectRef"]["resource"])),
                };
                *calls.0.entry((text(&entry["verb"]), resource)).or_default() += 1;
            }
        }
        Ok(calls)
    }
}

impl Calls {
    /// All of them, but those of the lease.
    pub(crate) fn total(&self) -> usize {
        self.0.iter().filter(|((_, resource), _)| resource != "leases").map(|(_, count)| count).sum()
    }

    /// Those that change something, but those of the lease.
    pub(crate) fn writes(&self) -> usize {
        let writes = |verb: &str| !matches!(verb, "get" | "list" | "watch");
        self.0.iter().filter(|((verb, resource), _)| writes(verb) && resource != "leases").map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|((verb, what), count)| format!("{verb} {what} {count}")).collect();
        f.write_str(&words.join(", "))
    }
}

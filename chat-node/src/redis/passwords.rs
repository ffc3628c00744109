//! Which sessions are older than a password: an account's is in the store and its sessions are here, so a change has two steps, and Redis
//! may fall away between them.
//!
//! A session has the mark of the password that was shown for it. A change is noted here before the store has it, and that is forgotten
//! only together with all sessions that were begun since. So while there is a note, what is used is compared with the store.

use std::fmt;

use ring::digest::{SHA256, digest};
use uuid::Uuid;

/// Bytes of a mark: it tells passwords of one account apart, and is no secret.
const MARK_BYTES: usize = 16;

/// What stands for a password, given its hash. The hash has a random salt, so the same password set anew has another mark.
pub(super) fn mark(password_hash: &str) -> String {
    digest(&SHA256, password_hash.as_bytes())
        .as_ref()
        .iter()
        .take(MARK_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A change of a password.
pub(super) struct Change {
    /// Tells it from others.
    id: Uuid,
    /// The session that goes on.
    pub(super) keep: Option<Uuid>,
}

impl Change {
    pub(super) fn new(keep: Option<Uuid>) -> Change {
        Change { id: Uuid::new_v4(), keep }
    }
}

impl fmt::Display for Change {
    /// As it is noted.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/", self.id)?;
        self.keep.map_or(Ok(()), |keep| write!(to, "{keep}"))
    }
}

/// What is known of a session's password.
pub(super) struct Shown {
    /// The mark of the one that was shown for it; empty for a session of a version that kept none.
    pub(super) mark: String,
    /// The change that is noted; empty for none.
    pub(super) changing: String,
}

impl Shown {
    /// Whether the session may be older than the password.
    pub(super) fn is_in_doubt(&self, login: Uuid) -> bool {
        let keep = self.changing.split_once('/').and_then(|(_, keep)| Uuid::parse_str(keep).ok());
        !self.changing.is_empty() && keep != Some(login)
    }

    /// Whether it was begun with the password of this hash.
    pub(super) fn is_of(&self, password_hash: Option<&str>) -> bool {
        password_hash.is_some_and(|hash| mark(hash) == self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_in_doubt_while_a_change_is_noted_that_does_not_keep_it() {
        let (kept, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let shown = |changing: String| Shown { mark: mark("old"), changing };
        assert!(!shown(String::new()).is_in_doubt(other));
        let noted = shown(Change::new(Some(kept)).to_string());
        assert!(!noted.is_in_doubt(kept) && noted.is_in_doubt(other));
        assert!(shown(Change::new(None).to_string()).is_in_doubt(kept));
        assert!(noted.is_of(Some("old")) && !noted.is_of(Some("new")) && !noted.is_of(None));
        assert!(!Shown { mark: String::new(), changing: String::new() }.is_of(Some("old")), "of an earlier version");
    }
}

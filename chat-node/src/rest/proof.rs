//! Whether somebody knows the password of an account. Wrong ones cost time, and nothing else does: an attempt counts as a failure until its
//! password was looked at, and no longer when that never happens.

use std::net::IpAddr;

use super::problem::{Problem, Reason};
use crate::{
    auth::{Passwords, is_username},
    gateway::now_ms,
    metric::Metric,
    store::{SharedSessions, SharedStore},
};

/// Whether this is the password of that account: gives its hash. A wrong one counts, and whoever has guessed too often is told to wait.
pub(super) async fn prove(
    store: &SharedStore,
    sessions: &SharedSessions,
    passwords: &Passwords,
    username: &str,
    password: String,
    address: Option<IpAddr>,
) -> Result<Option<String>, Problem> {
    // A name that no account can have, such as one with a NUL, is not looked up.
    let account = is_username(username).then_some(username);
    let is_known = match account.zip(address) {
        Some((account, address)) => sessions.knows(account, address, now_ms()).await?,
        None => false,
    };
    // Before the attempt, so that no question to the store stands between it and its password.
    let hash = match account {
        Some(account) => store.password_hash(account).await?,
        None => None,
    };
    let mut attempt = Attempt { store, account, address, is_known, made_ms: now_ms(), is_open: false };
    let wait = store.attempt(account, address, is_known, attempt.made_ms).await?;
    if !wait.is_zero() {
        Metric::Logins.count_for("too_many_attempts");
        return Err(Problem::from(Reason::TooManyAttempts).retry_after(wait));
    }
    attempt.is_open = true;
    let verified = passwords.verify(password, hash.clone()).await;
    if verified.is_err() {
        // Whoever tries again at once finds it taken back.
        attempt.take_back().await;
    }
    if !verified? {
        attempt.is_open = false;
        Metric::Logins.count_for("bad_credentials");
        if let Some(address) = address {
            store.failed(address, now_ms()).await?;
        }
        return Ok(None);
    }
    Metric::Logins.count_for("ok");
    store.forgive(username, address).await?;
    attempt.is_open = false;
    Ok(hash)
}

/// An attempt, which counts as a failure in advance. When it is dropped while it is open, because the node is overloaded or whoever asked is
/// gone, it is taken back.
struct Attempt<'a> {
    store: &'a SharedStore,
    account: Option<&'a str>,
    address: Option<IpAddr>,
    is_known: bool,
    made_ms: i64,
    /// Whether it was counted and is not known to have failed.
    is_open: bool,
}

impl Attempt<'_> {
    /// It does not count.
    fn take_back(&mut self) -> impl Future<Output = ()> + use<> {
        let Attempt { store, account, address, is_known, made_ms, .. } = *self;
        let (store, account) = (store.clone(), account.map(str::to_owned));
        self.is_open = false;
        async move {
            if let Err(error) = store.take_back(account.as_deref(), address, is_known, made_ms).await {
                tracing::warn!(%error, "an attempt to log in counts as a failure although its password was not looked at");
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_open {
            tokio::spawn(self.take_back());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, time::Duration};

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::store::{SqliteStore, StoreLimits};

    const LIMITS: StoreLimits = StoreLimits { rooms_per_user_max: 3, members_per_room_max: 3, outbox_results_kept: 5 };

    /// More than any wrong passwords cost nothing.
    const OFTEN: usize = 60;

    /// How long taking back may take. Less than who has failed so often would wait.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Ground {
        store: SharedStore,
        sessions: SharedSessions,
    }

    impl Ground {
        /// Where alice has an account.
        async fn new(folder: &Path) -> Ground {
            let store = Arc::new(SqliteStore::new(&folder.join("chat.db"), LIMITS));
            let (store, sessions): (SharedStore, SharedSessions) = (store.clone(), store);
            store.migrate().await.unwrap();
            let hash = Passwords::default().hash("correct horse".into()).await.unwrap().unwrap();
            assert!(store.create_account("alice", &hash, now_ms()).await.unwrap());
            Ground { store, sessions }
        }

        async fn prove(&self, passwords: &Passwords, password: &str) -> Result<bool, &'static str> {
            let address = Some([192, 0, 2, 1].into());
            let proof = prove(&self.store, &self.sessions, passwords, "alice", password.into(), address).await;
            proof.map(|hash| hash.is_some()).map_err(|problem| problem.code())
        }

        /// The same, once what was counted in advance is taken back.
        async fn proven(&self, passwords: &Passwords, password: &str) -> Result<bool, &'static str> {
            let told = async {
                loop {
                    match self.prove(passwords, password).await {
                        Err("too_many_attempts") => sleep(Duration::from_millis(10)).await,
                        told => return told,
                    }
                }
            };
            timeout(PATIENCE, told).await.expect("it is not taken back")
        }
    }

    #[tokio::test]
    async fn a_node_that_is_overloaded_counts_no_password_as_wrong_and_forgets_no_wrong_one() {
        let folder = tempfile::tempdir().unwrap();
        let ground = Ground::new(folder.path()).await;
        let passwords = Passwords::default();
        for _ in 0..4 {
            assert_eq!(ground.prove(&passwords, "wrong horse").await, Ok(false));
        }
        let (overloaded, waiting) = Passwords::stuck();
        drop(waiting);
        for _ in 0..OFTEN {
            assert_eq!(ground.proven(&overloaded, "correct horse").await, Err("overloaded"));
        }
        assert_eq!(ground.proven(&passwords, "wrong horse").await, Ok(false));
        assert_eq!(
            ground.prove(&passwords, "correct horse").await,
            Err("too_many_attempts"),
            "those before still count"
        );
    }

    #[tokio::test]
    async fn who_gives_up_before_the_password_was_looked_at_has_not_failed() {
        let folder = tempfile::tempdir().unwrap();
        let ground = Ground::new(folder.path()).await;
        let (slow, mut waiting) = Passwords::stuck();
        for _ in 0..OFTEN {
            tokio::select! {
                proof = ground.proven(&slow, "correct horse") => panic!("{proof:?}"),
                _ = waiting.recv() => {}
            }
        }
        assert_eq!(ground.proven(&Passwords::default(), "correct horse").await, Ok(true));
    }
}

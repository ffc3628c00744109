//! Logins that are asked for together are looked up together: after a restart, thousands of tokens are shown within seconds.
//!
//! While one batch is looked up, the next one gathers; a single one waits for nobody.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, oneshot};
use uuid::Uuid;

use crate::store::{SharedSessions, StoreError};

/// Logins that are looked up together at most.
const BATCH_MAX: usize = 1_000;

/// Hears whether a login is good; `None` when the store does not say.
type Reply = oneshot::Sender<Option<bool>>;

/// Those who ask, and the right to look up for them.
#[derive(Default)]
pub(super) struct Asking {
    waiting: Mutex<Vec<(Uuid, Reply)>>,
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl Asking {
    /// Whether a login is good. Whoever is first when nobody looks up begins to.
    pub(super) async fn is_good(
        &self,
        sessions: &SharedSessions,
        login: Uuid,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        self.waiting.lock().push((login, reply));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.ok().flatten().ok_or(StoreError::Silent),
                right = self.looking.clone().lock_owned() => {
                    let batch: Vec<_> = {
                        let mut waiting = self.waiting.lock();
                        let size = waiting.len().min(BATCH_MAX);
                        waiting.drain(..size).collect()
                    };
                    if !batch.is_empty() {
                        // In a task of its own, because others wait for it even if this one is given up.
                        tokio::spawn(look_up(right, sessions.clone(), batch, now_ms));
                    }
                }
            }
        }
    }
}

async fn look_up(_right: OwnedMutexGuard<()>, sessions: SharedSessions, batch: Vec<(Uuid, Reply)>, now_ms: i64) {
    let logins: Vec<Uuid> = batch.iter().map(|(login, _)| *login).collect();
    let good = super::within(sessions.good_logins(&logins, now_ms)).await;
    let good = good.map(HashSet::<Uuid>::from_iter);
    if let Err(error) = &good {
        tracing::warn!(%error, "whether sessions were ended cannot be told");
    }
    for (login, reply) in batch {
        // Whoever asked may be gone.
        let _ = reply.send(good.as_ref().ok().map(|good| good.contains(&login)));
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::join_all};

    use super::*;
    use crate::{
        auth::RefreshToken,
        store::{NewLogin, SharedStore, SqliteStore, StoreLimits},
    };

    const NOW: i64 = 1_767_225_600_000;

    #[tokio::test]
    async fn each_of_many_hears_of_its_own_login_whoever_gives_up() {
        let folder = tempfile::tempdir().unwrap();
        let limits = StoreLimits { rooms_per_user_max: 1, members_per_room_max: 1, outbox_results_kept: 1 };
        let store: SharedStore = Arc::new(SqliteStore::new(&folder.path().join("chat.db"), limits));
        store.migrate().await.unwrap();
        let (id, user) = (Uuid::from_u128(1), "alice".to_owned());
        let token = RefreshToken::new(Uuid::from_u128(2), [1; 32]);
        store
            .begin_login(&NewLogin { id, user, address: None, expires_ms: NOW + 1, token, password_hash: None }, NOW)
            .await
            .unwrap();

        let (asking, sessions): (_, SharedSessions) = (Asking::default(), store.clone());
        // The first begins to look up and is given up at once.
        assert!(asking.is_good(&sessions, id, NOW).now_or_never().is_none());
        let asked = (0..2_500_u128).map(|number| {
            let (asking, sessions) = (&asking, &sessions);
            async move { asking.is_good(sessions, Uuid::from_u128(number), NOW).await.unwrap() }
        });
        let good: Vec<usize> =
            join_all(asked).await.into_iter().enumerate().filter(|(_, good)| *good).map(|(number, _)| number).collect();
        assert_eq!(good, [1]);
        store.close().await;
        assert!(matches!(asking.is_good(&sessions, id, NOW).await, Err(StoreError::Silent)));
    }
}

//! Hearing: passes on what other nodes, the store and Redis tell, and looks at what may have been missed until the store has answered.
//!
//! Nothing that is told is waited for by anybody, so a look that fails would never be made up for: it is owed until it is done.

use std::{collections::BTreeSet, mem::take, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};

use crate::{
    announcements::Announcements,
    bus::{Incoming, Scope, Shard},
    event::User,
    gateway::now_ms,
    health::Health,
    hub::Hub,
    intake::Intake,
    logins::Logins,
    signals::Signals,
    store::{Hint, StoreError},
};

/// Time between looks, while the store does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// How long the store is left to others at most after a look at everything.
const LOOK_SECONDS_MAX: Duration = Duration::from_secs(5);

/// What hears, and whom it tells.
pub struct Hearing {
    parts: Parts,
    missed: Mutex<Missed>,
    stirred: Notify,
}

/// Who is told.
#[allow(missing_docs, reason = "each is told what concerns it")]
pub struct Parts {
    pub hub: Arc<Hub>,
    pub intake: Intake,
    pub signals: Arc<Signals>,
    pub logins: Arc<Logins>,
    pub announcements: Arc<Announcements>,
}

/// What is to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Missed {
    /// All rooms, and everybody's memberships.
    everything: bool,
    /// Whose sessions were ended.
    logins: bool,
    /// The members of the rooms that are watched.
    watched: bool,
    /// Everybody's memberships.
    memberships: bool,
    /// Events of these shards' rooms.
    shards: BTreeSet<Shard>,
    /// Memberships of these users.
    users: BTreeSet<User>,
}

impl Missed {
    fn add(&mut self, scope: Scope) {
        self.watched |= scope.has_memberships();
        match scope {
            Scope::Everything => (self.everything, self.logins) = (true, true),
            Scope::Memberships => self.memberships = true,
            Scope::Shard(shard) => drop(self.shards.insert(shard)),
        }
    }

    fn merge(&mut self, other: Missed) {
        self.everything |= other.everything;
        self.logins |= other.logins;
        self.watched |= other.watched;
        self.memberships |= other.memberships;
        self.shards.extend(other.shards);
        self.users.extend(other.users);
    }

    fn is_empty(&self) -> bool {
        *self == Missed::default()
    }
}

impl Hearing {
    /// Hears for these.
    pub fn new(parts: Parts) -> Arc<Hearing> {
        Arc::new(Hearing { parts, missed: Mutex::default(), stirred: Notify::new() })
    }

    /// Something may have been missed.
    pub fn miss(&self, scope: Scope) {
        self.owe(|missed| missed.add(scope));
    }

    fn owe(&self, what: impl FnOnce(&mut Missed)) {
        what(&mut self.missed.lock());
        self.stirred.notify_one();
    }

    /// Looks at everything each time that the store is back. A commit that was not answered may have happened all the same, and whoever asked
    /// again was told that it had: so nobody else was told at all.
    pub async fn returns(self: Arc<Self>, health: Arc<Health>) {
        health.each_return(|| self.miss(Scope::Everything)).await;
    }

    /// Passes on what other nodes tell.
    pub async fn bus(self: Arc<Self>, mut incoming: mpsc::Receiver<Incoming>) {
        let Parts { hub, intake, signals, .. } = &self.parts;
        while let Some(incoming) = incoming.recv().await {
            match incoming {
                Incoming::Events(events) => {
                    hub.deliver(events);
                    intake.stir();
                }
                Incoming::Memberships(changes) => {
                    changes.iter().for_each(|change| hub.change(change));
                    signals.change(&changes);
                }
                Incoming::Signals(peer, told) => signals.hear(&peer, told),
                Incoming::Missed(scope) => self.miss(scope),
            }
        }
    }

    /// Passes on what the store tells.
    pub async fn store(self: Arc<Self>, mut hints: mpsc::Receiver<Hint>) {
        let Parts { hub, logins, announcements, .. } = &self.parts;
        while let Some(hint) = hints.recv().await {
            match hint {
                Hint::Changed { heads, users } => {
                    hub.hear(heads);
                    if !users.is_empty() {
                        self.owe(|missed| missed.users.extend(users));
                    }
                }
                Hint::Ended(over) => logins.end(&over),
                Hint::Announced => announcements.stir(),
                Hint::Missed => self.miss(Scope::Everything),
            }
        }
    }

    /// Passes on what Redis tells of sessions.
    pub async fn sessions(self: Arc<Self>, mut hints: mpsc::Receiver<Hint>) {
        while let Some(hint) = hints.recv().await {
            match hint {
                Hint::Ended(over) => self.parts.logins.end(&over),
                Hint::Missed => self.owe(|missed| missed.logins = true),
                // That is the store's to tell.
                Hint::Changed { .. } | Hint::Announced => {}
            }
        }
    }

    /// Looks at what may have been missed, for as long as the node lives. Under load much is missed while one look is under way, and is one
    /// look then. Looks at everything leave the store most of the time to others: it may be because it is slow that they are owed.
    pub async fn look(self: Arc<Self>) {
        loop {
            self.stirred.notified().await;
            let missed = take(&mut *self.missed.lock());
            let began = Instant::now();
            let owed = self.look_at(&missed).await;
            if missed.everything {
                sleep(LOOK_SECONDS_MAX.min(3 * began.elapsed()) + RETRY).await;
            } else if !owed.is_empty() {
                sleep(RETRY).await;
            }
            if !owed.is_empty() {
                self.owe(|since| since.merge(owed));
            }
        }
    }

    /// Gives what could not be looked at.
    async fn look_at(&self, missed: &Missed) -> Missed {
        let Parts { hub, signals, logins, announcements, .. } = &self.parts;
        let mut owed = Missed::default();
        let is_done = |result: Result<(), StoreError>| {
            let Err(error) = &result else { return true };
            tracing::debug!(%error, "what may have been missed cannot be read yet");
            false
        };
        if missed.everything {
            announcements.stir();
        }
        let users: Vec<User> = missed.users.iter().cloned().collect();
        if !is_done(look_at_rooms(hub, missed, &users).await) {
            let Missed { everything, memberships, shards, users, .. } = missed.clone();
            owed = Missed { everything, memberships, shards, users, ..owed };
        }
        let watched = match missed.watched {
            true => signals.recheck().await,
            // The bus tells the others of it.
            false if signals.hears_all() => Ok(()),
            false => signals.recheck_users(&users).await,
        };
        owed.watched = !is_done(watched);
        owed.logins = missed.logins && !is_done(logins.recheck(now_ms()).await);
        owed
    }
}

async fn look_at_rooms(hub: &Hub, missed: &Missed, users: &[User]) -> Result<(), StoreError> {
    if missed.everything {
        return hub.recheck(Scope::Everything).await;
    }
    for shard in &missed.shards {
        hub.recheck(Scope::Shard(*shard)).await?;
    }
    match missed.memberships {
        true => hub.recheck(Scope::Memberships).await,
        false => hub.recheck_memberships(users).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_and_not_seen_is_owed_with_what_is_missed_since() {
        let mut owed = Missed::default();
        assert!(owed.is_empty());
        owed.add(Scope::Shard(3));
        owed.users.insert("alice".into());
        let mut since = Missed { logins: true, ..Missed::default() };
        since.add(Scope::Shard(4));
        since.add(Scope::Memberships);
        since.merge(owed);
        let all = Missed {
            everything: false,
            logins: true,
            watched: true,
            memberships: true,
            shards: [3, 4].into(),
            users: ["alice".into()].into(),
        };
        assert_eq!(since, all);
        since.add(Scope::Everything);
        assert!(since.everything && !since.is_empty());
    }
}

//! Logins: who is signed in on which device, which users see as their sessions; and that what is ended ends at once.
//!
//! Owns which connections belong to which login, and asks the store whether a login is good: when a token is shown, never for a frame.
//! The store tells all nodes which logins were ended; a node that may have missed that compares. The bus has no part in it: what ends a
//! login needs the store anyway.

mod asking;
mod register;

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use self::{asking::Asking, register::Register};
use crate::{
    hub::{ConnectionId, Outbound},
    metric::Metric,
    protocol::{CloseReason, Code, ServerFrame},
    store::{self, Seen, SharedSessions, SharedStore, StoreError},
};

/// Time between writes of signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// Beats between comparisons with the store, should a hint be lost unnoticed; and between clearances of what has expired.
const COMPARED_EVERY: u32 = 30;
const CLEARED_EVERY: u32 = 60 * 60;

/// How long the store may take to say whether a login is good.
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(5);

/// Why a login ended. Labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its user has signed out, there or from another device.
    SignedOut,
    /// A refresh token was used twice.
    Reused,
    /// Its user has signed in on too many other devices.
    Displaced,
    /// An administrator has taken a bot's token back.
    Revoked,
    /// Its user has changed the password elsewhere.
    PasswordChanged,
}

impl Ending {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::SignedOut => "signed_out",
            Ending::Reused => "reused",
            Ending::Displaced => "displaced",
            Ending::Revoked => "revoked",
            Ending::PasswordChanged => "password_changed",
        }
    }
}

/// The logins of a node.
pub struct Logins {
    register: Mutex<Register>,
    asking: Asking,
    sessions: SharedSessions,
    store: SharedStore,
}

impl Logins {
    /// Starts the beat, which ends with the last handle.
    pub fn start(sessions: SharedSessions, store: SharedStore) -> Arc<Logins> {
        let logins = Arc::new(Logins { register: Mutex::default(), asking: Asking::default(), sessions, store });
        tokio::spawn(beat(Arc::downgrade(&logins)));
        logins
    }

    /// Whether a login is good.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn is_good(&self, login: Uuid, now_ms: i64) -> Result<bool, StoreError> {
        let known = self.register.lock().known(login, Instant::now());
        if let Some(is_good) = known {
            return Ok(is_good);
        }
        let is_good = self.asking.is_good(&self.sessions, login, now_ms).await?;
        Ok(self.register.lock().found(login, is_good, Instant::now()))
    }

    /// A connection belongs to a login from now on. When that was ended meanwhile, the connection is closed.
    pub fn enter(&self, login: Uuid, id: ConnectionId, outbound: &Arc<Outbound>, seen: Seen) {
        let is_good = {
            let mut register = self.register.lock();
            register.note(login, seen);
            register.enter(login, id, outbound)
        };
        if !is_good {
            close(outbound);
        }
    }

    /// A connection belongs to a login no more.
    pub fn exit(&self, login: Uuid, id: ConnectionId, seen: Seen) {
        let mut register = self.register.lock();
        register.note(login, seen);
        register.exit(login, id);
    }

    /// A login gave a sign of life.
    pub fn note(&self, login: Uuid, seen: Seen) {
        self.register.lock().note(login, seen);
    }

    /// Logins were ended here. The store has told the other nodes.
    pub fn ended(&self, logins: &[Uuid], ending: Ending) {
        logins.iter().for_each(|_| Metric::SessionsEnded.count_for(ending.as_str()));
        self.end(logins);
    }

    /// Logins were ended, here or elsewhere: their connections close.
    pub fn end(&self, logins: &[Uuid]) {
        let connections = self.register.lock().end(logins, Instant::now());
        connections.iter().for_each(close);
    }

    /// Something may have been missed: compares the logins that are here with the store.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn recheck(&self, now_ms: i64) -> Result<(), StoreError> {
        const AT_ONCE: usize = 1_000;
        let here = self.register.lock().logins();
        for logins in here.chunks(AT_ONCE) {
            let good: HashSet<Uuid> = within(self.sessions.good_logins(logins, now_ms)).await?.into_iter().collect();
            let over: Vec<Uuid> = logins.iter().filter(|login| !good.contains(login)).copied().collect();
            self.end(&over);
        }
        Ok(())
    }

    /// Writes the signs of life, and forgets what is old.
    async fn pass(&self, beat: u32, now_ms: i64) -> Result<(), StoreError> {
        let noted = self.write_notes().await;
        if beat.is_multiple_of(COMPARED_EVERY) {
            self.recheck(now_ms).await?;
        }
        if beat.is_multiple_of(CLEARED_EVERY) {
            within(self.sessions.forget_logins(now_ms)).await?;
            within(self.store.forget_attempts(now_ms)).await?;
        }
        noted
    }

    /// Those that cannot be written wait for the next beat.
    async fn write_notes(&self) -> Result<(), StoreError> {
        let notes = self.register.lock().pass(Instant::now());
        if notes.is_empty() {
            return Ok(());
        }
        let written = within(self.sessions.note_logins(&notes)).await;
        if written.is_err() {
            self.register.lock().put_back(notes);
        }
        written
    }
}

async fn within<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    store::within(ANSWER_SECONDS_MAX, question).await
}

/// Tells a client that its session is over, and to stop.
fn close(outbound: &Arc<Outbound>) {
    Metric::Errors.count_for(Code::BadToken.as_str());
    let last = ServerFrame::error(None, None, Code::BadToken).encode();
    outbound.close(CloseReason::SignedOut, Some(&last));
}

async fn beat(logins: Weak<Logins>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for beat in 1..=u32::MAX {
        beats.tick().await;
        let Some(logins) = logins.upgrade() else { return };
        if let Err(error) = logins.pass(beat, crate::gateway::now_ms()).await {
            tracing::debug!(%error, "what logins do could not be noted or compared");
        }
    }
}

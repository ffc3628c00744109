//! Keeping: this node's messages are laid down where sessions live, and other nodes' are read there while the bus does not carry them.
//!
//! Once a second, and beside everything else: a sign of life and what was told since the last, in one request, which brings back the
//! others' signs of life. Nothing else is asked while the bus carries and nothing changes, however many users there are; whoever comes, goes
//! or waits for the beat waits for none of it. One request at a time is under way. What is decided is in [`roll`](super::roll) and
//! [`ledger`](super::ledger).

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};

use super::{Inner, Signals, ledger, now_ms, roll::Told};
use crate::store::{self, ROLL_KEPT_MS, Run, StoreError};

/// Time between two signs of life.
const EVERY: Duration = Duration::from_secs(1);

/// The same until the first was given: a node that starts is to know of the others before it is asked.
const EVERY_FIRST: Duration = Duration::from_millis(100);

/// How long a request may take. After that the store counts as away; and so much later than otherwise a node counts as gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// Messages that are read in one request.
const READ_AT_ONCE: usize = 256;

/// Requests that read in one beat. The rest waits for the next.
const READS_MAX: usize = 32;

/// Keeps, until the last handle to the signals is gone.
pub(super) async fn keep(signals: Weak<Signals>) {
    let (mut every, mut was_away, mut is_rechecked) = (EVERY_FIRST, false, false);
    let mut rechecking: Option<JoinHandle<()>> = None;
    loop {
        let Some(signals) = signals.upgrade() else { return };
        if signals.has_others() {
            let kept = signals.keep().await;
            match &kept {
                Ok(()) => every = EVERY,
                Err(error) if !was_away => tracing::debug!(%error, "who is present is told by the bus alone"),
                Err(_) => {}
            }
            was_away = kept.is_err();
            // Before the bus was known not to carry everybody, memberships may have changed unheard.
            let is_quiet = !signals.hears_all();
            is_rechecked &= is_quiet;
            if is_quiet && !is_rechecked && rechecking.as_ref().is_none_or(JoinHandle::is_finished) {
                is_rechecked = true;
                rechecking = Some(tokio::spawn(recheck(Arc::downgrade(&signals))));
            }
        }
        signals.note_gone().await;
        drop(signals);
        sleep(every).await;
    }
}

/// Reads the members of watched rooms again, as soon as they can be read.
async fn recheck(signals: Weak<Signals>) {
    while let Some(signals) = signals.upgrade() {
        match signals.recheck().await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "members of watched rooms cannot be read yet"),
        }
        drop(signals);
        sleep(EVERY).await;
    }
}

async fn within<T>(request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    store::within(PATIENCE, request).await
}

impl Signals {
    /// This node ends: nobody is present on it any more.
    pub async fn end(&self) {
        if !self.has_others() {
            return;
        }
        let end = async {
            let mut is_over = self.is_over.lock().await;
            *is_over = true;
            self.sessions.end_roll(self.bus.peer()).await
        };
        if let Err(error) = within(end).await {
            tracing::debug!(%error, "other nodes find out by themselves that nobody is here any more");
        }
    }

    /// Notes when those who are gone were last seen. What cannot be noted waits for the next beat.
    async fn note_gone(&self) {
        let gone = self.inner.lock().roll.take_gone();
        if !gone.is_empty()
            && let Err(error) = within(self.sessions.note_seen(&gone)).await
        {
            tracing::debug!(%error, "when users were last seen cannot be noted yet");
            self.inner.lock().roll.note_gone(gone);
        }
    }

    async fn keep(&self) -> Result<(), StoreError> {
        let given = self.give().await;
        // Also when there was no answer: whoever is heard of on no way is gone.
        let (runs, now_ms) = (given.as_deref().unwrap_or_default(), now_ms());
        let mut to_read = self.inner.lock().roll.look(runs, self.bus.peer(), now_ms);
        for _ in 0..READS_MAX {
            if to_read.is_empty() {
                break;
            }
            self.catch_up(&to_read).await?;
            let next = self.inner.lock().roll.look(runs, self.bus.peer(), now_ms);
            if next == to_read {
                // It is of a version that tells otherwise.
                break;
            }
            to_read = next;
        }
        if runs.iter().any(|run| run.age_ms > ROLL_KEPT_MS) {
            within(self.sessions.forget_rolls()).await?;
        }
        given.map(drop)
    }

    /// Gives a sign of life and what was told since the last. Gives back what the store tells of all nodes.
    async fn give(&self) -> Result<Vec<Run>, StoreError> {
        let is_over = self.is_over.lock().await;
        if *is_over {
            return Ok(Vec::new());
        }
        let own = self.bus.peer();
        let everyone = {
            let Inner { roll, ledger, .. } = &mut *self.inner.lock();
            ledger.must_begin().then(|| roll.everyone())
        };
        if let Some((number, text)) = everyone.as_ref().and_then(ledger::message) {
            within(self.sessions.begin_roll(own, number, &text)).await?;
            self.inner.lock().ledger.begun(number);
        }
        let messages = self.inner.lock().ledger.waiting();
        let runs = within(self.sessions.add_to_roll(own, &messages)).await?;
        let ledger = &mut self.inner.lock().ledger;
        if !runs.iter().any(|run| run.run == own) {
            ledger.lost();
        } else if let Some((number, _)) = messages.last() {
            ledger.given(*number);
        }
        Ok(runs)
    }

    /// Reads what these nodes told after these numbers.
    async fn catch_up(&self, after: &[(String, i64)]) -> Result<(), StoreError> {
        for message in within(self.sessions.read_rolls(after, READ_AT_ONCE)).await? {
            if let Ok(told) = serde_json::from_str::<Told>(&message.text) {
                self.inner.lock().roll.read(&message.run, told);
            }
        }
        Ok(())
    }
}

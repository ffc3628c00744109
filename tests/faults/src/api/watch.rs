//! Watches: the log of changes as a stream of events, from a version on, with bookmarks.
//!
//! Owns what may go wrong between the log and a client: an event that is held back until newer ones are there, and an event that is
//! lost until the client is told that its version is gone and lists anew.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{Server, call::Call, refusal::Refusal, store::Change, verbs::shown};
use crate::plan::Plan;

/// Time between bookmarks.
const BOOKMARK: Duration = Duration::from_secs(60);

/// A held event is let go after so long, whatever comes.
const HELD_MAX: Duration = Duration::from_secs(20);

/// After so long a client that lost an event is told that its version is gone.
const LOST_FOR: Duration = Duration::from_secs(20);

struct Watching {
    server: Server,
    call: Call,
    plan: Arc<Plan>,
    /// Changes that were looked at.
    seen: usize,
    bookmark: Instant,
    end: Instant,
    gone: Option<Instant>,
    over: bool,
}

/// What to do with the next change.
enum Next {
    Send(Bytes),
    Skip,
    WaitUntil(Instant),
}

/// Opens a watch.
pub(super) fn open(
    server: Server,
    call: Call,
    plan: Arc<Plan>,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let from = call.parameter("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0usize);
    let timeout = call.parameter("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let now = Instant::now();
    let gone = (u64::try_from(from).unwrap_or(0) < server.kept_from()).then_some(now);
    let watching = Watching {
        server,
        call,
        plan,
        seen: from,
        bookmark: now + BOOKMARK,
        end: now + Duration::from_secs(timeout),
        gone,
        over: false,
    };
    stream::unfold(watching, |mut watching| async move {
        let line = Box::pin(watching.next()).await?;
        Some((Ok(line), watching))
    })
}

impl Watching {
    async fn next(&mut self) -> Option<Bytes> {
        let bell = self.server.bell();
        loop {
            let rung = bell.notified();
            let now = Instant::now();
            if self.over {
                return None;
            }
            // At the latest when the watch ends: the next one would begin after what was lost.
            if self.gone.is_some_and(|gone| now >= gone.min(self.end)) {
                self.over = true;
                return Some(line("ERROR", &Refusal::gone(self.seen as u64).status()));
            }
            if now >= self.end {
                return None;
            }
            let mut wake = self.bookmark.min(self.end).min(self.gone.unwrap_or(self.end));
            match self.look(now) {
                Some(Next::Send(line)) => return Some(line),
                Some(Next::Skip) => continue,
                Some(Next::WaitUntil(when)) => wake = wake.min(when),
                None if now >= self.bookmark => return Some(self.bookmark(now)),
                None => {}
            }
            if now >= self.bookmark {
                self.bookmark = now + BOOKMARK;
                continue;
            }
            tokio::select! {
                biased;
                () = rung => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn bookmark(&mut self, now: Instant) -> Bytes {
        self.bookmark = now + BOOKMARK;
        let kind = self.call.kind;
        let version = self.seen.to_string();
        line(
            "BOOKMARK",
            &json!({
                "kind": kind.kind, "apiVersion": kind.api_version(),
                "metadata": {"resourceVersion": version, "annotations": {}}, "spec": {},
            }),
        )
    }

    /// Looks at the next change; `None` when there is none.
    fn look(&mut self, now: Instant) -> Option<Next> {
        let store = self.server.store();
        let log = store.log();
        let change = log.get(self.seen)?.clone();
        let (plural, namespace, _) = &change.key;
        let ours =
            *plural == self.call.kind.plural && self.call.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
        let event = ours.then(|| self.event(&change)).flatten();
        let Some(event) = event else {
            self.seen += 1;
            return Some(Next::Skip);
        };
        if self.plan.loses(change.version) {
            self.gone.get_or_insert(change.at + LOST_FOR);
            self.seen += 1;
            return Some(Next::Skip);
        }
        let (versions, of_object) = self.plan.holds(plural, change.version);
        let newer = log[self.seen + 1..].iter().filter(|newer| match of_object {
            true => newer.key == change.key,
            false => newer.key.0 == *plural,
        });
        if versions > 0 && newer.take(versions).count() < versions && now < change.at + HELD_MAX {
            return Some(Next::WaitUntil(change.at + HELD_MAX));
        }
        self.seen += 1;
        Some(Next::Send(event))
    }

    /// What a change is to somebody who sees only what the selector takes.
    fn event(&self, change: &Change) -> Option<Bytes> {
        let was = change.before.as_ref().is_some_and(|before| self.call.selects(before));
        let is = !change.deleted && self.call.selects(&change.object);
        let kind = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(line(kind, &shown(&self.call, &change.object)))
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}

//! How the present spec stands: what a person has ordered for it, and whether it has failed before.
//!
//! Owns how the annotation acts: once, when its value is first seen, and on the spec of that moment. To give the same command
//! again, one removes it or adds a suffix (`abort/2`). What it did is in the status, so nothing of the resource's own is written; where the
//! status was lost, an `abort` that still stands there is about what the StatefulSet shows: a rollout under way, or one that was taken back.

use crds::chatcluster::{LiveGate, OnFailure, RolloutOrder, RolloutPhase, RolloutStatus};
use jiff::Timestamp;

use super::{
    Scene, SetView,
    progress::next_second,
    rules::{Rule, holds},
};

/// How the present spec stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// What a person has ordered.
    pub(super) order: Option<RolloutOrder>,
    /// Why it has failed; empty when it has not.
    pub(super) failure: String,
    /// How its nodes did when they were last judged.
    pub(super) live_gate: Option<LiveGate>,
    /// Failures of a node in a row that do not count: those that were there when a person said `resume`.
    pub(super) forgiven: u32,
    /// When a person said `resume`.
    pub(super) resumed: Option<Timestamp>,
    /// The command that was taken last.
    pub(super) command: String,
    /// It has failed, and the old nodes are what is wanted.
    pub(super) goes_back: bool,
    /// It stands still.
    pub(super) paused: bool,
}

impl Standing {
    pub(super) fn of(scene: &Scene, now: Timestamp) -> Standing {
        let previous = scene.previous.clone().unwrap_or_default();
        let same_spec = previous.spec_hash == scene.spec_hash && holds(Rule::RememberFailed);
        let mut standing = match same_spec {
            true => Standing {
                order: previous.order,
                failure: previous.failure.clone(),
                live_gate: previous.live_gate,
                forgiven: previous.forgiven_self_tests,
                resumed: previous.resume_time.as_ref().map(|time| time.0),
                ..Standing::default()
            },
            false => Standing::default(),
        };
        standing.command = scene.command.clone().unwrap_or_default();
        if standing.command != previous.command {
            standing.obey(&previous, scene, now);
        }
        let failed = !standing.failure.is_empty();
        let back = standing.order == Some(RolloutOrder::Abort) || scene.policy.on_failure == OnFailure::Rollback;
        standing.goes_back = failed && back;
        standing.paused = (scene.policy.paused || failed) && !standing.goes_back;
        standing
    }

    fn obey(&mut self, previous: &RolloutStatus, scene: &Scene, now: Timestamp) {
        let under_way = match scene.previous {
            Some(_) => previous.phase != RolloutPhase::Stable || begins(previous, scene),
            None => is_forgotten(scene),
        };
        match self.command.split('/').next().unwrap_or_default() {
            "promote" => (self.order, self.failure) = (Some(RolloutOrder::Promote), String::new()),
            "resume" => {
                (self.order, self.failure) = (None, String::new());
                let failures = scene.nodes.values().filter_map(|node| Some(node.self_test.as_ref()?.failures));
                self.forgiven = failures.max().unwrap_or(0);
                self.resumed = Some(next_second(now));
            }
            "abort" if under_way => {
                self.order = Some(RolloutOrder::Abort);
                self.failure = "it was aborted by the annotation".into();
            }
            _ => {}
        }
    }

    /// Whether the gates are asked.
    pub(super) fn is_judged(&self) -> bool {
        self.order != Some(RolloutOrder::Promote) && !self.goes_back
    }
}

/// Whether a rollout was begun, or taken back, of which no status tells any more.
fn is_forgotten(scene: &Scene) -> bool {
    let Some(set) = &scene.set else { return false };
    set.current_revision != set.update_revision || scene.was_brought_back(set)
}

/// Whether there is something new of which nothing was told yet: whoever says `abort` so soon means that, too.
fn begins(previous: &RolloutStatus, scene: &Scene) -> bool {
    let home = &previous.stable_revision;
    let is_new = |set: &SetView| !set.template_current || !set.fresh || set.update_revision != *home;
    previous.spec_hash != scene.spec_hash
        && scene.revisions.contains_key(home)
        && scene.set.as_ref().is_some_and(is_new)
}

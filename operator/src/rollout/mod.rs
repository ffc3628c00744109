//! The sliding rollout: which ordinals exist, which of them keep their revision, and which revision clients are led to.
//!
//! Owns the decision and nothing else: [`decide`] is a pure function of what was observed and of the time, so a crash of the
//! operator between any two writes resumes where it was. It must never hold a client, read a clock or remember anything.
//!
//! ```text
//!  rest      surge       steer                     slide        ...      rest
//!  A A A ->  A A A b ->  A A A B                -> . A A B  ->  ...  ->  . . . B B B
//!  all       pinned: A   Service: B, settled       A drains              all
//! ```
//!
//! | file | what it decides |
//! |---|---|
//! | `scene` | nothing: the observation, reduced to what a rollout depends on |
//! | `slide` | the next window of a StatefulSet that is there |
//! | `serving` | the revision that the client Service selects |
//! | `adopt` | the first window, also of a StatefulSet that was lost |

mod adopt;
mod scene;
mod serving;
#[cfg(test)]
mod simulation;
mod slide;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crds::chatcluster::{RolloutPhase, RolloutStatus, Window};
use jiff::Timestamp;

pub use self::scene::{PodView, Policy, Scene, SetView};

/// Time between the moment at which the EndpointSlices show the new nodes alone and the first old node's leave. Load balancers and
/// kube-proxy follow the slices within it; the node's own drain has a settle time of the same length.
pub const SETTLE: Duration = Duration::from_secs(5);

/// An old node that has not been ready for so long is broken, and is no longer waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What is to be written, and what is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The ordinals of the StatefulSet. Written together with the template, in one write.
    pub window: Window,
    /// The revision that the client Service selects; `None`: every node.
    pub serving: Option<String>,
    /// The revision that is rolled out; empty before the StatefulSet's controller has named it.
    pub revision: String,
    /// The revision that clients were on before.
    pub stable_revision: String,
    /// The step.
    pub phase: RolloutPhase,
    /// What it waits for, in words.
    pub message: String,
    /// When phase, window or revisions last changed.
    pub last_progress_time: Timestamp,
    /// Nothing came forward for longer than the progress deadline.
    pub deadline_exceeded: bool,
    /// When to decide again although nothing changed.
    pub requeue: Option<Duration>,
}

/// One step, before its time is taken down.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    window: Window,
    serving: Option<String>,
    phase: RolloutPhase,
    message: String,
    requeue: Option<Duration>,
}

/// Decides the next step. What it returns is level-triggered: writing it again changes nothing.
pub fn decide(scene: &Scene, now: Timestamp) -> Decision {
    let step = match &scene.set {
        None => adopt::first_window(scene),
        Some(set) if scene.policy.in_place => slide::in_place(scene, set),
        Some(set) => slide::step(scene, set, now),
    };
    take_down(scene, step, now)
}

/// Adds to a step who is new, who was before, and how long nothing has moved.
fn take_down(scene: &Scene, step: Step, now: Timestamp) -> Decision {
    let previous = scene.previous.as_ref();
    let named = scene.set.as_ref().filter(|set| set.fresh && set.template_current);
    let revision = named.map_or_else(
        || previous.map(|previous| previous.revision.clone()).unwrap_or_default(),
        |set| set.update_revision.clone(),
    );
    let stable_revision = match (step.phase, previous) {
        (RolloutPhase::Stable, _) => revision.clone(),
        (_, Some(previous)) if previous.revision == revision => previous.stable_revision.clone(),
        (_, Some(previous)) => previous.revision.clone(),
        (_, None) => named.map(|set| set.current_revision.clone()).unwrap_or_default(),
    };
    let moved = !previous.is_some_and(|previous| same_place(previous, &step, &revision));
    let last_progress_time = match previous.and_then(|previous| previous.last_progress_time.as_ref()) {
        Some(time) if !moved => time.0,
        _ => now,
    };
    let deadline = scene.unfinished(step.phase).then(|| {
        let newest = scene.pods.iter().filter(|pod| pod.ready).map(|pod| pod.since).max();
        let progress = newest.map_or(last_progress_time, |newest| newest.max(last_progress_time));
        scene.policy.progress_deadline.saturating_sub(elapsed(progress, now))
    });
    Decision {
        deadline_exceeded: deadline.is_some_and(|left| left.is_zero()),
        requeue: [step.requeue, deadline.filter(|left| !left.is_zero())].into_iter().flatten().min(),
        window: step.window,
        serving: step.serving,
        revision,
        stable_revision,
        phase: step.phase,
        message: step.message,
        last_progress_time,
    }
}

fn same_place(previous: &RolloutStatus, step: &Step, revision: &str) -> bool {
    previous.phase == step.phase
        && previous.window == Some(step.window)
        && previous.revision == revision
        && previous.serving_revision == step.serving.as_deref().unwrap_or_default()
}

/// Time from `earlier` to `later`; zero when a clock went back.
fn elapsed(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

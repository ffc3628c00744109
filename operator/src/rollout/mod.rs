//! The judged sliding rollout: which ordinals exist, which of them keep their revision, and which revision clients are led to.
//!
//! Owns the decision and nothing else: [`decide`] is a pure function of what was observed and of the time, so a crash of the
//! operator between any two writes resumes where it was. It must never hold a client, read a clock or remember anything.
//!
//! ```text
//!  rest      surge       prove, steer             judge, slide          ...      rest
//!  A A A ->  A A A b ->  A A A B               -> . A A B            -> ...  ->  . . . B B B
//!  all       pinned: A   self-tests, Service: B   soaked, A drains               all
//!
//!                        back: Service: A         . A A B -> a A A B -> A A A .  all
//! ```
//!
//! | file | what it decides |
//! |---|---|
//! | `scene`, `view` | nothing: the observation, reduced to what a rollout depends on, and counted |
//! | `standing` | whether the present spec has failed, and what a person has ordered |
//! | `slide` | the next window on the way forward |
//! | `dark`, `live` | whether new nodes are good enough: before clients are on them, and after |
//! | `back` | the next window on the way back |
//! | `pause` | what is kept while a change waits that was made in a pause |
//! | `serving` | the revision that the client Service selects |
//! | `adopt` | the first window, also of a StatefulSet that was lost |
//! | `progress` | whether it comes forward, and what is told |
//! | `clock` | since when it does not, and what an absence counts |
//! | `rules` | nothing: the names of the rules, which the tests break one by one |

mod adopt;
mod back;
mod clock;
mod dark;
mod live;
mod pause;
mod progress;
mod rules;
mod scene;
mod serving;
mod slide;
mod standing;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

use crds::chatcluster::{LiveGate, RolloutPhase, RolloutStatus, Window};
use jiff::Timestamp;

pub use self::{
    dark::FAILURES_MAX,
    scene::{PodView, Policy, Scene, SetView},
};
use self::{standing::Standing, view::View};

/// Time between the moment at which the EndpointSlices show the new nodes alone and the first old node's leave. Load balancers and
/// kube-proxy follow the slices within it; the node's own drain has a settle time of the same length.
pub const SETTLE: Duration = Duration::from_secs(5);

/// An old node that has not been ready for so long is broken, and is no longer waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks at nodes that test themselves or are being judged.
pub const AGAIN: Duration = Duration::from_secs(3);

/// What is to be written, and what is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The ordinals of the StatefulSet. Written together with the template, in one write.
    pub window: Window,
    /// The template of the StatefulSet.
    pub template: Template,
    /// The revision that the client Service selects; `None`: every node.
    pub serving: Option<String>,
    /// Pods whose nodes are to be asked to test themselves.
    pub tests: Vec<String>,
    /// Pods that are to be deleted by force, because their machine is dead.
    pub lost: Vec<String>,
    /// Nothing came forward for longer than the progress deadline.
    pub deadline_exceeded: bool,
    /// When to decide again although nothing changed.
    pub requeue: Option<Duration>,
    /// What is told: the step, the verdicts, and the words for them.
    pub told: RolloutStatus,
}

/// Where the pods' template comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// The user's spec.
    Desired,
    /// The StatefulSet's own: what the user has changed waits.
    Live,
    /// A ControllerRevision: the spec has failed.
    Revision(String),
}

/// One step, before its time is taken down.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    window: Window,
    template: Template,
    serving: Option<String>,
    phase: RolloutPhase,
    message: String,
    requeue: Option<Duration>,
    tests: Vec<String>,
    live_gate: Option<LiveGate>,
    failure: Option<String>,
}

impl Step {
    fn new(window: Window, serving: Option<String>, phase: RolloutPhase, message: impl Into<String>) -> Step {
        Step {
            window,
            template: Template::Desired,
            serving,
            phase,
            message: message.into(),
            requeue: None,
            tests: Vec::new(),
            live_gate: None,
            failure: None,
        }
    }
}

/// Decides the next step. What it returns is level-triggered: writing it again changes nothing.
pub fn decide(scene: &Scene, now: Timestamp) -> Decision {
    let standing = Standing::of(scene, now);
    let step = pause::hold(scene, &standing).unwrap_or_else(|| match &scene.set {
        None => adopt::first_window(scene, &standing),
        Some(set) if scene.policy.in_place => slide::in_place(scene, set, &standing),
        Some(set) if standing.goes_back => go_back(scene, set, &standing, now),
        Some(set) if !set.template_current => slide::begin(scene, set, &standing),
        Some(set) => go_on(scene, set, &standing, now),
    });
    progress::take_down(scene, &standing, step, now)
}

/// The spec has failed: its nodes leave, and then its template.
fn go_back(scene: &Scene, set: &SetView, standing: &Standing, now: Timestamp) -> Step {
    let Some(home) = home(scene, set) else {
        let stable = scene.previous.as_ref().map(|previous| &previous.stable_revision);
        if set.fresh && set.current_revision == set.update_revision && stable == Some(&set.update_revision) {
            // It is what was before: nodes of another template are the rest of a rollout that was given up for it.
            return go_on(scene, set, standing, now);
        }
        // The old revision is not known any more: a person has to decide.
        return go_on(scene, set, &Standing { paused: true, ..standing.clone() }, now);
    };
    let view = View::new(scene, set, now);
    if set.template_current {
        return if set.fresh { back::step(&view, &home) } else { go_on(scene, set, standing, now) };
    }
    // The StatefulSet may have that template already, by the user's own hand: then nobody has to be covered for it.
    let is_home = if set.fresh { set.update_revision == home } else { set.noted == home };
    match is_home {
        true => Step { template: Template::Revision(home), ..go_on(scene, set, standing, now) },
        false => back::restore(&view, &home),
    }
}

/// The revision to go back to, if it is still known.
fn home(scene: &Scene, set: &SetView) -> Option<String> {
    let told = scene.stable_revision();
    let born = (set.current_revision != set.update_revision).then(|| set.current_revision.clone());
    let home = if set.template_current { born.or(told) } else { told };
    home.filter(|home| scene.revisions.contains_key(home))
        .filter(|home| !set.template_current || *home != set.update_revision)
}

/// The StatefulSet has the template that is wanted.
fn go_on(scene: &Scene, set: &SetView, standing: &Standing, now: Timestamp) -> Step {
    if !set.fresh && rules::holds(rules::Rule::FreshStatus) {
        let told = scene.previous.as_ref().map(|previous| (previous.phase, previous.spec_hash == scene.spec_hash));
        let phase = match told.unwrap_or((RolloutPhase::Stable, true)) {
            (RolloutPhase::Stable, false) => RolloutPhase::Surging,
            (phase, _) => phase,
        };
        let message = "waiting for the StatefulSet controller to see the last change";
        return Step::new(set.window, scene.serving.clone(), phase, message);
    }
    let view = View::new(scene, set, now);
    if view.old == 0 {
        slide::rest(&view)
    } else if standing.paused && rules::holds(rules::Rule::PausedStays) {
        slide::stay(&view, standing)
    } else {
        slide::advance(scene, set, standing, now)
    }
}

/// Time from `earlier` to `later`; zero when a clock went back.
fn elapsed(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

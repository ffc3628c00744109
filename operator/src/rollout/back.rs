//! The way back: the window slides down, old nodes are born at its lower end, and the new ones leave at its top.
//!
//! Owns the order of that: lead clients to old nodes, let load balancers settle, then let new nodes go. While a new node is left the
//! StatefulSet keeps the failed template, because the places below its partition are born at the old one; the old template is written
//! last. A new node that is stuck serves nobody and leaves at once, so it never blocks the way.

use crds::chatcluster::{RolloutPhase, Window};

use super::{
    AGAIN, PATIENCE, Step, Template,
    rules::{Rule, holds},
    serving,
    view::{View, settle},
};

/// The next step back from a template that the StatefulSet has, to the revision `home`.
pub(super) fn step(view: &View<'_>, home: &str) -> Step {
    let window = view.set.window;
    let new = view.new_places();
    let can_be_born = view.set.current_revision != view.set.update_revision;
    if !can_be_born || new == 0 || !holds(Rule::TemplateLast) {
        return restore(view, home);
    }
    let serving = serving::lead_back(view.scene, view.set);
    let here = |message: String| Step::new(window, Some(serving.clone()), RolloutPhase::Returning, message);
    if view.scene.serving.as_ref() != Some(&serving) {
        let message = "new connections are turned to the nodes of before".into();
        return Step { phase: RolloutPhase::Steering, ..here(message) };
    }
    let stuck = view.idle_above(&[&view.set.update_revision], new);
    if stuck > 0 && holds(Rule::StuckLeave) {
        return Step {
            window: without_highest(view, stuck),
            ..here(format!("{stuck} new nodes that serve nobody leave"))
        };
    }
    if let Some(step) = leading(view, &serving) {
        return step;
    }
    let unready = view.old_unready();
    if unready > 0 && holds(Rule::OldReady) {
        let message = format!("waiting for {unready} old nodes to be ready");
        return Step { requeue: Some(PATIENCE), ..here(message) };
    }
    let surplus = (window.replicas - view.scene.policy.replicas).min(new);
    let Some((born, leave)) = exchange(view, surplus) else { return restore(view, home) };
    if leave > 0
        && let Some(step) = settling(view, &serving)
    {
        return step;
    }
    if born == 0 && leave == 0 {
        return Step { requeue: Some(PATIENCE), ..here(view.too_few()) };
    }
    let replicas = window.replicas + born - leave;
    let window = Window { start: window.start - born, replicas, partition: view.old + born };
    Step { window, ..here(format!("{born} old nodes are made again, {leave} new ones leave")) }
}

/// How many old nodes are born below and how many new ones leave above: first what is too many leaves, then what is missing is born,
/// and where there is no room for that, one for the other. `None` when no ordinal is left below.
fn exchange(view: &View<'_>, surplus: i32) -> Option<(i32, i32)> {
    let policy = view.scene.policy;
    if surplus > 0 {
        return Some((0, view.removable_above(surplus)));
    }
    let wanted = (policy.replicas - view.old).min(policy.batch().max(1)).min(view.set.window.start);
    if wanted <= 0 {
        return None;
    }
    let room = policy.replicas + policy.surge - view.set.window.replicas;
    if room > 0 {
        return Some((wanted.min(room), 0));
    }
    let leave = view.removable_above(wanted.min(view.new_places()));
    Some((leave, leave))
}

fn without_highest(view: &View<'_>, gone: i32) -> Window {
    let replicas = view.set.window.replicas - gone;
    Window { replicas, partition: view.old.min(replicas), ..view.set.window }
}

/// The old template is written; what follows is a rollout to it, of nothing where no new node is left.
pub(super) fn restore(view: &View<'_>, home: &str) -> Step {
    let window = Window { partition: view.set.window.replicas, ..view.set.window };
    let message = "the template of before is written";
    let step = Step::new(window, view.scene.serving.clone(), RolloutPhase::Returning, message);
    Step { template: Template::Revision(home.to_owned()), ..step }
}

/// The Service leads back, and the endpoints do not show it yet.
fn leading(view: &View<'_>, serving: &str) -> Option<Step> {
    let shown = || view.endpoints_are(view.old_nodes().filter(|pod| pod.revision == serving));
    let is_home = serving != view.set.update_revision;
    let message = "waiting for the endpoints to show the old nodes alone";
    let step = || Step::new(view.set.window, Some(serving.to_owned()), RolloutPhase::Steering, message);
    (is_home && !shown()).then(step)
}

/// Before nodes leave that clients could still be led to.
fn settling(view: &View<'_>, serving: &str) -> Option<Step> {
    let left = settle(Rule::SettleBack).saturating_sub(view.settled(serving));
    if serving == view.set.update_revision || left.is_zero() {
        return None;
    }
    let message = "new connections settle on the old nodes";
    let step = Step::new(view.set.window, Some(serving.to_owned()), RolloutPhase::Returning, message);
    Some(Step { requeue: Some(left.min(AGAIN)), ..step })
}

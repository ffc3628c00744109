//! The next window of a StatefulSet that is there, on the way forward.
//!
//! Owns the order of the steps: rest, surge, prove, steer, judge, slide. Kubernetes' StatefulSet controller deletes a pod at once when it
//! lies outside of the window, or at or above the partition with another revision; so the partition never sinks below an old
//! pod, and the window's lower end moves only when enough others are ready.

use std::time::Duration;

use crds::chatcluster::{LiveGate, OnInconclusive, RolloutPhase, Window};
use jiff::Timestamp;

use super::{
    AGAIN, PATIENCE, Scene, SetView, Step, Template,
    dark::{self, Dark},
    live,
    rules::{Rule, holds},
    serving,
    standing::Standing,
    view::{View, settle},
};

/// A self-contained node: the StatefulSet restarts its pod in place, unless its partition covers it.
pub(super) fn in_place(scene: &Scene, set: &SetView, standing: &Standing) -> Step {
    let replicas = scene.policy.replicas;
    let begun = (set.current_revision != set.update_revision).then(|| set.current_revision.clone());
    let home = scene.stable_revision().or(begun);
    let home = home.filter(|home| standing.goes_back && scene.revisions.contains_key(home));
    let restarting = if set.fresh {
        (!set.template_current && home.is_none())
            || set.current_revision != set.update_revision
            || home.as_ref().is_some_and(|home| *home != set.update_revision)
            || scene.pods.iter().any(|pod| pod.revision != set.update_revision)
    } else {
        // Nothing is known of the last change yet; a StatefulSet that was just made restarts nothing.
        !set.template_current || scene.previous.as_ref().is_some_and(|told| told.phase == RolloutPhase::Restarting)
    };
    let (phase, message) = match (restarting && replicas > 0, standing.paused && holds(Rule::PausedStays)) {
        (true, true) => (RolloutPhase::Paused, waits_for(standing)),
        (true, false) => (RolloutPhase::Restarting, "the node restarts in place".into()),
        (false, _) => (RolloutPhase::Stable, String::new()),
    };
    let partition = if phase == RolloutPhase::Paused { replicas } else { 0 };
    let window = Window { partition, replicas, ..set.window };
    let template = home.map_or(Template::Desired, Template::Revision);
    Step { template, ..Step::new(window, None, phase, message) }
}

/// The user's spec asks for another template: it is written together with the window.
pub(super) fn begin(scene: &Scene, set: &SetView, standing: &Standing) -> Step {
    let window = set.window;
    let policy = scene.policy;
    // The partition covers every pod in the same write, so the template alone restarts none.
    let partition = if holds(Rule::CoverTemplate) { window.replicas } else { window.partition };
    let failed_before = scene.previous.as_ref().is_some_and(|previous| !previous.failure.is_empty());
    // After a failure, or on a revision that was gone back to, the template is likely to be that of before again, of which no node is missing.
    let at_rest = set.fresh
        && !failed_before
        && !scene.revisions.contains_key(&set.noted)
        && set.current_revision == set.update_revision
        && window.replicas == policy.replicas
        && scene.pods.iter().all(|pod| pod.revision == set.current_revision && !pod.terminating);
    if at_rest && policy.surge > 0 && !standing.paused {
        let serving = holds(Rule::PinFirst).then(|| set.current_revision.clone());
        let message = format!("{} new nodes are added", policy.surge);
        let window = Window { replicas: policy.replicas + policy.surge, partition, ..window };
        return Step::new(window, serving, RolloutPhase::Surging, message);
    }
    let pinned = if at_rest { Some(set.current_revision.clone()) } else { scene.serving.clone() };
    Step::new(Window { partition, ..window }, pinned, RolloutPhase::Surging, "the new template is written")
}

/// All nodes are new. The partition returns to the top only when the controller has taken the new revision as the current one, or
/// a pod that dies would be born old again.
pub(super) fn rest(view: &View<'_>) -> Step {
    let set = view.set;
    let complete = set.current_revision == set.update_revision || !holds(Rule::RestWhenComplete);
    let replicas = view.scene.policy.replicas;
    let partition = if complete && holds(Rule::CoverAtRest) { replicas } else { 0 };
    let window = Window { start: set.window.start, replicas, partition };
    match complete {
        true => Step::new(window, None, RolloutPhase::Stable, ""),
        false => Step::new(window, None, RolloutPhase::Sliding, "every node is new; the last old ones leave"),
    }
}

/// A rollout stands still. As long as no new node is there, scaling goes on at the old revision.
pub(super) fn stay(view: &View<'_>, standing: &Standing) -> Step {
    let (scene, set) = (view.scene, view.set);
    let policy = scene.policy;
    let stable = serving::lead_back(scene, set);
    let keeps = policy.replicas - policy.unavailable;
    let serving = match !standing.failure.is_empty() && scene.ready_of(set.window, &stable) >= keeps.max(1) {
        true => stable,
        false => serving::choose(scene, set, false),
    };
    let window = match view.is_uniform() {
        true => Window { replicas: policy.replicas, partition: policy.replicas, ..set.window },
        false => set.window,
    };
    Step::new(window, Some(serving), RolloutPhase::Paused, waits_for(standing))
}

/// What a rollout that stands still waits for, in words.
pub(super) fn waits_for(standing: &Standing) -> String {
    match standing.failure.is_empty() {
        true => "the rollout is paused by spec.updateStrategy.paused".into(),
        false => {
            format!("the rollout has failed and waits for promote, abort, resume or another spec: {}", standing.failure)
        }
    }
}

/// Some nodes are old, and new ones take their places.
pub(super) fn advance(scene: &Scene, set: &SetView, standing: &Standing, now: Timestamp) -> Step {
    Advance { view: View::new(scene, set, now), standing }.step()
}

struct Advance<'a> {
    view: View<'a>,
    standing: &'a Standing,
}

impl Advance<'_> {
    fn step(&self) -> Step {
        let (view, policy, window) = (&self.view, self.view.scene.policy, self.view.set.window);
        let dark = match self.standing.is_judged() {
            true => dark::look(view.scene, self.standing.forgiven, view.new_nodes()),
            false => Dark::Passed,
        };
        let serving = serving::choose(view.scene, view.set, dark == Dark::Passed);
        let steered = serving == view.set.update_revision;
        let here = |phase, message: String| Step::new(window, Some(serving.clone()), phase, message);
        let patient = |phase| Step { requeue: Some(PATIENCE), ..here(phase, view.too_few()) };

        if view.scene.serving.as_ref() != Some(&serving) && (holds(Rule::PinFirst) || steered) {
            return match steered {
                true => here(RolloutPhase::Steering, "new connections are turned to the new nodes".into()),
                false => here(RolloutPhase::Surging, "the Service is pinned to the nodes that clients are on".into()),
            };
        }
        if let Some(step) = self.shrink(&serving, steered) {
            return step;
        }
        let surged = policy.replicas + policy.surge.min(view.old);
        if window.replicas < surged {
            let message = format!("{} new nodes are added", surged - window.replicas);
            let window = Window { replicas: surged, partition: view.old, ..window };
            return Step { window, ..here(RolloutPhase::Surging, message) };
        }
        let (new, ready) = (view.new_places(), view.ready_from(view.old));
        if ready < new && holds(Rule::NewReady) {
            return here(RolloutPhase::Surging, format!("{ready} of {new} new nodes are ready"));
        }
        match dark {
            Dark::Passed => {}
            Dark::Unproven(tests) => {
                let message = format!("{} new nodes are testing themselves", tests.len());
                return Step { tests, requeue: Some(AGAIN), ..here(RolloutPhase::Proving, message) };
            }
            Dark::Failed(why) => return self.fail(&serving, None, why),
        }
        let (live_gate, wait) = if steered { self.judge(&serving) } else { (None, None) };
        if let Some(step) = wait {
            return step;
        }
        let surplus = window.replicas - policy.replicas;
        // Fewer nodes may be wanted than there are: also none.
        let batch = if policy.surge > 0 { surplus } else { policy.unavailable.max(surplus) };
        let batch = if holds(Rule::SlideBySurge) { batch } else { batch + 1 };
        match view.removable_below(batch.min(view.old)) {
            0 => patient(RolloutPhase::Sliding),
            gone => Step { live_gate, ..self.slide(gone, &serving, steered) },
        }
    }

    fn slide(&self, gone: i32, serving: &str, steered: bool) -> Step {
        let rest = self.view.old - gone;
        let phase = if rest > 0 { RolloutPhase::Surging } else { RolloutPhase::Sliding };
        // When the last old node leaves before a new one is there, whoever comes first serves.
        let serving = (rest > 0 || steered).then(|| serving.to_owned());
        let mut window = self.view.without_lowest(gone);
        // With surge the new nodes are there already; without, they are born as the old ones leave.
        window.replicas = window.replicas.max(self.view.scene.policy.replicas);
        Step::new(window, serving, phase, format!("{gone} old nodes leave, {rest} stay for now"))
    }

    /// There are more nodes than the rollout needs: of an abandoned one, or because fewer are wanted now.
    fn shrink(&self, serving: &str, steered: bool) -> Option<Step> {
        let (view, wanted, window) = (&self.view, self.view.scene.policy.replicas, self.view.set.window);
        let to = |window, message: &str| Step::new(window, Some(serving.to_owned()), RolloutPhase::Surging, message);
        let wait = || Step { requeue: Some(PATIENCE), ..to(window, &view.too_few()) };
        if view.old == window.replicas && window.replicas > wanted {
            // A node of this template stays: it was made in time for it to come back.
            let idle = view.idle_above(&[serving, &view.set.update_revision], window.replicas - wanted);
            if idle > 0 {
                let replicas = window.replicas - idle;
                // Whoever is new below them must not be born old again.
                let window = Window { replicas, partition: view.old_among(replicas), ..window };
                return Some(to(window, "nodes of an abandoned rollout leave"));
            }
            return Some(match view.removable_below(window.replicas - wanted) {
                0 => wait(),
                gone => to(view.without_lowest(gone), "nodes of an abandoned rollout leave"),
            });
        }
        if view.old > wanted && !steered {
            if !holds(Rule::ScaleDownOld) {
                return Some(to(
                    Window { replicas: view.old, partition: view.old, ..window },
                    "fewer nodes are wanted",
                ));
            }
            return Some(match view.removable_below(view.old - wanted) {
                0 => wait(),
                gone => to(view.without_lowest(gone), "fewer nodes are wanted"),
            });
        }
        None
    }

    /// What is still to wait for after the Service was turned to the new nodes, or how they did.
    fn judge(&self, serving: &str) -> (Option<LiveGate>, Option<Step>) {
        let view = &self.view;
        let here = |phase, message| Step::new(view.set.window, Some(serving.to_owned()), phase, message);
        if !view.endpoints_are(view.new_nodes()) {
            let message = "waiting for the endpoints to show the new nodes alone".into();
            return (None, Some(here(RolloutPhase::Steering, message)));
        }
        let since = view.judged(serving);
        let (settle, soak) = (settle(Rule::Settle), view.scene.policy.soak);
        let soak = if holds(Rule::Soak) && self.standing.is_judged() { soak } else { Duration::ZERO };
        let wait = |left: Duration, live_gate, message: String| {
            let requeue = Some(left.min(AGAIN));
            (live_gate, Some(Step { requeue, live_gate, ..here(RolloutPhase::Judging, message) }))
        };
        if since < settle {
            return wait(settle - since, None, "new connections settle on the new nodes".into());
        }
        if !self.standing.is_judged() {
            return (None, None);
        }
        let report = |pod: &super::PodView| view.scene.nodes.get(&pod.name);
        let judgement = live::judge(view.new_nodes().filter_map(report), view.old_nodes().filter_map(report));
        if judgement.gate == LiveGate::Failed && holds(Rule::WorseFails) {
            let left = self.standing.resumed.map(|resumed| view.remembered(resumed)).unwrap_or_default();
            if !left.is_zero() {
                let message = format!("what the nodes did before the resume still counts: {}", judgement.why);
                return wait(left, Some(judgement.gate), message);
            }
            return (Some(judgement.gate), Some(self.fail(serving, Some(judgement.gate), judgement.why)));
        }
        let gate = Some(judgement.gate);
        if since < settle + soak {
            return wait(
                settle + soak - since,
                gate,
                format!("the new nodes serve and are watched: {}", judgement.why),
            );
        }
        let waits = view.scene.policy.on_inconclusive == OnInconclusive::Wait;
        if judgement.gate == LiveGate::Inconclusive && waits {
            return wait(AGAIN, gate, format!("the new nodes cannot be judged: {}", judgement.why));
        }
        (gate, None)
    }

    /// The failure is written down first and acted upon next, so that a crash in between forgets nothing.
    fn fail(&self, serving: &str, live_gate: Option<LiveGate>, why: String) -> Step {
        let message = format!("the rollout has failed: {why}");
        let step = Step::new(self.view.set.window, Some(serving.to_owned()), RolloutPhase::Paused, message);
        Step { live_gate, failure: Some(why), requeue: Some(Duration::ZERO), ..step }
    }
}

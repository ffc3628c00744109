//! Whether a rollout comes forward, and what is told of it.
//!
//! Owns the progress deadline and the story in the status. It must never change a step, but for calling one failed that took too long.

use std::time::Duration;

use crds::chatcluster::{OnFailure, OnInconclusive, RolloutPhase, RolloutStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Decision, SETTLE, Scene, Step, Template,
    clock::Clock,
    elapsed,
    rules::{Rule, holds},
    standing::Standing,
};

/// Adds to a step who is new, who was before, and how long nothing has moved.
pub(super) fn take_down(scene: &Scene, standing: &Standing, step: Step, now: Timestamp) -> Decision {
    let previous = scene.previous.clone().unwrap_or_default();
    let (revision, stable_revision) = revisions(scene, &step, &previous);
    let here = previous.phase == step.phase
        && previous.window == Some(step.window)
        && previous.revision == revision
        && previous.serving_revision == step.serving.as_deref().unwrap_or_default();
    let ready = scene.ready_of(step.window, &revision);
    let step_time = at(&previous.step_time, here, now);
    // Steps that come and go are no progress; whatever begins, or is ordered, makes some, and so does somebody who ends a wait without end.
    let same_window = previous.window == Some(step.window) && previous.revision == revision;
    let begun = (previous.phase == RolloutPhase::Stable && step.phase != RolloutPhase::Stable)
        || previous.spec_hash != scene.spec_hash
        || previous.command != standing.command;
    let resumed = waits_for_somebody(scene, previous.phase) && !waits_for_somebody(scene, step.phase);
    let ready_before = if same_window && holds(Rule::Deadline) { previous.ready_nodes } else { 0 };
    let ready_nodes = ready.max(ready_before);
    let moved = !same_window || ready_nodes != previous.ready_nodes || begun || resumed;
    let rests = step.phase == RolloutPhase::Stable;
    let limit = scene.policy.progress_deadline + if rests { Duration::ZERO } else { SETTLE + scene.policy.soak };
    let runs = !rests && !waits_for_somebody(scene, step.phase);
    let clock = if moved { Clock::begin(runs, now) } else { Clock::go_on(&previous, runs, limit, now) };
    let left = waits(scene, &step).then(|| {
        // At rest, what is waited for began when a node was lost.
        let lost = scene.pods.iter().map(|pod| pod.since).max().filter(|_| rests);
        let since = lost.map_or(clock.since, |lost| lost.max(clock.since));
        limit.saturating_sub(elapsed(since, now))
    });
    let deadline_exceeded = left.is_some_and(|left| left.is_zero());
    let failure = step.failure.clone().or_else(|| overdue(scene, standing, &step, deadline_exceeded));
    let failed = failure.is_some();
    let failure = failure.unwrap_or_else(|| standing.failure.clone());
    let told = RolloutStatus {
        phase: step.phase,
        revision,
        stable_revision,
        serving_revision: step.serving.clone().unwrap_or_default(),
        window: Some(step.window),
        surge: scene.policy.surge,
        ready_nodes,
        spec_hash: scene.spec_hash.clone(),
        failed_spec_hash: if failure.is_empty() { String::new() } else { scene.spec_hash.clone() },
        live_gate: step.live_gate.or(standing.live_gate),
        forgiven_self_tests: standing.forgiven,
        resume_time: standing.resumed.map(Time),
        order: standing.order,
        command: standing.command.clone(),
        step_time: Some(Time(step_time)),
        last_progress_time: Some(Time(clock.since)),
        last_look_time: clock.looked.map(Time),
        message: message(standing, &step),
        failure,
    };
    let again = failed.then_some(Duration::ZERO);
    Decision {
        window: step.window,
        template: step.template,
        serving: step.serving,
        tests: step.tests,
        lost: lost(scene),
        deadline_exceeded,
        requeue: [step.requeue, left.filter(|left| !left.is_zero()), again].into_iter().flatten().min(),
        told,
    }
}

/// The revision that is rolled out, and the one that clients were on before.
fn revisions(scene: &Scene, step: &Step, previous: &RolloutStatus) -> (String, String) {
    // Its controller names a template's revision a moment after the template was written.
    let has = |set: &super::SetView| match &step.template {
        Template::Desired => set.template_current,
        Template::Live => true,
        Template::Revision(revision) => *revision == set.update_revision,
    };
    let named = scene.set.as_ref().filter(|set| set.fresh && has(set));
    let revision = named.map_or_else(|| previous.revision.clone(), |set| set.update_revision.clone());
    if let Template::Revision(home) = &step.template {
        return (revision, home.clone());
    }
    let stable = match named {
        _ if step.phase == RolloutPhase::Stable => revision.clone(),
        Some(set) if set.current_revision != set.update_revision => set.current_revision.clone(),
        Some(_) if step.template == Template::Live => revision.clone(),
        // A template that came and went in between was never stable.
        _ => previous.stable_revision.clone(),
    };
    (revision, stable)
}

/// The time that was noted, as long as it still holds.
fn at(noted: &Option<Time>, holds: bool, now: Timestamp) -> Timestamp {
    noted.as_ref().filter(|_| holds).map_or_else(|| next_second(now), |time| time.0)
}

/// Whether a step may last for as long as somebody likes.
fn waits_for_somebody(scene: &Scene, phase: RolloutPhase) -> bool {
    let judges = phase == RolloutPhase::Judging && scene.policy.on_inconclusive == OnInconclusive::Wait;
    judges || phase == RolloutPhase::Paused
}

/// Whether something is waited for that should come by itself.
fn waits(scene: &Scene, step: &Step) -> bool {
    let ready = scene.pods.iter().filter(|pod| pod.serves()).count();
    match step.phase {
        RolloutPhase::Judging | RolloutPhase::Paused => false,
        RolloutPhase::Stable => ready < usize::try_from(scene.policy.replicas).unwrap_or(0),
        _ => true,
    }
}

/// A rollout that does not come forward in time has failed where it can go back by itself. Otherwise it may still come.
fn overdue(scene: &Scene, standing: &Standing, step: &Step, exceeded: bool) -> Option<String> {
    let forward = !matches!(step.phase, RolloutPhase::Stable | RolloutPhase::Returning);
    let has_home = scene.set.as_ref().is_some_and(|set| set.fresh && set.current_revision != set.update_revision);
    let fails =
        exceeded && forward && has_home && standing.is_judged() && scene.policy.on_failure == OnFailure::Rollback;
    fails.then(|| format!("nothing came forward for {} s: {}", scene.policy.progress_deadline.as_secs(), step.message))
}

fn message(standing: &Standing, step: &Step) -> String {
    match (standing.goes_back, step.message.is_empty()) {
        (false, _) => step.message.clone(),
        (true, true) => format!("the nodes of before serve, because the spec has failed: {}", standing.failure),
        (true, false) => format!("{}, because the spec has failed: {}", step.message, standing.failure),
    }
}

/// Pods that a dead machine cannot let go. One with a volume stays until somebody is sure that the machine is off.
fn lost(scene: &Scene) -> Vec<String> {
    let bound = !scene.policy.in_place || !holds(Rule::DeadMachineBound);
    let lost = scene.pods.iter().filter(|pod| pod.lost && pod.terminating && bound && holds(Rule::DeadMachine));
    lost.map(|pod| pod.name.clone()).collect()
}

/// The API server keeps whole seconds; more would differ from what is read back. Rounded up, so that no wait is shortened.
pub(super) fn next_second(time: Timestamp) -> Timestamp {
    let up = i64::from(time.subsec_nanosecond() > 0);
    Timestamp::from_second(time.as_second() + up).unwrap_or(time)
}

//! Which revision the client Service selects while two of them run.
//!
//! Owns the steering (and the steering back), level-triggered from the pods' readiness. It must never point at a revision
//! without a ready node while another revision has one.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Scene, SetView,
    rules::{Rule, holds},
};

/// The new revision as soon as a whole batch of it is ready and `proven`, or when it has more ready nodes than any other; else the
/// revision that clients were on. Clients that are on the new revision already are not led back for want of proof.
pub(super) fn choose(scene: &Scene, set: &SetView, proven: bool) -> String {
    let target = set.update_revision.as_str();
    let ready = ready(scene, set);
    let ready_of = |revision: &str| ready.get(revision).copied().unwrap_or(0);
    let stable = stable(scene, set, &ready);
    let new = ready_of(target);
    if ready_of(&stable) == 0 && new > 0 && holds(Rule::ServeTheReady) {
        return target.to_owned();
    }
    let serves = scene.serving.as_deref() == Some(target);
    let batch = if holds(Rule::SteerBatch) { scene.policy.batch().max(1) } else { 1 };
    let enough = new >= batch || new > ready_of(&stable) || (serves && !holds(Rule::SteerBack));
    if enough && (serves || proven) { target.to_owned() } else { stable }
}

/// On the way back: the old revision as soon as a batch of it is ready, or has more ready nodes than the new one, or the new one has
/// none; else as it is.
pub(super) fn lead_back(scene: &Scene, set: &SetView) -> String {
    let ready = ready(scene, set);
    let ready_of = |revision: &str| ready.get(revision).copied().unwrap_or(0);
    let home = stable(scene, set, &ready);
    let (old, new) = (ready_of(&home), ready_of(&set.update_revision));
    let enough = old >= scene.policy.batch().max(1) || old > new || new == 0;
    let is_home = scene.serving.as_ref() == Some(&home);
    if !holds(Rule::LeadBack) && new > 0 {
        return set.update_revision.clone();
    }
    if enough || (is_home && old > 0) { home } else { set.update_revision.clone() }
}

/// Ready nodes by revision.
fn ready<'a>(scene: &'a Scene, set: &SetView) -> BTreeMap<&'a str, i32> {
    let mut ready = BTreeMap::new();
    for pod in scene.positions(set.window).into_iter().flatten().filter(|pod| pod.serves()) {
        *ready.entry(pod.revision.as_str()).or_default() += 1;
    }
    ready
}

/// Of the revisions that are not the new one: that with the most ready nodes; among equals the one that serves now, then the
/// newest one. Without any ready node it is the one at which pods are born.
fn stable(scene: &Scene, set: &SetView, ready: &BTreeMap<&str, i32>) -> String {
    ready
        .iter()
        .filter(|(revision, _)| **revision != set.update_revision)
        .max_by_key(|(revision, count)| {
            let serves = scene.serving.as_deref() == Some(**revision);
            (**count, serves, scene.revisions.get(**revision).copied(), Reverse(**revision))
        })
        .map_or_else(|| fallback(scene, set), |(revision, _)| (*revision).to_owned())
}

fn fallback(scene: &Scene, set: &SetView) -> String {
    match &scene.serving {
        Some(serving) if *serving != set.update_revision => serving.clone(),
        _ => set.current_revision.clone(),
    }
}

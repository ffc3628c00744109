//! Which revision the client Service selects while two of them run.
//!
//! Owns the steering (and the steering back), level-triggered from the pods' readiness. It must never point at a revision
//! without a ready node while another revision has one.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Scene, SetView};

/// The new revision as soon as a whole batch of it is ready, or when it has more ready nodes than any other; else the
/// revision that clients were on.
pub(super) fn choose(scene: &Scene, set: &SetView) -> String {
    let target = set.update_revision.as_str();
    let mut ready: BTreeMap<&str, i32> = BTreeMap::new();
    for pod in scene.positions(set.window).into_iter().flatten().filter(|pod| pod.serves()) {
        *ready.entry(pod.revision.as_str()).or_default() += 1;
    }
    let ready_of = |revision: &str| ready.get(revision).copied().unwrap_or(0);

    let stable = stable(scene, set, &ready);
    let new = ready_of(target);
    if new >= scene.policy.batch().max(1) || new > ready_of(&stable) { target.to_owned() } else { stable }
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

//! The first window of a StatefulSet, also of one that was lost while its pods live on.
//!
//! Owns the promise that recreating a StatefulSet stops no running node. The partition covers everything, so that the
//! controller touches no pod that it adopts; a new StatefulSet's pods are all born at the revision of its template.

use crds::chatcluster::{RolloutPhase, Window};

use super::{
    PodView, Scene, Step, Template,
    rules::{Rule, holds},
    standing::Standing,
    view::count,
};

pub(super) fn first_window(scene: &Scene, standing: &Standing) -> Step {
    let replicas = scene.policy.replicas;
    let previous = scene.previous.as_ref();
    let alive = || scene.pods.iter().filter(|pod| !pod.terminating).map(|pod| pod.ordinal);
    let (start, replicas) = match (alive().min(), alive().max()) {
        (Some(lowest), Some(highest)) if holds(Rule::AdoptLowest) => {
            // Never more places than a rollout would have, or there are nodes: far above the lowest, the highest are the newer ones.
            let most = (replicas + scene.policy.surge).max(count(alive().count())).max(1);
            let lowest = lowest.max(highest + 1 - most);
            (lowest, replicas.max(highest + 1 - lowest))
        }
        (Some(_), Some(_)) => (0, replicas),
        _ => (above_leaving(&scene.pods).max(previous_start(scene)), replicas),
    };
    let in_place = scene.policy.in_place;
    let window = match in_place {
        // Its volume is named by its ordinal.
        true => Window { start: previous_start(scene), replicas: scene.policy.replicas, partition: 0 },
        false => Window { start, replicas, partition: if holds(Rule::AdoptCovers) { replicas } else { 0 } },
    };
    let phase = match (in_place, previous) {
        (false, Some(previous)) => previous.phase,
        _ => RolloutPhase::Stable,
    };
    let home = previous.map(|previous| previous.stable_revision.clone());
    // A change that waits for the end of a pause goes on waiting: whoever is born meanwhile is of what ran.
    let home = home.filter(|home| (standing.goes_back || scene.policy.paused) && scene.revisions.contains_key(home));
    Step {
        template: home.map_or(Template::Desired, Template::Revision),
        ..Step::new(window, scene.serving.clone(), phase, "the StatefulSet is created")
    }
}

/// The first ordinal whose name no leaving pod holds.
fn above_leaving(pods: &[PodView]) -> i32 {
    pods.iter().map(|pod| pod.ordinal + 1).max().unwrap_or(0)
}

fn previous_start(scene: &Scene) -> i32 {
    scene.previous.as_ref().and_then(|previous| previous.window).map_or(0, |window| window.start)
}

//! The first window of a StatefulSet, also of one that was lost while its pods live on.
//!
//! Owns the promise that recreating a StatefulSet stops no running node. The partition covers everything, so that the
//! controller touches no pod that it adopts; a new StatefulSet's pods are all born at the desired revision.

use crds::chatcluster::{RolloutPhase, Window};

use super::{PodView, Scene, Step};

pub(super) fn first_window(scene: &Scene) -> Step {
    let replicas = scene.policy.replicas;
    let previous = scene.previous.as_ref();
    let alive = || scene.pods.iter().filter(|pod| !pod.terminating).map(|pod| pod.ordinal);
    let (start, replicas) = match (alive().min(), alive().max()) {
        (Some(lowest), Some(highest)) => {
            // Never more than a rollout would have: far above the lowest, the highest are the newer ones.
            let lowest = lowest.max(highest + 1 - (replicas + scene.policy.surge).max(1));
            (lowest, replicas.max(highest + 1 - lowest))
        }
        _ => (above_leaving(&scene.pods).max(previous_start(scene)), replicas),
    };
    let in_place = scene.policy.in_place;
    Step {
        window: if in_place {
            // Its volume is named by its ordinal.
            Window { start: previous_start(scene), replicas: scene.policy.replicas, partition: 0 }
        } else {
            Window { start, replicas, partition: replicas }
        },
        serving: scene.serving.clone(),
        phase: if in_place {
            RolloutPhase::Stable
        } else {
            previous.map(|previous| previous.phase).unwrap_or_default()
        },
        message: "the StatefulSet is created".into(),
        requeue: None,
    }
}

/// The first ordinal whose name no leaving pod holds.
fn above_leaving(pods: &[PodView]) -> i32 {
    pods.iter().map(|pod| pod.ordinal + 1).max().unwrap_or(0)
}

fn previous_start(scene: &Scene) -> i32 {
    scene.previous.as_ref().and_then(|previous| previous.window).map_or(0, |window| window.start)
}

//! The next window of a StatefulSet that is there.
//!
//! Owns the order of the steps: rest, surge, steer, settle, slide. Kubernetes' StatefulSet controller deletes a pod at once when it
//! lies outside of the window, or at or above the partition with another revision; so the partition never sinks below an old
//! pod, and the window's lower end moves only when enough others are ready.

use crds::chatcluster::{RolloutPhase, Window};
use jiff::Timestamp;

use super::{PATIENCE, PodView, SETTLE, Scene, SetView, Step, elapsed, serving};

/// A self-contained node: the StatefulSet restarts its pod in place.
pub(super) fn in_place(scene: &Scene, set: &SetView) -> Step {
    let window = Window { partition: 0, replicas: scene.policy.replicas, ..set.window };
    let restarting = !set.template_current
        || !set.fresh
        || set.current_revision != set.update_revision
        || scene.pods.iter().any(|pod| pod.revision != set.update_revision);
    let (phase, message) = match restarting && window.replicas > 0 {
        true => (RolloutPhase::Restarting, "the node restarts in place".into()),
        false => (RolloutPhase::Stable, String::new()),
    };
    Step { window, serving: None, phase, message, requeue: None }
}

/// A bound cluster: the window slides.
pub(super) fn step(scene: &Scene, set: &SetView, now: Timestamp) -> Step {
    if !set.template_current {
        // The partition covers every pod in the same write, so the template alone restarts none.
        let window = Window { partition: set.window.replicas, ..set.window };
        return keep(scene, window, RolloutPhase::Surging, "the new template is written");
    }
    if !set.fresh {
        let phase = scene.previous.as_ref().map(|previous| previous.phase).unwrap_or_default();
        return keep(scene, set.window, phase, "waiting for the StatefulSet controller to see the last change");
    }
    let view = View::new(scene, set, now);
    if view.old == 0 { view.rest() } else { view.advance() }
}

fn keep(scene: &Scene, window: Window, phase: RolloutPhase, message: &str) -> Step {
    Step { window, serving: scene.serving.clone(), phase, message: message.into(), requeue: None }
}

/// The window with its pods in their places.
struct View<'a> {
    scene: &'a Scene,
    set: &'a SetView,
    now: Timestamp,
    places: Vec<Option<&'a PodView>>,
    /// Places from the lowest up to and with the highest one that holds, or would be born with, an old revision.
    old: i32,
}

impl<'a> View<'a> {
    fn new(scene: &'a Scene, set: &'a SetView, now: Timestamp) -> Self {
        let places = scene.positions(set.window);
        let born_old = set.current_revision != set.update_revision;
        let is_old = |index: usize| match places[index] {
            Some(pod) => pod.revision != set.update_revision,
            None => born_old && count(index) < set.window.partition,
        };
        let old = (0..places.len()).rev().find(|index| is_old(*index)).map_or(0, |index| count(index + 1));
        View { scene, set, now, places, old }
    }

    /// All nodes are new. The partition returns to the top only when the controller has taken the new revision as the current one, or
    /// a pod that dies would be born old again.
    fn rest(&self) -> Step {
        let complete = self.set.current_revision == self.set.update_revision;
        let replicas = self.scene.policy.replicas;
        let window = Window { start: self.set.window.start, replicas, partition: if complete { replicas } else { 0 } };
        let (phase, message) = match complete {
            true => (RolloutPhase::Stable, ""),
            false => (RolloutPhase::Sliding, "every node is new; the last old ones leave"),
        };
        Step { window, serving: None, phase, message: message.into(), requeue: None }
    }

    /// Some nodes are old.
    fn advance(&self) -> Step {
        let policy = self.scene.policy;
        let window = self.set.window;
        let serving = serving::choose(self.scene, self.set);
        let steered = serving == self.set.update_revision;
        let here =
            |phase, message: String| Step { window, serving: Some(serving.clone()), phase, message, requeue: None };
        let to = |window, phase, message: String| Step { window, ..here(phase, message) };

        if self.scene.serving.as_ref() != Some(&serving) {
            return match steered {
                true => here(RolloutPhase::Steering, "new connections are turned to the new nodes".into()),
                false => here(RolloutPhase::Surging, "the Service is pinned to the nodes that clients are on".into()),
            };
        }
        if self.old == window.replicas && window.replicas > policy.replicas {
            return match self.retreat(&serving) {
                Some(window) => to(window, RolloutPhase::Surging, "nodes of an abandoned rollout leave".into()),
                None => Step { requeue: Some(PATIENCE), ..here(RolloutPhase::Surging, self.too_few()) },
            };
        }
        if self.old > policy.replicas && !steered {
            return match self.removable(self.old - policy.replicas) {
                0 => Step { requeue: Some(PATIENCE), ..here(RolloutPhase::Surging, self.too_few()) },
                gone => to(self.without_lowest(gone), RolloutPhase::Surging, "fewer nodes are wanted".into()),
            };
        }
        let surged = policy.replicas + policy.surge.min(self.old);
        if window.replicas < surged {
            let window = Window { replicas: surged, partition: self.old, ..window };
            return to(
                window,
                RolloutPhase::Surging,
                format!("{} new nodes are added", surged - self.set.window.replicas),
            );
        }
        let new = window.replicas - self.old;
        let ready = self.ready_from(self.old);
        if ready < new {
            return here(RolloutPhase::Surging, format!("{ready} of {new} new nodes are ready"));
        }
        if steered && let Some(wait) = self.settling() {
            return Step { requeue: wait.requeue, ..here(wait.phase, wait.message.into()) };
        }
        let batch = if policy.surge > 0 { window.replicas - policy.replicas } else { policy.unavailable };
        match self.removable(batch.min(self.old)) {
            0 => Step { requeue: Some(PATIENCE), ..here(RolloutPhase::Sliding, self.too_few()) },
            gone => {
                let rest = self.old - gone;
                let phase = if rest > 0 { RolloutPhase::Surging } else { RolloutPhase::Sliding };
                // When the last old node leaves before a new one is there, whoever comes first serves.
                let serving = (rest > 0 || steered).then_some(serving.clone());
                let message = format!("{gone} old nodes leave, {rest} stay for now");
                Step { window: self.after_slide(gone), serving, phase, message, requeue: None }
            }
        }
    }

    /// What an earlier rollout added and nobody serves from leaves at the top; otherwise the lowest leave.
    fn retreat(&self, serving: &str) -> Option<Window> {
        let surplus = self.set.window.replicas - self.scene.policy.replicas;
        let idle = |place: &&Option<&PodView>| place.is_none_or(|pod| !pod.serves() || pod.revision != serving);
        let top = count(self.places.iter().rev().take_while(idle).count()).min(surplus);
        if top > 0 {
            let replicas = self.set.window.replicas - top;
            return Some(Window { replicas, partition: replicas, ..self.set.window });
        }
        match self.removable(surplus) {
            0 => None,
            gone => Some(self.without_lowest(gone)),
        }
    }

    /// The window without its `gone` lowest places.
    fn without_lowest(&self, gone: i32) -> Window {
        let window = self.set.window;
        Window { start: window.start + gone, replicas: window.replicas - gone, partition: self.old - gone }
    }

    /// The window after a slide. With surge the new nodes are there already; without, they are born as the old ones leave.
    fn after_slide(&self, gone: i32) -> Window {
        let mut window = self.without_lowest(gone);
        window.replicas = window.replicas.max(self.scene.policy.replicas);
        window
    }

    /// How many of the lowest `wanted` may leave so that as many as must stay ready do. Old nodes that are broken are not
    /// held against the rollout, which may be what repairs them.
    fn removable(&self, wanted: i32) -> i32 {
        let policy = self.scene.policy;
        let broken = count(self.places.iter().take(index(self.old)).filter(|place| self.broken(place)).count());
        let missing = if policy.surge > 0 { policy.unavailable.max(broken) } else { policy.unavailable + broken };
        let all = self.ready_from(0);
        (1..=wanted)
            .rev()
            .find(|gone| {
                let staying = self.ready_from(*gone);
                staying == all || staying >= policy.replicas - missing
            })
            .unwrap_or(0)
    }

    fn broken(&self, place: &Option<&PodView>) -> bool {
        place.is_some_and(|pod| !pod.ready && !pod.terminating && elapsed(pod.since, self.now) >= PATIENCE)
    }

    fn ready_from(&self, place: i32) -> i32 {
        count(self.places.iter().skip(index(place)).flatten().filter(|pod| pod.serves()).count())
    }

    /// What is still to wait for after the Service was turned to the new nodes.
    fn settling(&self) -> Option<Wait> {
        let new: Vec<&str> = self
            .places
            .iter()
            .flatten()
            .filter(|pod| pod.revision == self.set.update_revision && pod.serves())
            .map(|pod| pod.name.as_str())
            .collect();
        let endpoints = &self.scene.endpoints;
        if endpoints.len() != new.len() || !new.iter().all(|name| endpoints.contains(*name)) {
            let message = "waiting for the endpoints to show the new nodes alone";
            return Some(Wait { phase: RolloutPhase::Steering, message, requeue: None });
        }
        let since = self.scene.previous.as_ref().filter(|previous| {
            previous.phase == RolloutPhase::Sliding
                && previous.serving_revision == self.set.update_revision
                && previous.window == Some(self.set.window)
        });
        let since = since.and_then(|previous| previous.last_progress_time.as_ref()).map_or(self.now, |time| time.0);
        let left = SETTLE.saturating_sub(elapsed(since, self.now));
        (!left.is_zero()).then_some(Wait {
            phase: RolloutPhase::Sliding,
            message: "new connections settle on the new nodes",
            requeue: Some(left),
        })
    }

    fn too_few(&self) -> String {
        let policy = self.scene.policy;
        format!(
            "waiting for {} ready nodes besides those that are to leave",
            (policy.replicas - policy.unavailable).max(0)
        )
    }
}

struct Wait {
    phase: RolloutPhase,
    message: &'static str,
    requeue: Option<std::time::Duration>,
}

/// Places are at most 1000 by the schema, twice that with surge.
fn count(places: usize) -> i32 {
    i32::try_from(places).unwrap_or(i32::MAX)
}

fn index(place: i32) -> usize {
    usize::try_from(place).unwrap_or(0)
}

//! What must be true at every step, of every write, and in the end.

use std::{collections::BTreeSet, time::Duration};

use crds::chatcluster::{OnFailure, RolloutPhase, Window};

use super::super::{Decision, PATIENCE, PodView, SETTLE, Scene, Template, decide, elapsed};
use super::world::{World, Write, revision};

/// The place of a pod in a window.
fn place(pod: &PodView, window: Window) -> Option<i32> {
    let place = pod.ordinal - window.start;
    (0..window.replicas).contains(&place).then_some(place)
}

/// What was seen and is done about it, on one line.
fn shown(scene: &Scene, decision: &Decision) -> String {
    let Some(set) = &scene.set else { return format!("no StatefulSet -> {:?}", decision.window) };
    let pods = scene.pods.iter().map(|pod| {
        let state = if pod.terminating {
            " leaves"
        } else if pod.ready {
            ""
        } else {
            " unready"
        };
        format!("{} of {}{state}", pod.name, pod.revision)
    });
    let pods: Vec<String> = pods.collect();
    let told = &decision.told;
    format!(
        "{} of {} after {}: {:?} -> {:?}, {} -> {}, served: {:?} -> {:?}, wanted: {}+{}-{}, {pods:?}: {}",
        scene.spec_hash,
        set.noted,
        told.stable_revision,
        set.window,
        decision.window,
        set.current_revision,
        set.update_revision,
        scene.serving,
        decision.serving,
        scene.policy.replicas,
        scene.policy.surge,
        scene.policy.unavailable,
        told.message,
    )
}

fn count<'a>(pods: impl Iterator<Item = &'a PodView>) -> i32 {
    i32::try_from(pods.count()).unwrap()
}

impl World {
    /// What must be true at every moment.
    pub(super) fn check(&self) {
        if !self.undisturbed {
            return;
        }
        let Some(set) = &self.set else { return };
        let staying = self.pods.iter().filter(|pod| !pod.terminating);
        let ready: Vec<&PodView> = self.pods.iter().filter(|pod| pod.serves()).collect();
        let number = i32::try_from(ready.len()).unwrap();
        assert!(number >= self.ready_min, "{number} ready nodes are fewer than {}", self.ready_min);
        let most = self.policy.replicas + self.policy.surge;
        assert!(count(staying) <= most, "more than {most} nodes");

        let selected = |pod: &&&PodView| self.serving.as_ref().is_none_or(|serving| *serving == pod.revision);
        let led_to = ready.iter().filter(selected).count();
        let batch = usize::try_from(self.policy.batch()).unwrap();
        assert!(led_to >= batch.min(ready.len()).min(1), "the Service leads to nobody: {:?}", self.serving);
        if self.serving == Some(revision(set.update)) {
            let others = ready.len() - led_to;
            assert!(
                led_to >= batch || led_to > others,
                "the Service leads to {led_to} nodes, {others} others are ready"
            );
        }
        let revisions: BTreeSet<&str> = ready.iter().map(|pod| pod.revision.as_str()).collect();
        assert!(revisions.len() < 2 || self.serving.is_some(), "unproven nodes are open to clients: {revisions:?}");
        let moves = self.clients.iter().map(|client| client.moves).max().unwrap_or(0);
        // Who was moved forward by a rollout that then fails has to move once more.
        let failed = self.status.as_ref().is_some_and(|told| !told.failure.is_empty());
        assert!(moves <= 1 + u32::from(failed) || self.policy.surge == 0, "a client moved {moves} times");
    }

    /// A Service is turned to another revision.
    pub(super) fn judge_service(&self, scene: &Scene, decision: &Decision) {
        let (Some(set), Some(to)) = (&scene.set, &decision.serving) else { return };
        let ready = scene.pods.iter().filter(|pod| pod.serves() && place(pod, set.window).is_some());
        let (new, old): (Vec<&PodView>, Vec<&PodView>) = ready.partition(|pod| pod.revision == *to);
        let (led_to, others) = (new.len(), old.len());
        assert!(led_to > 0 || others == 0 || !set.fresh, "{others} nodes are ready, the Service is turned to none");
        let judged = decision.told.order.is_none() && decision.told.failure.is_empty();
        let proves = *to == set.update_revision && scene.serving.is_some() && others > 0 && judged;
        let test = |pod: &PodView| scene.nodes.get(&pod.name).and_then(|node| node.self_test.clone());
        let proven = |pod: &PodView| test(pod).is_some_and(|test| test.passed);
        let old_serve = old.iter().any(|pod| Some(&pod.revision) == scene.serving.as_ref());
        assert!(!proves || !old_serve || new.iter().all(|pod| proven(pod)), "clients are led to unproven nodes");
    }

    /// A StatefulSet is written. All of this must be true in every world, of what the operator saw.
    pub(super) fn judge_set(&self, scene: &Scene, decision: &Decision) {
        let to = decision.window;
        let kept: Vec<&PodView> = scene.pods.iter().filter(|pod| place(pod, to).is_some()).collect();
        let ready = |pods: &[&PodView]| count(pods.iter().copied().filter(|pod| pod.serves()));
        let Some(set) = &scene.set else {
            let before = count(scene.pods.iter().filter(|pod| pod.serves()));
            let must = before.min(scene.policy.replicas - scene.policy.unavailable);
            assert!(ready(&kept) >= must || scene.policy.in_place, "adoption stops running nodes: {to:?}");
            return;
        };
        let from = set.window;
        let rewritten = match &decision.template {
            Template::Desired => !set.template_current,
            Template::Live => false,
            Template::Revision(revision) => *revision != set.update_revision,
        };
        for pod in kept.iter().filter(|pod| !pod.terminating && !scene.policy.in_place) {
            let exposed = place(pod, to).is_some_and(|place| place >= to.partition);
            let stray = rewritten || pod.revision != set.update_revision;
            assert!(!exposed || !stray || !set.fresh, "would restart {} in place: {to:?}", pod.name);
        }
        let old = |pod: &&PodView| pod.revision != set.update_revision;
        let highest_old = scene.pods.iter().filter(|pod| place(pod, from).is_some()).filter(old);
        let highest_old = highest_old.map(|pod| pod.ordinal).max();
        if set.fresh && !rewritten && set.current_revision != set.update_revision {
            let bared = (to.start + to.partition)..(from.start + from.partition).min(to.start + to.replicas);
            let is_there = |ordinal: i32| kept.iter().any(|pod| pod.ordinal == ordinal);
            let missing = bared.into_iter().find(|ordinal| !is_there(*ordinal)).filter(|_| highest_old.is_some());
            assert!(missing.is_none(), "missing old nodes would be born new: {from:?} -> {to:?}");
            // A place that is kept and empty may hold an old node by now that was not seen yet.
            let born = (from.start..from.start + from.partition).filter(|ordinal| !is_there(*ordinal));
            let born = born.filter(|ordinal| *ordinal < to.start + to.replicas).max();
            let new = kept.iter().filter(|pod| highest_old.max(born).is_none_or(|highest| pod.ordinal > highest));
            let new = new.filter(|pod| pod.revision == set.update_revision && !pod.terminating);
            for pod in new {
                let reborn_old = place(pod, to).is_some_and(|place| place < to.partition);
                assert!(!reborn_old, "{} would be reborn old: {}", pod.name, shown(scene, decision));
            }
        }
        self.judge_leaving(scene, decision, highest_old);
    }

    /// Who leaves by a write.
    fn judge_leaving(&self, scene: &Scene, decision: &Decision, highest_old: Option<i32>) {
        let Some(set) = scene.set.as_ref().filter(|set| set.fresh && highest_old.is_some()) else { return };
        let (from, to, policy) = (set.window, decision.window, scene.policy);
        let all: Vec<&PodView> = scene.pods.iter().filter(|pod| place(pod, from).is_some() && pod.serves()).collect();
        let staying: Vec<&&PodView> = all.iter().filter(|pod| place(pod, to).is_some()).collect();
        let broken = scene.pods.iter().filter(|pod| {
            pod.revision != set.update_revision && !pod.serves() && elapsed(pod.since, self.now) >= PATIENCE
        });
        let broken = count(broken.filter(|pod| place(pod, from).is_some()));
        let missing = if policy.surge > 0 { policy.unavailable.max(broken) } else { policy.unavailable + broken };
        let (before, after) = (i32::try_from(all.len()).unwrap(), i32::try_from(staying.len()).unwrap());
        if to.start > from.start {
            assert!(after >= before.min(policy.replicas - missing), "too few stay of {before}: {after}");
        }
        let back = !decision.told.failure.is_empty();
        let above = |pod: &&&PodView| highest_old.is_none_or(|highest| pod.ordinal > highest);
        let new_leaves = all.iter().filter(above).any(|pod| place(pod, to).is_none());
        assert!(back || !new_leaves, "new nodes leave before old ones: {}", shown(scene, decision));
        let most = from.replicas.max(policy.replicas + policy.surge);
        assert!(to.replicas <= most, "more than {most} nodes");
        if self.undisturbed {
            self.judge_time(scene, decision, &all);
        }
    }

    /// Whether those that leave by a write have waited long enough.
    fn judge_time(&self, scene: &Scene, decision: &Decision, all: &[&PodView]) {
        let Some(set) = &scene.set else { return };
        let (from, to) = (set.window, decision.window);
        let leaving: Vec<&&PodView> = all.iter().filter(|pod| place(pod, to).is_none()).collect();
        let back = !decision.told.failure.is_empty();
        assert!(back || to.start >= from.start, "the window moved back: {from:?} -> {to:?}");
        if leaving.is_empty() || self.policy.surge == 0 {
            return;
        }
        if back {
            let touched = leaving.iter().find(|pod| pod.revision == decision.told.stable_revision);
            assert!(touched.is_none(), "a node of before leaves on the way back: {touched:?}");
        }
        let served = scene.serving.clone().unwrap();
        let is_led_away = leaving.iter().all(|pod| pod.revision != served);
        let (shown, since) = self.alone.clone().expect("nodes leave while the endpoints show both");
        assert!(!is_led_away || shown == served, "nodes leave while the endpoints show them");
        let judged = !back && decision.told.order.is_none();
        let wait = if judged { SETTLE + self.policy.soak } else { SETTLE };
        let waited = elapsed(since, self.now);
        assert!(!is_led_away || waited >= wait, "nodes leave {waited:?} after the endpoints showed the others");
    }

    /// What must be true in the end.
    pub(super) fn assert_done(&mut self) {
        self.assert_rest_of(self.template);
        let told = self.status.clone().unwrap();
        assert_eq!((told.phase, told.failure.as_str()), (RolloutPhase::Stable, ""));
    }

    /// What must be true in the end when the user's template has failed.
    pub(super) fn assert_back(&mut self, template: u32) {
        self.assert_rest_of(template);
        let told = self.status.clone().unwrap();
        assert_eq!(told.failed_spec_hash, format!("spec-{}", self.template));
        assert!(!told.failure.is_empty() && told.message.contains(&told.failure), "{}", told.message);
    }

    /// It rests at this template.
    pub(super) fn assert_rest_of(&mut self, template: u32) {
        let set = self.set.clone().unwrap();
        let replicas = self.policy.replicas;
        let scene = self.scene();
        let about = shown(&scene, &decide(&scene, self.now));
        assert_eq!(set.window, Window { start: set.window.start, replicas, partition: replicas }, "{about}");
        assert_eq!((set.template, set.current), (template, template), "{:?} {:?}", self.status, self.pods);
        assert_eq!(self.serving, None, "the Service selects every node at rest");
        let ordinals: BTreeSet<i32> = self.pods.iter().map(|pod| pod.ordinal).collect();
        assert_eq!(ordinals, (set.window.start..set.window.start + replicas).collect());
        assert!(self.pods.iter().all(|pod| pod.serves() && pod.revision == revision(template)), "{:?}", self.pods);
        self.tick(3600);
        assert_eq!(self.operator(None, usize::MAX), Vec::<Write>::new(), "a steady state writes nothing");
    }

    /// Every client has moved so often.
    pub(super) fn assert_moves(&self, moves: u32) {
        let moved: Vec<u32> = self.clients.iter().map(|client| client.moves).collect();
        assert!(moved.iter().all(|moved| *moved == moves), "{moved:?}");
    }

    /// Fails what does not come forward in this time.
    pub(super) fn with_deadline(mut self, seconds: u64) -> World {
        self.policy.progress_deadline = Duration::from_secs(seconds);
        self
    }

    /// Stops where a rollout fails.
    pub(super) fn pausing(mut self) -> World {
        self.policy.on_failure = OnFailure::Pause;
        self
    }
}

//! A small world to walk rollouts in: the StatefulSet controller, the endpoints controller and the kubelets, each as one function
//! that takes one step.
//!
//! The StatefulSet controller follows `pkg/controller/statefulset/stateful_set_control.go` of Kubernetes 1.36 for what is used here
//! (`Parallel`, `RollingUpdate`, `partition`, `ordinals.start`). [`World::check`] holds what must be true at every moment.

use std::collections::{BTreeMap, BTreeSet};

use crds::chatcluster::{RolloutStatus, Window};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Decision, PodView, Policy, SETTLE, Scene, SetView, decide};

/// A StatefulSet as the API server holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    pub(super) window: Window,
    pub(super) template: u32,
    pub(super) version: u64,
    generation: u64,
    observed: u64,
    current: u32,
    update: u32,
}

/// What the operator does within one reconcile, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Service,
    Set,
    Status,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) policy: Policy,
    /// The template that the user wants. Pods of a template in `broken` never become ready.
    pub(super) template: u32,
    pub(super) broken: BTreeSet<u32>,
    pub(super) set: Option<Set>,
    pub(super) pods: Vec<PodView>,
    pub(super) serving: Option<String>,
    pub(super) endpoints: BTreeSet<String>,
    pub(super) status: Option<RolloutStatus>,
    /// Nothing was killed or changed from outside, so the strict invariants hold.
    pub(super) undisturbed: bool,
    /// Nodes that must be ready: fewer while the user scales.
    pub(super) ready_min: i32,
    pub(super) endpoints_new_since: Option<Timestamp>,
    pub(super) versions: u64,
}

pub(super) fn revision(template: u32) -> String {
    format!("demo-{template}")
}

impl World {
    /// A cluster at rest, all of its nodes ready at template 1.
    pub(super) fn at_rest(policy: Policy) -> Self {
        let mut world = World {
            now: Timestamp::UNIX_EPOCH,
            policy,
            template: 1,
            broken: BTreeSet::new(),
            set: None,
            pods: Vec::new(),
            serving: None,
            endpoints: BTreeSet::new(),
            status: None,
            undisturbed: true,
            ready_min: 0,
            endpoints_new_since: None,
            versions: 0,
        };
        world.settle_down();
        world.ready_min = policy.replicas - policy.unavailable;
        world
    }

    /// This state of the cluster with what the user wants in `other`.
    pub(super) fn wishing(&self, other: &World) -> World {
        World { policy: other.policy, template: other.template, ..self.clone() }
    }

    /// What the operator would observe now.
    pub(super) fn scene(&self) -> Scene {
        Scene {
            policy: self.policy,
            set: self.set.as_ref().map(|set| SetView {
                window: set.window,
                template_current: set.template == self.template,
                fresh: set.observed == set.generation,
                current_revision: revision(set.current),
                update_revision: revision(set.update),
            }),
            pods: self.pods.clone(),
            serving: self.serving.clone(),
            endpoints: self.endpoints.clone(),
            revisions: (0..=self.template).map(|template| (revision(template), i64::from(template))).collect(),
            nodes: BTreeMap::new(),
            previous: self.status.clone(),
        }
    }

    /// One reconcile on what was observed `stale`, or is now; the process dies after `writes_max` writes. Returns what was written.
    pub(super) fn operator(&mut self, stale: Option<&World>, writes_max: usize) -> Vec<Write> {
        let seen = stale.unwrap_or(self);
        let scene = seen.scene();
        let seen_version = seen.set.as_ref().map(|set| set.version);
        let seen_serving = seen.serving.clone();
        let decision = decide(&scene, self.now);

        let mut written = Vec::new();
        let wanted = [
            (Write::Service, decision.serving != seen_serving),
            (Write::Set, scene.set.as_ref().is_none_or(|set| set.window != decision.window || !set.template_current)),
            (Write::Status, scene.previous.as_ref() != Some(&status(&decision))),
        ];
        for write in wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(write, _)| write).take(writes_max) {
            match write {
                Write::Service => self.serving = decision.serving.clone(),
                Write::Set => {
                    // The precondition: neither an older state nor an absence that is over is written upon.
                    if self.set.as_ref().map(|set| set.version) != seen_version {
                        break;
                    }
                    self.write_set(&decision);
                }
                Write::Status => self.status = Some(status(&decision)),
            }
            written.push(write);
        }
        written
    }

    fn write_set(&mut self, decision: &Decision) {
        self.versions += 1;
        let (template, window, version) = (self.template, decision.window, self.versions);
        match &mut self.set {
            Some(set) => {
                if self.undisturbed {
                    assert!(window.start >= set.window.start, "the window moved back: {:?} -> {window:?}", set.window);
                }
                if self.undisturbed && self.policy.surge > 0 && window.start > set.window.start {
                    let since = self.endpoints_new_since.expect("slid before the endpoints showed new nodes alone");
                    let settle = i64::try_from(SETTLE.as_secs()).unwrap();
                    assert!(self.now.duration_since(since).as_secs() >= settle, "slid before the endpoints settled");
                }
                *set = Set { template, window, version, generation: set.generation + 1, ..set.clone() };
            }
            None => {
                self.set = Some(Set {
                    window,
                    template,
                    version,
                    generation: 1,
                    observed: 0,
                    current: template,
                    update: template,
                });
            }
        }
    }

    /// One sync of the StatefulSet controller.
    pub(super) fn controller(&mut self) {
        let Some(mut set) = self.set.clone() else { return };
        set.update = set.template;
        let Window { start, replicas, partition } = set.window;
        for ordinal in start..start + replicas {
            if !self.pods.iter().any(|pod| pod.ordinal == ordinal) {
                let template = if ordinal < start + partition { set.current } else { set.update };
                self.pods.push(PodView {
                    name: format!("demo-{ordinal}"),
                    ordinal,
                    revision: revision(template),
                    ready: false,
                    since: self.now,
                    terminating: false,
                });
            }
        }
        for pod in self.pods.iter_mut().filter(|pod| !(start..start + replicas).contains(&pod.ordinal)) {
            pod.terminating = true;
        }
        let target = (start + partition..start + replicas).rev().find_map(|ordinal| {
            let pod = self.pods.iter().position(|pod| pod.ordinal == ordinal)?;
            let stray = self.pods[pod].revision != revision(set.update) && !self.pods[pod].terminating;
            (stray || !self.pods[pod].serves()).then_some((pod, stray))
        });
        if let Some((pod, true)) = target {
            assert!(!self.undisturbed || self.policy.in_place, "restarted in place: {:?}", self.pods[pod]);
            self.pods[pod].terminating = true;
        }

        let of = |wanted: &dyn Fn(&PodView) -> bool| self.pods.iter().filter(|pod| wanted(pod)).count();
        let replicas = usize::try_from(replicas).unwrap();
        let updated = of(&|pod| !pod.terminating && pod.revision == revision(set.update));
        if updated == replicas && of(&|pod| pod.ready) == replicas && self.pods.len() == replicas {
            set.current = set.update;
        }
        set.observed = set.generation;
        if self.set.as_ref() != Some(&set) {
            self.versions += 1;
            set.version = self.versions;
            self.set = Some(set);
        }
    }

    /// The endpoints controller.
    pub(super) fn endpoints(&mut self) {
        let selected = |pod: &&PodView| self.serving.as_ref().is_none_or(|serving| *serving == pod.revision);
        let ready = self.pods.iter().filter(|pod| pod.serves());
        self.endpoints = ready.filter(selected).map(|pod| pod.name.clone()).collect();
        self.watch_endpoints();
    }

    /// The kubelet of the `index`th pod: a leaving pod goes, another becomes ready.
    pub(super) fn kubelet(&mut self, index: usize) {
        let Some(pod) = self.pods.get_mut(index) else { return };
        if pod.terminating {
            self.pods.remove(index);
        } else if !pod.ready && !self.broken.iter().any(|template| pod.revision == revision(*template)) {
            (pod.ready, pod.since) = (true, self.now);
        }
    }

    /// Time goes by.
    pub(super) fn tick(&mut self, seconds: i64) {
        self.now += jiff::SignedDuration::from_secs(seconds);
    }

    /// Everybody takes turns until nothing changes any more. Returns the number of the operator's writes to the StatefulSet.
    pub(super) fn settle_down(&mut self) -> usize {
        let mut writes = 0;
        for _ in 0..2000 {
            let before = (self.set.clone(), self.pods.clone(), self.serving.clone(), self.endpoints.clone());
            let written = self.operator(None, usize::MAX);
            writes += written.iter().filter(|write| **write == Write::Set).count();
            self.round();
            let after = (self.set.clone(), self.pods.clone(), self.serving.clone(), self.endpoints.clone());
            if before == after && written.is_empty() && decide(&self.scene(), self.now).requeue.is_none() {
                return writes;
            }
            self.tick(3);
        }
        panic!("does not settle: {:?}", decide(&self.scene(), self.now));
    }

    /// Everybody but the operator takes one turn.
    pub(super) fn round(&mut self) {
        self.controller();
        self.check();
        for index in (0..self.pods.len()).rev() {
            self.kubelet(index);
            self.check();
        }
        self.endpoints();
        self.check();
    }

    fn watch_endpoints(&mut self) {
        let new = revision(self.template);
        let is_new = |name: &String| self.pods.iter().any(|pod| pod.name == *name && pod.revision == new);
        let alone = !self.endpoints.is_empty() && self.endpoints.iter().all(is_new);
        self.endpoints_new_since = if alone { self.endpoints_new_since.or(Some(self.now)) } else { None };
    }

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
        assert!(staying.count() <= usize::try_from(most).unwrap(), "more than {most} nodes");

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
    }

    /// What must be true in the end.
    pub(super) fn assert_done(&mut self) {
        let set = self.set.clone().unwrap();
        let replicas = self.policy.replicas;
        assert_eq!(set.window, Window { start: set.window.start, replicas, partition: replicas });
        assert_eq!((set.template, set.current), (self.template, self.template));
        assert_eq!(self.serving, None, "the Service selects every node at rest");
        let ordinals: BTreeSet<i32> = self.pods.iter().map(|pod| pod.ordinal).collect();
        assert_eq!(ordinals, (set.window.start..set.window.start + replicas).collect());
        assert!(self.pods.iter().all(|pod| pod.serves() && pod.revision == revision(self.template)), "{:?}", self.pods);
        self.tick(3600);
        assert_eq!(self.operator(None, usize::MAX), [], "a steady state writes nothing");
    }
}

/// As the operator writes it down.
fn status(decision: &Decision) -> RolloutStatus {
    RolloutStatus {
        phase: decision.phase,
        revision: decision.revision.clone(),
        stable_revision: decision.stable_revision.clone(),
        serving_revision: decision.serving.clone().unwrap_or_default(),
        window: Some(decision.window),
        surge: 0,
        last_progress_time: Some(Time(decision.last_progress_time)),
        message: decision.message.clone(),
    }
}

//! A small world to walk rollouts in: the StatefulSet controller, the endpoints controller, the kubelets, nodes and clients, each as
//! one function that takes one step.
//!
//! The StatefulSet controller follows `pkg/controller/statefulset/stateful_set_control.go` of Kubernetes 1.36 for what is used here
//! (`Parallel`, `RollingUpdate`, `partition`, `ordinals.start`). What must be true at every step is in `oracles`.

use std::collections::{BTreeMap, BTreeSet};

use crds::{
    NodeStatus,
    chatcluster::{RolloutStatus, Window},
    node_status::{Quantiles, Recent, SelfTest},
};
use jiff::{SignedDuration, Timestamp};

use super::super::{Decision, FAILURES_MAX, PodView, Policy, Scene, SetView, Template, decide};

/// A StatefulSet as the API server holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    pub(super) window: Window,
    pub(super) template: u32,
    /// From where the template was taken, as the operator noted it.
    pub(super) noted: String,
    pub(super) version: u64,
    generation: u64,
    observed: u64,
    /// Pods, ready ones and new ones, as its status tells.
    counts: [usize; 3],
    pub(super) current: u32,
    pub(super) update: u32,
}

/// What the operator does within one reconcile, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Service,
    Set,
    Status,
    Test,
}

/// Somebody who talks.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) pod: String,
    pub(super) moves: u32,
}

/// What is wrong with the nodes of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They never become ready.
    Broken,
    /// They fail their self-test.
    Sick,
    /// They fail sends.
    Worse,
    /// They become ready and unready again and again.
    Flapping,
    /// They have too little to do to be judged.
    Quiet,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) policy: Policy,
    /// The template that the user wants.
    pub(super) template: u32,
    pub(super) faults: BTreeMap<u32, Fault>,
    pub(super) command: Option<String>,
    pub(super) set: Option<Set>,
    pub(super) pods: Vec<PodView>,
    /// Self-tests by pod: those that failed in a row, or `None` for passed.
    pub(super) tested: BTreeMap<String, Option<u32>>,
    pub(super) clients: Vec<Client>,
    pub(super) serving: Option<String>,
    pub(super) endpoints: BTreeSet<String>,
    /// The revision that the endpoints show alone, and since when.
    pub(super) alone: Option<(String, Timestamp)>,
    pub(super) status: Option<RolloutStatus>,
    status_version: u64,
    /// Nothing was killed or changed from outside, so the strict oracles hold.
    pub(super) undisturbed: bool,
    /// Nodes that must be ready: fewer while the user scales.
    pub(super) ready_min: i32,
    versions: u64,
}

pub(super) fn revision(template: u32) -> String {
    format!("demo-{template}")
}

fn template_of(revision: &str) -> u32 {
    revision.strip_prefix("demo-").unwrap().parse().unwrap()
}

impl World {
    /// A cluster at rest, all of its nodes ready at template 1, with two clients on each.
    pub(super) fn at_rest(policy: Policy) -> Self {
        let mut world = World {
            now: Timestamp::UNIX_EPOCH,
            policy,
            template: 1,
            faults: BTreeMap::new(),
            command: None,
            set: None,
            pods: Vec::new(),
            tested: BTreeMap::new(),
            clients: Vec::new(),
            serving: None,
            endpoints: BTreeSet::new(),
            alone: None,
            status: None,
            status_version: 0,
            undisturbed: true,
            ready_min: 0,
            versions: 0,
        };
        world.settle_down();
        // With surge no node is ever missing; without, as many as may be.
        world.ready_min = policy.replicas - if policy.surge > 0 { 0 } else { policy.unavailable };
        let names = world.pods.iter().flat_map(|pod| [pod.name.clone(), pod.name.clone()]);
        world.clients = names.map(|pod| Client { pod, moves: 0 }).collect();
        world
    }

    /// A rollout of template 2 begins, whose nodes have this fault.
    pub(super) fn rolling(policy: Policy, fault: Option<Fault>) -> Self {
        let mut world = World::at_rest(policy);
        world.template = 2;
        world.faults.extend(fault.map(|fault| (2, fault)));
        world
    }

    /// This state of the cluster with what the user wants in `other`.
    pub(super) fn wishing(&self, other: &World) -> World {
        let (policy, template, command) = (other.policy, other.template, other.command.clone());
        World { policy, template, command, ..self.clone() }
    }

    pub(super) fn fault(&self, revision: &str) -> Option<Fault> {
        self.faults.iter().find(|(template, _)| self::revision(**template) == revision).map(|(_, fault)| *fault)
    }

    /// What the operator would observe now.
    pub(super) fn scene(&self) -> Scene {
        let spec_hash = format!("spec-{}", self.template);
        // Revisions are kept for a while after their last pod.
        let newest = self.set.as_ref().map_or(self.template, |set| set.update.max(set.current).max(self.template));
        let of_pods = self.pods.iter().map(|pod| template_of(&pod.revision));
        let known = of_pods.chain(1..=newest).map(|template| (revision(template), i64::from(template)));
        Scene {
            policy: self.policy,
            set: self.set.as_ref().map(|set| SetView {
                window: set.window,
                template_current: set.noted == spec_hash && set.template == self.template,
                noted: set.noted.clone(),
                fresh: set.observed == set.generation,
                current_revision: revision(set.current),
                update_revision: revision(set.update),
            }),
            spec_hash,
            command: self.command.clone(),
            pods: self.pods.clone(),
            serving: self.serving.clone(),
            endpoints: self.endpoints.clone(),
            revisions: known.collect(),
            nodes: self.pods.iter().filter(|pod| pod.ready).map(|pod| (pod.name.clone(), self.report(pod))).collect(),
            previous: self.status.clone(),
        }
    }

    fn report(&self, pod: &PodView) -> NodeStatus {
        let fault = self.fault(&pod.revision);
        let sends = if fault == Some(Fault::Quiet) { 3 } else { 1000 };
        let sends_failed = if fault == Some(Fault::Worse) { 500 } else { 0 };
        let self_test = self.tested.get(&pod.name).map(|failed| SelfTest {
            passed: failed.is_none(),
            failures: failed.unwrap_or(0),
            ..SelfTest::default()
        });
        let ack_latency = Quantiles { samples: sends - sends_failed.min(sends), p50_ms: 1.0, p99_ms: 9.0 };
        NodeStatus {
            self_test,
            recent: Recent { sends, sends_failed, ack_latency, ..Recent::default() },
            ..NodeStatus::default()
        }
    }

    /// One reconcile on what was observed `stale`, or is now; the process dies after `writes_max` writes. Returns what was written.
    pub(super) fn operator(&mut self, stale: Option<&World>, writes_max: usize) -> Vec<Write> {
        let seen = stale.unwrap_or(self).clone();
        let scene = seen.scene();
        let decision = decide(&scene, self.now);
        let same_set = scene.set.as_ref().is_some_and(|set| {
            let noted = seen.set.as_ref().map(|set| set.noted.clone()).unwrap_or_default();
            let template = match &decision.template {
                Template::Desired => set.template_current,
                Template::Live => true,
                Template::Revision(revision) => noted == *revision && *revision == set.update_revision,
            };
            template && set.window == decision.window
        });
        let wanted = [
            (Write::Service, decision.serving != seen.serving),
            (Write::Set, !same_set),
            (Write::Status, scene.previous.as_ref() != Some(&decision.told)),
            (Write::Test, !decision.tests.is_empty() || !decision.lost.is_empty()),
        ];
        let mut written = Vec::new();
        for write in wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(write, _)| write).take(writes_max) {
            match write {
                Write::Service => {
                    self.judge_service(&scene, &decision);
                    self.serving = decision.serving.clone();
                }
                Write::Set => {
                    // The precondition: neither an older state nor an absence that is over is written upon.
                    if self.set.as_ref().map(|set| set.version) != seen.set.as_ref().map(|set| set.version) {
                        break;
                    }
                    self.judge_set(&scene, &decision);
                    self.write_set(&decision);
                }
                Write::Status if self.status_version != seen.status_version => break,
                Write::Status => {
                    self.status = Some(decision.told.clone());
                    self.status_version += 1;
                }
                Write::Test => self.ask(&decision),
            }
            written.push(write);
        }
        written
    }

    fn write_set(&mut self, decision: &Decision) {
        self.versions += 1;
        let (template, noted) = match &decision.template {
            Template::Desired => (self.template, format!("spec-{}", self.template)),
            Template::Live => self.set.as_ref().map(|set| (set.template, set.noted.clone())).unwrap(),
            Template::Revision(revision) => (template_of(revision), revision.clone()),
        };
        let (window, version) = (decision.window, self.versions);
        let new = Set {
            window,
            template,
            noted,
            version,
            generation: 1,
            observed: 0,
            counts: [0; 3],
            current: template,
            update: template,
        };
        self.set = Some(match &self.set {
            Some(set) => Set {
                generation: set.generation + 1,
                observed: set.observed,
                counts: set.counts,
                current: set.current,
                update: set.update,
                ..new
            },
            None => new,
        });
    }

    /// The operator asks nodes to test themselves, and deletes by force what a dead machine holds.
    fn ask(&mut self, decision: &Decision) {
        let forgiven = decision.told.forgiven_self_tests;
        for name in &decision.tests {
            let Some(pod) = self.pods.iter().find(|pod| pod.name == *name && pod.ready) else { continue };
            let failed = match (self.fault(&pod.revision), self.tested.get(name)) {
                // No more than decides, so that the states are few.
                (Some(Fault::Sick), Some(Some(failures))) => Some((failures + 1).min(forgiven + FAILURES_MAX)),
                (Some(Fault::Sick), _) => Some(1),
                _ => None,
            };
            self.tested.insert(name.clone(), failed);
        }
        self.pods.retain(|pod| !decision.lost.contains(&pod.name));
    }

    /// One sync of the StatefulSet controller.
    pub(super) fn controller(&mut self) {
        let Some(mut set) = self.set.clone() else { return };
        set.update = set.template;
        let Window { start, replicas, partition } = set.window;
        for ordinal in start..start + replicas {
            if !self.pods.iter().any(|pod| pod.ordinal == ordinal) {
                let template = if ordinal < start + partition { set.current } else { set.update };
                let (name, revision) = (format!("demo-{ordinal}"), revision(template));
                self.tested.remove(&name);
                let (since, ready, terminating, lost) = (self.now, false, false, false);
                self.pods.push(PodView { name, ordinal, revision, ready, since, terminating, lost });
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
            assert!(self.policy.in_place, "restarted in place: {:?}", self.pods[pod]);
            self.pods[pod].terminating = true;
        }

        let of = |wanted: &dyn Fn(&PodView) -> bool| self.pods.iter().filter(|pod| wanted(pod)).count();
        let replicas = usize::try_from(replicas).unwrap();
        let updated = of(&|pod| !pod.terminating && pod.revision == revision(set.update));
        set.counts = [self.pods.len(), of(&|pod| pod.ready), updated];
        if set.counts == [replicas; 3] {
            set.current = set.update;
        }
        set.observed = set.generation;
        if self.set.as_ref() != Some(&set) {
            self.versions += 1;
            set.version = self.versions;
            self.set = Some(set);
        }
    }

    /// The endpoints controller writes one of the two slices: that of the even ordinals, or of the odd.
    pub(super) fn endpoints(&mut self, slice: i32) {
        let in_slice = |ordinal: i32| ordinal % 2 == slice;
        let ordinal = |name: &str| name.strip_prefix("demo-").unwrap().parse::<i32>().unwrap();
        self.endpoints.retain(|name| !in_slice(ordinal(name)));
        let selected = |pod: &&PodView| self.serving.as_ref().is_none_or(|serving| *serving == pod.revision);
        let ready = self.pods.iter().filter(|pod| pod.serves() && in_slice(pod.ordinal));
        self.endpoints.extend(ready.filter(selected).map(|pod| pod.name.clone()));

        let shown = self.pods.iter().filter(|pod| self.endpoints.contains(&pod.name));
        let shown: BTreeSet<String> = shown.map(|pod| pod.revision.clone()).collect();
        self.alone = match (shown.first(), self.alone.take()) {
            // Nobody for a moment is nobody else.
            (None, before) => before,
            (Some(_), _) if shown.len() > 1 => None,
            (Some(revision), Some((before, since))) if *revision == before => Some((before, since)),
            (Some(revision), _) => Some((revision.clone(), self.now)),
        };
    }

    /// The kubelet of the `index`th pod: a leaving pod moves its clients and goes, another becomes ready.
    pub(super) fn kubelet(&mut self, index: usize) {
        let Some(pod) = self.pods.get(index).cloned() else { return };
        let fault = self.fault(&pod.revision);
        if pod.terminating && !pod.lost {
            self.pods.remove(index);
            self.endpoints.remove(&pod.name);
            self.move_clients(&pod.name);
        } else if !pod.terminating && !pod.ready && fault != Some(Fault::Broken) {
            (self.pods[index].ready, self.pods[index].since) = (true, self.now);
        } else if !pod.terminating && pod.ready && fault == Some(Fault::Flapping) {
            (self.pods[index].ready, self.pods[index].since) = (false, self.now);
        }
    }

    fn move_clients(&mut self, from: &str) {
        let places: Vec<String> = self.endpoints.iter().cloned().collect();
        for (number, client) in self.clients.iter_mut().filter(|client| client.pod == from).enumerate() {
            assert!(
                !self.undisturbed || self.policy.surge == 0 || !places.is_empty(),
                "a client of {from} finds nobody"
            );
            if !places.is_empty() {
                *client = Client { pod: places[number % places.len()].clone(), moves: client.moves + 1 };
            }
        }
    }

    /// Time goes by.
    pub(super) fn tick(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
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

    /// Everybody takes turns, so often.
    pub(super) fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            self.operator(None, usize::MAX);
            self.round();
            self.tick(3);
        }
    }

    /// Everybody but the operator takes one turn.
    pub(super) fn round(&mut self) {
        self.controller();
        self.check();
        for slice in [0, 1] {
            self.endpoints(slice);
        }
        for index in (0..self.pods.len()).rev() {
            self.kubelet(index);
            self.check();
        }
        for slice in [0, 1] {
            self.endpoints(slice);
            self.check();
        }
    }
}

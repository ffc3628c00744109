//! What a rollout depends on, as plain data.
//!
//! Owns the vocabulary of the decision: ordinals, revisions and readiness. It must never decide, and never hold more of
//! Kubernetes than it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crds::{
    NodeStatus,
    chatcluster::{OnFailure, OnInconclusive, RolloutPhase, RolloutStatus, Window},
};
use jiff::Timestamp;

/// Everything that was observed of one cluster's rollout.
#[derive(Clone, Debug)]
pub struct Scene {
    /// What the user wants.
    pub policy: Policy,
    /// Hash of the pods' template that the user's spec asks for.
    pub spec_hash: String,
    /// The annotation by which a person commands a rollout.
    pub command: Option<String>,
    /// The StatefulSet; `None` when there is none.
    pub set: Option<SetView>,
    /// Every pod of the cluster, also those that are leaving.
    pub pods: Vec<PodView>,
    /// The revision that the client Service selects now; `None`: every node, or there is no Service.
    pub serving: Option<String>,
    /// Names of the pods behind the ready endpoints of the client Service.
    pub endpoints: BTreeSet<String>,
    /// ControllerRevisions by name, with their number: the higher, the newer.
    pub revisions: BTreeMap<String, i64>,
    /// What nodes report of themselves, by pod. A node that does not answer is absent.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// What was last written down in the status.
    pub previous: Option<RolloutStatus>,
}

/// The numbers of a spec, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Nodes wanted.
    pub replicas: i32,
    /// Nodes added during a rollout, at most `replicas`.
    pub surge: i32,
    /// Nodes that may be missing during a rollout. Never zero together with `surge`.
    pub unavailable: i32,
    /// Time for which new nodes serve before old ones leave.
    pub soak: Duration,
    /// Time without progress after which the rollout counts as stuck.
    pub progress_deadline: Duration,
    /// What to do when new nodes fail.
    pub on_failure: OnFailure,
    /// What to do when new nodes cannot be judged.
    pub on_inconclusive: OnInconclusive,
    /// Rollouts stand still.
    pub paused: bool,
    /// A self-contained node restarts in place: its volume cannot be at two pods.
    pub in_place: bool,
}

/// What of the StatefulSet matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetView {
    /// Its ordinals, from its spec.
    pub window: Window,
    /// Its template is the desired one.
    pub template_current: bool,
    /// What the operator noted of its template: a hash of the desired one, or the name of a revision.
    pub noted: String,
    /// Its status speaks of its present spec (`observedGeneration == generation`).
    pub fresh: bool,
    /// Revision at which pods below the partition are born.
    pub current_revision: String,
    /// Revision at which all others are born.
    pub update_revision: String,
}

/// What of a pod matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// The number at the end of its name.
    pub ordinal: i32,
    /// Its `controller-revision-hash`.
    pub revision: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Since when it is ready, or is not.
    pub since: Timestamp,
    /// Whether it is leaving.
    pub terminating: bool,
    /// Whether it should be gone by now, but its machine is dead and cannot say so.
    pub lost: bool,
}

impl Scene {
    /// The same where what was told of this spec was told under another hash.
    pub fn known_as(mut self, former_hash: Option<String>) -> Scene {
        if let Some(previous) = &mut self.previous
            && former_hash.is_some_and(|former| former == previous.spec_hash)
        {
            previous.spec_hash.clone_from(&self.spec_hash);
        }
        self
    }

    /// The same of a cluster at rest whose change cannot be had yet: an order that is given meanwhile is about that change, and waits for it.
    pub fn without_new_orders(self) -> Scene {
        let rests = match &self.previous {
            Some(previous) => previous.phase == RolloutPhase::Stable,
            None => self.set.as_ref().is_some_and(|set| set.current_revision == set.update_revision),
        };
        if !rests {
            return self;
        }
        let taken = self.previous.as_ref().map(|previous| previous.command.clone());
        Scene { command: taken.filter(|taken| !taken.is_empty()), ..self }
    }

    /// The revision that clients were on before: as it was told, or, where the status was lost, as the template was brought back to.
    pub(super) fn stable_revision(&self) -> Option<String> {
        match &self.previous {
            Some(previous) => Some(previous.stable_revision.clone()),
            None => self.set.as_ref().filter(|set| self.was_brought_back(set)).map(|set| set.noted.clone()),
        }
    }

    /// Whether the template was brought back to a revision, and nothing was rolled out since.
    pub(super) fn was_brought_back(&self, set: &SetView) -> bool {
        !set.template_current && self.revisions.contains_key(&set.noted)
    }

    /// The pods at the positions of the window, lowest ordinal first.
    pub(super) fn positions(&self, window: Window) -> Vec<Option<&PodView>> {
        let mut positions = vec![None; usize::try_from(window.replicas).unwrap_or(0)];
        for pod in &self.pods {
            let index = usize::try_from(pod.ordinal - window.start).ok();
            if let Some(position) = index.and_then(|index| positions.get_mut(index)) {
                *position = Some(pod);
            }
        }
        positions
    }

    /// Ready nodes of a revision within a window.
    pub(super) fn ready_of(&self, window: Window, revision: &str) -> i32 {
        let pods = self.positions(window).into_iter().flatten();
        i32::try_from(pods.filter(|pod| pod.serves() && pod.revision == revision).count()).unwrap_or(i32::MAX)
    }
}

impl Policy {
    /// Nodes that are replaced in one go.
    pub(super) fn batch(&self) -> i32 {
        if self.surge > 0 { self.surge } else { self.unavailable.min(self.replicas) }
    }
}

impl PodView {
    /// Ready, and not about to leave.
    pub(super) fn serves(&self) -> bool {
        self.ready && !self.terminating
    }
}

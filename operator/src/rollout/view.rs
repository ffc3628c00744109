//! The window with its pods in their places, and what may leave it.
//!
//! Owns the counting. It must never decide what comes next.

use std::time::Duration;

use crds::chatcluster::{RolloutPhase, Window};
use jiff::Timestamp;

use super::{
    PATIENCE, PodView, SETTLE, Scene, SetView, elapsed,
    rules::{Rule, holds},
};

/// For how long a node tells of what happened: its latest minute or two (`NodeStatus::recent`).
const REMEMBERED: Duration = Duration::from_secs(120);

/// The window with its pods in their places.
pub(super) struct View<'a> {
    pub(super) scene: &'a Scene,
    pub(super) set: &'a SetView,
    pub(super) now: Timestamp,
    places: Vec<Option<&'a PodView>>,
    /// Places from the lowest up to and with the highest one that holds, or would be born with, an old revision.
    pub(super) old: i32,
}

impl<'a> View<'a> {
    pub(super) fn new(scene: &'a Scene, set: &'a SetView, now: Timestamp) -> Self {
        let mut view = View { scene, set, now, places: scene.positions(set.window), old: 0 };
        view.old = view.old_among(set.window.replicas);
        view
    }

    /// Of so many lowest places, those up to and with the highest old one: what a window that ends there keeps old.
    pub(super) fn old_among(&self, lowest: i32) -> i32 {
        let set = self.set;
        let born_old = set.current_revision != set.update_revision && holds(Rule::MissingIsOld);
        let is_old = |(index, place): &(usize, &Option<&PodView>)| match place {
            Some(pod) => pod.revision != set.update_revision,
            None => born_old && count(*index) < set.window.partition,
        };
        self.places.iter().enumerate().take(index(lowest)).rfind(is_old).map_or(0, |(index, _)| count(index + 1))
    }

    /// Places above the highest old one.
    pub(super) fn new_places(&self) -> i32 {
        self.set.window.replicas - self.old
    }

    /// Ready nodes of the new revision.
    pub(super) fn new_nodes(&self) -> impl Iterator<Item = &'a PodView> {
        let set = self.set;
        self.places.iter().flatten().copied().filter(|pod| pod.serves() && pod.revision == set.update_revision)
    }

    /// Ready nodes of any other revision.
    pub(super) fn old_nodes(&self) -> impl Iterator<Item = &'a PodView> {
        let set = self.set;
        self.places.iter().flatten().copied().filter(|pod| pod.serves() && pod.revision != set.update_revision)
    }

    /// Whether no node of another revision than the old one is there.
    pub(super) fn is_uniform(&self) -> bool {
        let born = &self.set.current_revision;
        self.old == self.set.window.replicas && self.places.iter().flatten().all(|pod| pod.revision == *born)
    }

    /// Old places whose node is not ready but may still come to be.
    pub(super) fn old_unready(&self) -> i32 {
        let old = self.places.iter().take(index(self.old));
        count(old.filter(|place| place.is_none_or(|pod| !pod.serves()) && !self.is_hopeless(place)).count())
    }

    /// Ready nodes from a place on.
    pub(super) fn ready_from(&self, place: i32) -> i32 {
        count(self.places.iter().skip(index(place)).flatten().filter(|pod| pod.serves()).count())
    }

    /// The window without its `gone` lowest places.
    pub(super) fn without_lowest(&self, gone: i32) -> Window {
        let window = self.set.window;
        Window { start: window.start + gone, replicas: window.replicas - gone, partition: self.old - gone }
    }

    /// How many of the lowest `wanted` may leave so that as many as must stay ready do. Old nodes that are broken are not
    /// held against the rollout, which may be what repairs them.
    pub(super) fn removable_below(&self, wanted: i32) -> i32 {
        let all = self.ready_from(0);
        let broken = self.broken(|place| self.is_broken(place));
        self.most(wanted, |gone| self.ready_from(gone) == all || self.ready_from(gone) >= self.must_stay(broken))
    }

    /// How many of the highest `wanted` may leave, likewise. Old nodes get longer there, because they are only being made again.
    pub(super) fn removable_above(&self, wanted: i32) -> i32 {
        let all = self.ready_from(0);
        let staying = |gone| all - self.ready_from(self.set.window.replicas - gone);
        let broken = self.broken(|place| self.is_hopeless(place));
        self.most(wanted, |gone| staying(gone) == all || staying(gone) >= self.must_stay(broken))
    }

    fn most(&self, wanted: i32, allowed: impl Fn(i32) -> bool) -> i32 {
        if !holds(Rule::KeepReady) {
            return wanted.max(0);
        }
        (1..=wanted).rev().find(|gone| allowed(*gone)).unwrap_or(0)
    }

    fn broken(&self, is_broken: impl Fn(&Option<&PodView>) -> bool) -> i32 {
        let is_old = |place: &&Option<&PodView>| place.is_some_and(|pod| pod.revision != self.set.update_revision);
        let broken = self.places.iter().filter(is_old).filter(|place| is_broken(place)).count();
        if holds(Rule::BrokenDoNotBlock) { count(broken) } else { 0 }
    }

    fn must_stay(&self, broken: i32) -> i32 {
        let policy = self.scene.policy;
        let missing = if policy.surge > 0 { policy.unavailable.max(broken) } else { policy.unavailable + broken };
        policy.replicas - missing
    }

    fn is_broken(&self, place: &Option<&PodView>) -> bool {
        self.is_unready_for(place, PATIENCE)
    }

    fn is_hopeless(&self, place: &Option<&PodView>) -> bool {
        self.is_unready_for(place, self.scene.policy.progress_deadline.max(PATIENCE))
    }

    fn is_unready_for(&self, place: &Option<&PodView>, time: Duration) -> bool {
        place.is_some_and(|pod| !pod.ready && !pod.terminating && elapsed(pod.since, self.now) >= time)
    }

    /// Places at the top, at most `most`, where no node of one of these revisions serves.
    pub(super) fn idle_above(&self, revisions: &[&str], most: i32) -> i32 {
        let serves = |pod: &PodView| pod.serves() && revisions.contains(&pod.revision.as_str());
        let idle = |place: &&Option<&PodView>| !place.is_some_and(serves);
        count(self.places.iter().rev().take_while(idle).count()).min(most)
    }

    /// Whether the endpoints show these nodes and no other.
    pub(super) fn endpoints_are(&self, nodes: impl Iterator<Item = &'a PodView>) -> bool {
        let endpoints = &self.scene.endpoints;
        let nodes: Vec<&str> = nodes.map(|pod| pod.name.as_str()).collect();
        let all = nodes.iter().all(|name| endpoints.contains(*name));
        !holds(Rule::EndpointsAlone) || (all && endpoints.len() == nodes.len())
    }

    /// For how long new nodes are being judged with this window and this revision served; zero when that only begins.
    pub(super) fn judged(&self, serving: &str) -> Duration {
        self.since(RolloutPhase::Judging, serving)
    }

    /// For how long nodes still tell of what was before a moment.
    pub(super) fn remembered(&self, moment: Timestamp) -> Duration {
        REMEMBERED.saturating_sub(elapsed(moment, self.now))
    }

    /// For how long the way back has had this window and has served this revision.
    pub(super) fn settled(&self, serving: &str) -> Duration {
        self.since(RolloutPhase::Returning, serving)
    }

    fn since(&self, phase: RolloutPhase, serving: &str) -> Duration {
        let previous = self.scene.previous.as_ref().filter(|previous| {
            previous.phase == phase && previous.serving_revision == serving && previous.window == Some(self.set.window)
        });
        let since = previous.and_then(|previous| previous.step_time.as_ref()).map(|time| time.0);
        since.map_or(Duration::ZERO, |since| elapsed(since, self.now))
    }

    pub(super) fn too_few(&self) -> String {
        let policy = self.scene.policy;
        format!(
            "waiting for {} ready nodes besides those that are to leave",
            (policy.replicas - policy.unavailable).max(0)
        )
    }
}

/// Time that load balancers get; a rule may be broken in tests.
pub(super) fn settle(rule: Rule) -> Duration {
    if holds(rule) { SETTLE } else { Duration::ZERO }
}

/// Places are at most 1000 by the schema, twice that with surge.
pub(super) fn count(places: usize) -> i32 {
    i32::try_from(places).unwrap_or(i32::MAX)
}

fn index(place: i32) -> usize {
    usize::try_from(place).unwrap_or(0)
}

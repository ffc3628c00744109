//! The dark gate: new nodes test themselves before a client is led to them.
//!
//! Owns what a self-test's outcome means for the rollout. It must never fail a rollout for a node that merely does not answer: that is
//! what the progress deadline is for.

use super::{
    PodView, Scene,
    rules::{Rule, holds},
};

/// Self-tests in a row after which a node has failed; fewer may be an accident of its first seconds.
pub const FAILURES_MAX: u32 = 3;

/// What the new nodes have proven so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dark {
    /// All passed.
    Passed,
    /// These are to be asked.
    Unproven(Vec<String>),
    /// One failed for good, and why.
    Failed(String),
}

/// `forgiven` are failures that a person has said not to count any more; a node counts on.
pub(super) fn look<'a>(scene: &Scene, forgiven: u32, new: impl Iterator<Item = &'a PodView>) -> Dark {
    if !holds(Rule::SelfTest) {
        return Dark::Passed;
    }
    let mut unproven = Vec::new();
    for pod in new {
        let test = scene.nodes.get(&pod.name).and_then(|node| node.self_test.as_ref());
        match test {
            Some(test) if test.passed => {}
            Some(test) if test.failures >= forgiven.saturating_add(FAILURES_MAX) => {
                return Dark::Failed(format!("{} fails its self-test at {}: {}", pod.name, test.step, test.error));
            }
            _ => unproven.push(pod.name.clone()),
        }
    }
    if unproven.is_empty() { Dark::Passed } else { Dark::Unproven(unproven) }
}

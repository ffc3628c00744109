//! The live gate: new nodes against old ones, under clients.
//!
//! Owns the comparison: errors, acknowledgement latency and resumes of the latest minute or two. It must never call too few samples a
//! pass. Nodes that do as badly as the old ones pass: what ails both is not the new version's fault.

use crds::{NodeStatus, chatcluster::LiveGate, node_status::Quantiles};

use super::rules::{Rule, holds};

/// Sends of a node below which its latency means little.
const SAMPLES_MIN: u64 = 50;

/// Failed sends (or lost positions) that are no accident, however few the samples.
const FAILURES_MIN: u64 = 5;

/// The share of failures that new nodes may have beyond twice that of the old ones.
const SHARE_MARGIN: f64 = 0.01;

/// Sends of a node below which its p99 is a matter of chance: fewer than [`FAILURES_MIN`] of them are the slowest hundredth. Medians are
/// compared then.
const P99_SAMPLES_MIN: u64 = 100 * FAILURES_MIN;

/// The latency of acknowledgements that new nodes may have beyond twice that of the old ones, in milliseconds. Caches are cold at first.
const LATENCY_MARGIN_MS: f64 = 50.0;

/// What came of a comparison, with the reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) gate: LiveGate,
    pub(super) why: String,
}

#[derive(Default)]
struct Side {
    sends: u64,
    failed: u64,
    resumes: u64,
    lost: u64,
    samples: u64,
    /// Of the slowest node with samples enough.
    p50_ms: Option<f64>,
    /// Likewise.
    p99_ms: Option<f64>,
}

impl Side {
    fn of<'a>(nodes: impl Iterator<Item = &'a NodeStatus>) -> Side {
        nodes.fold(Side::default(), |mut side, node| {
            let recent = &node.recent;
            let lost = recent.resumes.reset;
            side.sends += recent.sends;
            side.failed += recent.sends_failed;
            side.resumes += recent.resumes.replayed + recent.resumes.too_far + lost;
            side.lost += lost;
            let Quantiles { samples, p50_ms, p99_ms } = recent.ack_latency;
            side.samples += samples;
            let slowest = |so_far: Option<f64>, of_node| Some(so_far.map_or(of_node, |so_far| so_far.max(of_node)));
            if samples >= SAMPLES_MIN || !holds(Rule::SamplesMin) {
                side.p50_ms = slowest(side.p50_ms, p50_ms);
            }
            if samples >= P99_SAMPLES_MIN {
                side.p99_ms = slowest(side.p99_ms, p99_ms);
            }
            side
        })
    }
}

/// Compares new nodes with old ones.
pub(super) fn judge<'a>(
    new: impl Iterator<Item = &'a NodeStatus>,
    old: impl Iterator<Item = &'a NodeStatus>,
) -> Judgement {
    let (new, old) = (Side::of(new), Side::of(old));
    let verdict = |gate, why: String| Judgement { gate, why };
    let shares = [
        ("sends fail", (new.failed, new.sends), (old.failed, old.sends)),
        ("resumes are lost", (new.lost, new.resumes), (old.lost, old.resumes)),
    ];
    for (what, (bad, of), (old_bad, old_of)) in shares {
        if bad >= FAILURES_MIN && share(bad, of) > 2.0 * share(old_bad, old_of) + SHARE_MARGIN {
            let why = format!("{bad} of {of} {what} on new nodes, {old_bad} of {old_of} on old ones");
            return verdict(LiveGate::Failed, why);
        }
    }
    let medians = new.p50_ms.zip(old.p50_ms).map(|both| ("two", both));
    let p99s = new.p99_ms.zip(old.p99_ms).map(|both| ("a hundred", both));
    let Some((of, (new_ms, old_ms))) = p99s.or(medians) else {
        let why = format!(
            "{} sends on new nodes and {} on old ones in the latest minute are too few to compare",
            new.samples, old.samples
        );
        return verdict(LiveGate::Inconclusive, why);
    };
    if new_ms > 2.0 * old_ms + LATENCY_MARGIN_MS {
        let why = format!("one send in {of} takes {new_ms:.0} ms or longer on new nodes, {old_ms:.0} ms on old ones");
        return verdict(LiveGate::Failed, why);
    }
    verdict(LiveGate::Passed, format!("new nodes do no worse than old ones in {} sends", new.samples))
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

#[cfg(test)]
mod tests {
    use crds::node_status::{Recent, Resumes};

    use super::*;

    fn node(sends: u64, failed: u64, p99_ms: f64, reset: u64) -> NodeStatus {
        let ack_latency = Quantiles { samples: sends - failed, p50_ms: p99_ms / 10.0, p99_ms };
        let resumes = Resumes { replayed: 100, too_far: 0, reset };
        NodeStatus { recent: Recent { sends, sends_failed: failed, ack_latency, resumes }, ..NodeStatus::default() }
    }

    #[track_caller]
    fn check(new: NodeStatus, old: NodeStatus, expected: LiveGate) {
        let judgement = judge([new].iter(), [old].iter());
        assert_eq!(judgement.gate, expected, "{}", judgement.why);
    }

    #[test]
    fn new_nodes_may_be_no_worse_than_old_ones() {
        check(node(1000, 0, 20.0, 0), node(1000, 0, 20.0, 0), LiveGate::Passed);
        check(node(1000, 30, 20.0, 0), node(1000, 0, 20.0, 0), LiveGate::Failed);
        check(node(1000, 30, 20.0, 0), node(1000, 30, 20.0, 0), LiveGate::Passed);
        check(node(1000, 0, 95.0, 0), node(1000, 0, 20.0, 0), LiveGate::Failed);
        check(node(1000, 0, 85.0, 0), node(1000, 0, 20.0, 0), LiveGate::Passed);
        check(node(1000, 0, 20.0, 20), node(1000, 0, 20.0, 0), LiveGate::Failed);
    }

    #[test]
    fn a_slow_send_among_few_is_chance_and_a_slow_median_is_not() {
        check(node(499, 0, 500.0, 0), node(499, 0, 20.0, 0), LiveGate::Passed);
        check(node(499, 0, 600.0, 0), node(499, 0, 20.0, 0), LiveGate::Failed);
        check(node(1000, 0, 500.0, 0), node(499, 0, 20.0, 0), LiveGate::Passed);
        check(node(500, 0, 500.0, 0), node(500, 0, 20.0, 0), LiveGate::Failed);
        let few = [node(1000, 0, 20.0, 0), node(49, 0, 9000.0, 0)];
        assert_eq!(judge(few.iter(), [node(1000, 0, 20.0, 0)].iter()).gate, LiveGate::Passed);
    }

    #[test]
    fn too_few_samples_are_neither_good_nor_bad_but_failures_are_bad() {
        check(node(49, 0, 20.0, 0), node(1000, 0, 20.0, 0), LiveGate::Inconclusive);
        check(node(49, 0, 500.0, 0), node(1000, 0, 20.0, 0), LiveGate::Inconclusive);
        check(node(1000, 0, 20.0, 0), node(0, 0, 0.0, 0), LiveGate::Inconclusive);
        check(node(49, 4, 20.0, 0), node(1000, 0, 20.0, 0), LiveGate::Inconclusive);
        check(node(5, 5, 0.0, 0), node(1000, 0, 20.0, 0), LiveGate::Failed);
        assert_eq!(judge([].iter(), [].iter()).gate, LiveGate::Inconclusive);
    }
}

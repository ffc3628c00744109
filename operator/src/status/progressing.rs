//! `Progressing`: a change is on its way and comes forward.

use crds::chatcluster::RolloutPhase;

use super::{Inputs, Progress, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    let decision = match &inputs.progress {
        Progress::Invalid(_) => return Verdict::new(false, "Invalid", "the spec cannot be built: see Ready"),
        Progress::Unbound => {
            return Verdict::new(
                false,
                "NotBound",
                "nodes are made when the bindings and the signing key are complete",
            );
        }
        Progress::Paused => return Verdict::new(false, "Paused", "spec.paused is true: nothing is changed"),
        Progress::Rollout(decision, _) => decision,
    };
    if decision.deadline_exceeded {
        let message = format!("nothing came forward within the deadline: {}", decision.message);
        return Verdict::new(false, "ProgressDeadlineExceeded", message);
    }
    match decision.phase {
        RolloutPhase::Stable => Verdict::new(false, "Stable", "every node is of one revision"),
        phase => Verdict::new(true, phase.as_str(), decision.message.clone()),
    }
}

//! `Progressing`: a change is on its way and comes forward.

use crds::chatcluster::RolloutPhase;

use super::{DEADLINE_EXCEEDED, Inputs, Progress, Verdict};

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
        let message = format!("nothing came forward within the deadline: {}", decision.told.message);
        return Verdict::new(false, DEADLINE_EXCEEDED, message);
    }
    let told = &decision.told;
    match (told.phase, told.failure.is_empty()) {
        (RolloutPhase::Stable, true) => Verdict::new(false, "Stable", "every node is of one revision"),
        (RolloutPhase::Stable, false) => Verdict::new(false, "RolledBack", told.message.clone()),
        (RolloutPhase::Paused, true) => Verdict::new(false, "RolloutPaused", told.message.clone()),
        (RolloutPhase::Paused, false) => Verdict::new(false, "RolloutFailed", told.message.clone()),
        (phase, _) => Verdict::new(true, phase.as_str(), told.message.clone()),
    }
}

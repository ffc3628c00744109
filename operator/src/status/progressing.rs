//! `Progressing`: a change is on its way and comes forward.

use crds::chatcluster::RolloutPhase;

use super::{DEADLINE_EXCEEDED, Inputs, Progress, Verdict, WAITING_FOR_BINDINGS};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    let (decision, template) = match &inputs.progress {
        Progress::Invalid(_) => return Verdict::new(false, "Invalid", "the spec cannot be built: see Ready"),
        Progress::Unbound => {
            return Verdict::new(
                false,
                "NotBound",
                "nodes are made when the bindings and the signing key are complete",
            );
        }
        Progress::Paused => return Verdict::new(false, "Paused", "spec.paused is true: nothing is changed"),
        Progress::Rollout(decision, template) => (decision, template),
    };
    if decision.deadline_exceeded {
        let message = format!("nothing came forward within the deadline: {}", decision.told.message);
        return Verdict::new(false, DEADLINE_EXCEEDED, message);
    }
    let told = &decision.told;
    if told.phase == RolloutPhase::Stable && template.waits {
        // Whatever became of the spec of before: it is no more what is wanted.
        let missing: Vec<_> = inputs.bindings.missing().collect();
        let message = format!("the nodes stay as they are until the change can be had whole: {}", missing.join("; "));
        return Verdict::new(true, WAITING_FOR_BINDINGS, message);
    }
    match (told.phase, told.failure.is_empty()) {
        (RolloutPhase::Stable, true) => Verdict::new(false, "Stable", "every node is of one revision"),
        (RolloutPhase::Stable, false) => Verdict::new(false, "RolledBack", told.message.clone()),
        (RolloutPhase::Paused, true) => Verdict::new(false, "RolloutPaused", told.message.clone()),
        (RolloutPhase::Paused, false) => Verdict::new(false, "RolloutFailed", told.message.clone()),
        (phase, _) => Verdict::new(true, phase.as_str(), told.message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use crds::{ChatCluster, chatcluster::RolloutStatus};
    use serde_json::json;

    use super::*;
    use crate::{
        bindings::{Bindings, Read},
        rollout::{self, Decision},
        status::Template,
    };

    #[test]
    fn a_change_that_waits_is_no_rest_and_names_what_is_missing() {
        let spec = json!({"postgres": {"secret": {"name": "late"}}, "auth": {"tokenSecret": {"name": "typo"}}});
        let resource = ChatCluster::new("demo", serde_json::from_value(spec).unwrap());
        let bindings = Bindings::resolve(&resource, &Read::default());
        let told = |phase, waits, failure: &str| {
            let told = RolloutStatus { phase, failure: failure.into(), ..RolloutStatus::default() };
            let decision = Decision {
                window: told.window.unwrap_or_default(),
                template: rollout::Template::Desired,
                serving: None,
                tests: Vec::new(),
                lost: Vec::new(),
                deadline_exceeded: false,
                requeue: None,
                told,
            };
            let template = Template { shape: None, update: String::new(), waits };
            let verdict = verdict(&Inputs {
                resource: &resource,
                cluster: None,
                bindings: &bindings,
                progress: Progress::Rollout(&decision, &template),
                pods: &[],
                connections: None,
                synchronous: None,
                trouble: None,
            });
            (verdict.status, verdict.reason, verdict.message)
        };
        for failure in ["", "the one of before has failed"] {
            let (status, reason, message) = told(RolloutPhase::Stable, true, failure);
            assert_eq!((status, reason), ("True", "WaitingForBindings"));
            for missing in ["Secret \"late\" does not exist", "Secret \"typo\" does not exist"] {
                assert!(message.contains(missing), "{message:?} does not name {missing}");
            }
        }
        // A Secret that is lost while nothing is changed, and what is still under way of the change of before.
        assert_eq!(told(RolloutPhase::Stable, false, "").1, "Stable");
        assert_eq!(told(RolloutPhase::Judging, true, "").1, "Judging");
    }
}

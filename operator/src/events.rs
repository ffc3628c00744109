//! Events: each turn of the story told once, when it happens.
//!
//! [`between`] is pure; [`publish`] writes.

use crds::{
    ChatCluster, ChatClusterStatus,
    chatcluster::{ConditionType, RolloutPhase},
};
use kube::{
    Resource,
    runtime::events::{Event, EventType, Recorder},
};

use crate::{metrics, status};

/// Reason of a rollout whose new nodes are not good enough.
const ROLLOUT_FAILED: &str = "RolloutFailed";

/// Characters of a note: the API server refuses an Event with more (`pkg/apis/core/validation` of Kubernetes).
const NOTE_MAX: usize = 1_000;

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    warning: bool,
    reason: String,
    action: &'static str,
    note: String,
}

/// What happened between two statuses.
pub fn between(before: &ChatClusterStatus, after: &ChatClusterStatus) -> Vec<Told> {
    let mut told = Vec::new();
    for type_ in ConditionType::ALL {
        let find = |status: &ChatClusterStatus| {
            status.conditions.iter().find(|condition| condition.type_ == type_.as_str()).cloned()
        };
        let Some(now) = find(after) else { continue };
        let was = find(before);
        if was.as_ref().is_some_and(|was| (&was.status, &was.reason) == (&now.status, &now.reason)) {
            continue;
        }
        let warning = match type_ {
            ConditionType::PostgresBound | ConditionType::RabbitmqBound | ConditionType::RedisBound => {
                now.status == "False" && !status::is_by_choice(&now.reason)
            }
            ConditionType::AuthConfigured => now.status == "False" && now.reason != "SecretNotFound",
            ConditionType::Progressing => {
                [status::DEADLINE_EXCEEDED, status::DELETION_HELD_UP].contains(&now.reason.as_str())
            }
            ConditionType::Ready => ["Invalid", status::NODES_IN_TROUBLE].contains(&now.reason.as_str()),
            ConditionType::DurabilityReduced => false,
        };
        if warning {
            told.push(Told { warning, reason: now.reason, action: type_.as_str(), note: now.message });
        } else if type_ == ConditionType::Ready && now.status == "True" {
            let note = format!("{} nodes are ready", after.ready_replicas);
            told.push(Told { warning, reason: "Ready".into(), action: type_.as_str(), note });
        } else if now.reason == status::WAITING_FOR_BINDINGS {
            told.push(Told { warning, reason: now.reason, action: type_.as_str(), note: now.message });
        }
    }
    let failure = |status: &ChatClusterStatus| {
        status.rollout.as_ref().map(|rollout| rollout.failure.clone()).filter(|failure| !failure.is_empty())
    };
    if let Some(note) = failure(after).filter(|failed| failure(before).as_ref() != Some(failed)) {
        told.push(Told { warning: true, reason: ROLLOUT_FAILED.into(), action: "Rollout", note });
    }
    let phase = |status: &ChatClusterStatus| status.rollout.as_ref().map(|rollout| rollout.phase);
    if let (Some(was), Some(rollout)) = (phase(before), &after.rollout)
        && was != rollout.phase
    {
        let (reason, note) = match rollout.phase {
            RolloutPhase::Stable if !rollout.failure.is_empty() => ("RolledBack", rollout.message.clone()),
            RolloutPhase::Stable => ("RolloutCompleted", format!("every node is of revision {}", rollout.revision)),
            phase => (phase.as_str(), rollout.message.clone()),
        };
        told.push(Told { warning: false, reason: reason.into(), action: "Rollout", note });
    }
    told
}

/// Publishes what happened. An event that cannot be written is no reason to stop.
pub async fn publish(recorder: &Recorder, cluster: &ChatCluster, told: Vec<Told>) {
    for Told { warning, reason, action, note } in told {
        match reason.as_str() {
            status::DEADLINE_EXCEEDED => metrics::rollout_has_got_stuck(),
            ROLLOUT_FAILED => metrics::rollout_has_failed(),
            _ => {}
        }
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason,
            note: Some(note.chars().take(NOTE_MAX).collect()).filter(|note: &String| !note.is_empty()),
            action: action.into(),
            secondary: None,
        };
        metrics::write("events", "create");
        if let Err(error) = recorder.publish(&event, &cluster.object_ref(&())).await {
            tracing::warn!(%error, "an event could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::chatcluster::RolloutStatus;
    use serde_json::json;

    use super::*;

    fn at(phase: RolloutPhase) -> ChatClusterStatus {
        ChatClusterStatus {
            rollout: Some(RolloutStatus { phase, ..RolloutStatus::default() }),
            ..ChatClusterStatus::default()
        }
    }

    #[test]
    fn a_step_is_told_once() {
        let reasons = |before, after| -> Vec<String> {
            between(&at(before), &at(after)).into_iter().map(|told| told.reason).collect()
        };
        assert_eq!(reasons(RolloutPhase::Stable, RolloutPhase::Surging), ["Surging"]);
        assert_eq!(reasons(RolloutPhase::Surging, RolloutPhase::Surging), [""; 0]);
        assert_eq!(reasons(RolloutPhase::Sliding, RolloutPhase::Stable), ["RolloutCompleted"]);
    }

    #[test]
    fn a_failure_is_a_warning_and_the_way_back_has_an_end() {
        let failed = |phase| {
            let mut status = at(phase);
            status.rollout.as_mut().unwrap().failure = "it is slow".into();
            status
        };
        let told = between(&at(RolloutPhase::Judging), &failed(RolloutPhase::Paused));
        assert_eq!(
            (told[0].warning, told[0].reason.as_str(), told[0].note.as_str()),
            (true, "RolloutFailed", "it is slow")
        );
        let told = between(&failed(RolloutPhase::Returning), &failed(RolloutPhase::Stable));
        assert_eq!(told.iter().map(|told| told.reason.as_str()).collect::<Vec<_>>(), ["RolledBack"]);
    }

    #[test]
    fn what_nodes_cannot_use_is_a_warning_and_too_few_nodes_alone_are_none() {
        let ready = |reason: &str| {
            let condition = json!({"type": "Ready", "status": "False", "reason": reason, "message": "0 of 1 nodes are ready",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            ChatClusterStatus { conditions: vec![serde_json::from_value(condition).unwrap()], ..Default::default() }
        };
        let starting = ready("NodesNotReady");
        assert_eq!(between(&ChatClusterStatus::default(), &starting), []);
        let in_trouble = ready(status::NODES_IN_TROUBLE);
        let told = between(&starting, &in_trouble);
        assert_eq!((told.len(), told[0].warning, told[0].reason.as_str()), (1, true, "NodesInTrouble"));
        assert_eq!(between(&in_trouble, &in_trouble), []);
    }
}

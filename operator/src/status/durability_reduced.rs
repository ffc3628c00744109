//! `DurabilityReduced`: an acknowledged message could be lost with a machine or a pod.

use crds::chatcluster::ConditionType;

use super::{Inputs, Verdict};
use crate::{bindings::Durability, validate::Backing};

const NOT_EXAMINED: &str = "NotExamined";

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    let Some(cluster) = inputs.cluster else {
        return Verdict::unknown("Invalid", "the spec cannot be built: see Ready");
    };
    match (&cluster.backing, &cluster.spec.storage) {
        (Backing::Embedded, None) => {
            Verdict::new(true, "EmptyDir", "history is lost with its pod: set storage, or postgres and rabbitmq")
        }
        (Backing::Embedded, Some(_)) => Verdict::new(
            true,
            "SingleVolume",
            "history is as safe as its one volume: set postgres and rabbitmq for more",
        ),
        (Backing::Bound, _) => {
            let told = inputs.bindings.postgres.as_ref().map_or(Durability::Unknown, |postgres| postgres.durability);
            bound(inputs.synchronous, told).or_else(|| before(inputs)).unwrap_or_else(|| {
                Verdict::unknown(NOT_EXAMINED, "no node has told yet whether Postgres replicates synchronously")
            })
        }
    }
}

/// What the nodes found counts more than what the spec of a Postgres cluster promises, which says more of what to change.
fn bound(found: Option<bool>, told: Durability) -> Option<Verdict> {
    let asynchronous = |what: &str| {
        let message = format!("Postgres acknowledges before a second instance has a message: {what}");
        Some(Verdict::new(true, "Asynchronous", message))
    };
    match (found, told) {
        (Some(true), _) | (None, Durability::Synchronous) => Some(Verdict::new(
            false,
            "Synchronous",
            "a message is acknowledged when a second instance of Postgres has it",
        )),
        (_, Durability::Single) => Some(Verdict::new(
            true,
            "SingleInstance",
            "Postgres has one instance: give it more, and synchronous replication",
        )),
        (_, Durability::Asynchronous) => asynchronous("set spec.postgresql.synchronous of its Cluster"),
        (Some(false), _) => asynchronous(
            "give it a standby, name it in synchronous_standby_names, and let synchronous_commit be on, remote_write or remote_apply",
        ),
        (None, Durability::Unknown) => None,
    }
}

/// What nodes found that do not answer for the moment.
fn before(inputs: &Inputs<'_>) -> Option<Verdict> {
    let conditions = &inputs.resource.status.as_ref()?.conditions;
    let name = ConditionType::DurabilityReduced.as_str();
    let told = conditions.iter().find(|condition| condition.type_ == name)?;
    let verdict = |status, reason| Some(Verdict::new(status, reason, told.message.clone()));
    match told.reason.as_str() {
        "Synchronous" => verdict(false, "Synchronous"),
        "Asynchronous" => verdict(true, "Asynchronous"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_believed_and_a_spec_says_what_to_change() {
        use Durability::{Asynchronous, Single, Synchronous, Unknown};
        for (found, told, expected) in [
            (None, Unknown, None),
            (None, Synchronous, Some(("False", "Synchronous"))),
            (None, Asynchronous, Some(("True", "Asynchronous"))),
            (Some(true), Unknown, Some(("False", "Synchronous"))),
            (Some(true), Asynchronous, Some(("False", "Synchronous"))),
            (Some(false), Unknown, Some(("True", "Asynchronous"))),
            (Some(false), Synchronous, Some(("True", "Asynchronous"))),
            (Some(false), Single, Some(("True", "SingleInstance"))),
        ] {
            let verdict = bound(found, told);
            let is = verdict.as_ref().map(|verdict| (verdict.status, verdict.reason));
            assert_eq!(is, expected, "{found:?} {told:?}");
        }
        let words = |found, told| bound(found, told).unwrap().message;
        assert!(words(Some(false), Asynchronous).contains("spec.postgresql.synchronous"));
        assert!(words(Some(false), Synchronous).contains("synchronous_standby_names"));
    }
}

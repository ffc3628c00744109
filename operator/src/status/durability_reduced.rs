//! `DurabilityReduced`: an acknowledged message could be lost with a machine or a pod.

use super::{Inputs, Verdict};
use crate::{bindings::Durability, validate::Backing};

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
        (Backing::Bound, _) => bound(inputs.bindings.postgres.as_ref().map(|postgres| postgres.durability)),
    }
}

fn bound(durability: Option<Durability>) -> Verdict {
    match durability {
        Some(Durability::Synchronous) => {
            Verdict::new(false, "Synchronous", "a message is acknowledged when a second instance of Postgres has it")
        }
        Some(Durability::Asynchronous) => Verdict::new(
            true,
            "Asynchronous",
            "Postgres acknowledges before a second instance has a message: set spec.postgresql.synchronous of its Cluster",
        ),
        Some(Durability::Single) => {
            Verdict::new(true, "SingleInstance", "Postgres has one instance: give it more, and synchronous replication")
        }
        Some(Durability::Unknown) | None => {
            Verdict::unknown("NotExamined", "a Secret does not tell whether Postgres replicates synchronously")
        }
    }
}

//! `DurabilityReduced`: an acknowledged message could be lost with a machine or a pod.

use super::{Inputs, Verdict};
use crate::validate::Backing;

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
        (Backing::Bound { .. }, _) => {
            Verdict::unknown("NotExamined", "whether Postgres replicates synchronously is not examined")
        }
    }
}

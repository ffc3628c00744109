//! `Ready`: clients can connect to as many nodes as were asked for.

use super::{Inputs, NODES_IN_TROUBLE, Progress, Verdict};

pub(super) fn verdict(inputs: &Inputs<'_>) -> Verdict {
    let wanted = match (&inputs.progress, inputs.cluster) {
        (Progress::Invalid(invalid), _) => return Verdict::new(false, "Invalid", invalid.to_string()),
        (Progress::Unbound, _) | (_, None) => {
            return Verdict::new(
                false,
                "NotBound",
                "a binding is not complete: see PostgresBound, RabbitmqBound, RedisBound and AuthConfigured",
            );
        }
        (Progress::Rollout(..) | Progress::Paused, Some(cluster)) => cluster.policy.replicas,
    };
    let ready = inputs.pods.iter().filter(|pod| pod.ready && !pod.terminating).count();
    if wanted == 0 {
        return Verdict::new(false, "NoNodesWanted", "replicas is 0");
    }
    match usize::try_from(wanted).is_ok_and(|wanted| ready >= wanted) {
        true => Verdict::new(true, "NodesReady", inputs.trouble.unwrap_or_default()),
        false => {
            let told = format!("{ready} of {wanted} nodes are ready");
            match inputs.trouble {
                Some(trouble) => Verdict::new(false, NODES_IN_TROUBLE, format!("{told}: {trouble}")),
                None => Verdict::new(false, "NodesNotReady", told),
            }
        }
    }
}

//! When a status is written: what somebody waits for at once, what merely counts up together with what follows.
//!
//! Owns the pace alone. While a cluster comes up its pods appear, get a revision and become ready one by one; each by itself would be a
//! write. It must never hold back what the next decision depends on.

use std::{collections::HashMap, time::Duration};

use crds::{
    ChatCluster, ChatClusterStatus,
    chatcluster::{RolloutPhase, RolloutStatus},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long what can wait waits at most. A person who watches sees a number that is no older.
const PAUSE: Duration = Duration::from_secs(2);

/// When a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is as it was.
    Never,
    /// After so long.
    Later(Duration),
    /// At once.
    Now,
}

/// Since when something waits to be told, by cluster.
#[derive(Default)]
pub struct Pace(Mutex<HashMap<ObjectRef<ChatCluster>, Instant>>);

impl Pace {
    /// The turn of what is to be told after `before`.
    pub fn turn(
        &self,
        cluster: &ObjectRef<ChatCluster>,
        before: Option<&ChatClusterStatus>,
        after: &ChatClusterStatus,
    ) -> Turn {
        let mut waiting = self.0.lock();
        let turn = match before {
            Some(before) if before == after => Turn::Never,
            Some(before) if !is_urgent(before, after) => {
                let waited = waiting.entry(cluster.clone()).or_insert_with(Instant::now).elapsed();
                if waited < PAUSE { Turn::Later(PAUSE - waited) } else { Turn::Now }
            }
            _ => Turn::Now,
        };
        if !matches!(turn, Turn::Later(_)) {
            waiting.remove(cluster);
        }
        turn
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, cluster: &ObjectRef<ChatCluster>) {
        self.0.lock().remove(cluster);
    }
}

/// Whether a status has to be written at once.
fn is_urgent(before: &ChatClusterStatus, after: &ChatClusterStatus) -> bool {
    let said = |status: &ChatClusterStatus| -> Vec<(String, String, String)> {
        let said = |told: &Condition| (told.type_.clone(), told.status.clone(), told.reason.clone());
        status.conditions.iter().map(said).collect()
    };
    before.observed_generation != after.observed_generation
        || said(before) != said(after)
        || before.pod_template_version != after.pod_template_version
        || decides(before.rollout.as_ref()) != decides(after.rollout.as_ref())
}

/// What of a rollout the next decision depends on. At rest that is what a person has said, and how the spec stands: everything else is
/// seen from the StatefulSet and its pods.
fn decides(rollout: Option<&RolloutStatus>) -> Option<RolloutStatus> {
    let mut rollout = rollout?.clone();
    if rollout.phase == RolloutPhase::Stable {
        rollout = RolloutStatus {
            phase: rollout.phase,
            spec_hash: rollout.spec_hash,
            failed_spec_hash: rollout.failed_spec_hash,
            forgiven_self_tests: rollout.forgiven_self_tests,
            resume_time: rollout.resume_time,
            order: rollout.order,
            command: rollout.command,
            failure: rollout.failure,
            ..RolloutStatus::default()
        };
    }
    Some(rollout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: RolloutPhase) -> ChatClusterStatus {
        let rollout = Some(RolloutStatus { phase, ..RolloutStatus::default() });
        ChatClusterStatus { rollout, ..ChatClusterStatus::default() }
    }

    #[test]
    fn counts_can_wait_and_what_is_decided_by_cannot() {
        let check = |phase, change: fn(&mut ChatClusterStatus), expected| {
            let (before, mut after) = (status(phase), status(phase));
            change(&mut after);
            assert_eq!(is_urgent(&before, &after), expected, "{after:?}");
        };
        check(RolloutPhase::Stable, |_| {}, false);
        check(RolloutPhase::Stable, |after| after.replicas = 1, false);
        check(RolloutPhase::Stable, |after| after.connections = 7, false);
        check(RolloutPhase::Stable, |after| after.rollout.as_mut().unwrap().revision = "demo-1".into(), false);
        check(RolloutPhase::Surging, |after| after.rollout.as_mut().unwrap().revision = "demo-1".into(), true);
        check(RolloutPhase::Stable, |after| after.rollout.as_mut().unwrap().failure = "it is slow".into(), true);
        check(RolloutPhase::Stable, |after| after.rollout.as_mut().unwrap().command = "abort".into(), true);
        check(RolloutPhase::Stable, |after| after.observed_generation = Some(2), true);
        check(RolloutPhase::Stable, |after| after.rollout = status(RolloutPhase::Surging).rollout, true);
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_is_told_in_time() {
        let (pace, cluster) = (Pace::default(), ObjectRef::new("demo").within("chat"));
        let (before, mut after) = (status(RolloutPhase::Stable), status(RolloutPhase::Stable));
        assert_eq!(pace.turn(&cluster, None, &after), Turn::Now, "nothing was told yet");
        assert_eq!(pace.turn(&cluster, Some(&before), &after), Turn::Never);
        after.replicas = 1;
        assert_eq!(pace.turn(&cluster, Some(&before), &after), Turn::Later(PAUSE));
        tokio::time::advance(PAUSE / 2).await;
        after.replicas = 2;
        assert_eq!(pace.turn(&cluster, Some(&before), &after), Turn::Later(PAUSE / 2), "more does not wait longer");
        tokio::time::advance(PAUSE / 2).await;
        assert_eq!(pace.turn(&cluster, Some(&before), &after), Turn::Now);
        after.replicas = 3;
        assert_eq!(pace.turn(&cluster, Some(&before), &after), Turn::Later(PAUSE), "told once, it begins anew");
    }
}

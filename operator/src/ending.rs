//! A cluster that is deleted and still there: because Kubernetes waits for what it owns (foreground deletion), or for somebody's finalizer.
//!
//! Pure. Owns how long that may take, what is let go of then, and how it is told. Nothing is deleted here that Kubernetes does not delete
//! anyway: what is let go of goes on ending by itself, and nobody waits for it any more.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use crds::ChatCluster;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{Resource, ResourceExt, api::DynamicObject};

use crate::bindings::Foreign;

/// How long a deletion waits for what is owned, beyond the grace of the pods. A machine is known to be dead after some 50 seconds.
const WAIT: Duration = Duration::from_secs(60);

/// Time between looks while something is waited for: that a pod is overdue is told by nobody.
const LOOK: Duration = Duration::from_secs(5);

/// Things that are named in a message; the others are counted.
const NAMED_MAX: usize = 5;

/// The finalizers by which Kubernetes itself waits for what an object owns
/// (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion>).
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What is left of a cluster that is deleted.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Its StatefulSet.
    pub stateful_set: Option<StatefulSet>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Clusters of other operators that it owns.
    pub managed: Vec<(Foreign, Arc<DynamicObject>)>,
    /// Pods whose machine is dead.
    pub lost: BTreeSet<String>,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What is waited for, in words.
    pub waits_for: String,
    /// Whether it has taken longer than it may.
    pub overdue: bool,
    /// Pods that are deleted by force.
    pub lost: Vec<String>,
    /// Whether what is owned is waited for no longer.
    pub lets_go: bool,
    /// When to look again.
    pub again: Duration,
}

/// Whether what a cluster owns stays behind when it goes: then nothing is waited for but Kubernetes.
pub fn leaves_all_behind(cluster: &ChatCluster) -> bool {
    finalizers(cluster).any(|finalizer| finalizer == ORPHAN)
}

/// Decides.
pub fn decide(cluster: &ChatCluster, left: &Left, now: Timestamp) -> Ending {
    let overdue = due(cluster, left).is_some_and(|due| now >= due);
    let is_bound = cluster.spec.postgres.is_some();
    Ending {
        waits_for: waits_for(cluster, left, now),
        overdue,
        // A volume is let go of by its machine alone: two nodes must never write to it.
        lost: left.lost.iter().filter(|_| is_bound).cloned().collect(),
        lets_go: overdue && finalizers(cluster).any(|finalizer| finalizer == FOREGROUND),
        again: LOOK,
    }
}

/// Whether an object still holds its owner up.
pub fn holds<K: Resource>(object: &K, owner: &ChatCluster) -> bool {
    let of_owner = |reference: &&_| is_to(owner, reference);
    object.owner_references().iter().filter(of_owner).any(|reference| reference.block_owner_deletion == Some(true))
}

/// Whether a reference leads to this cluster, and not to an older one of its name.
pub fn is_to(owner: &ChatCluster, reference: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference) -> bool {
    Some(&reference.uid) == owner.metadata.uid.as_ref()
}

/// When it has taken too long.
fn due(cluster: &ChatCluster, left: &Left) -> Option<Timestamp> {
    let template = left.stateful_set.as_ref().and_then(|set| set.spec.as_ref()?.template.spec.as_ref());
    let grace = template.and_then(|pods| pods.termination_grace_period_seconds).unwrap_or(0);
    let began = cluster.metadata.deletion_timestamp.as_ref()?.0;
    let wait = SignedDuration::try_from(WAIT).ok()?.checked_add(SignedDuration::from_secs(grace))?;
    began.checked_add(wait).ok()
}

fn finalizers<K: Resource>(object: &K) -> impl Iterator<Item = &str> {
    object.meta().finalizers.iter().flatten().map(String::as_str)
}

/// In words: what it is, and why it does not go, as far as that can be seen.
fn waits_for(cluster: &ChatCluster, left: &Left, now: Timestamp) -> String {
    let pods = left.pods.iter().map(|pod| {
        let name = pod.name_any();
        let is_overdue = pod.metadata.deletion_timestamp.as_ref().is_some_and(|end| end.0 < now);
        let why = match (strange(pod), left.lost.contains(&name), is_overdue) {
            (Some(why), ..) => why,
            (None, true, _) => " (its machine is dead)".into(),
            (None, false, true) => " (its grace is over)".into(),
            (None, false, false) => String::new(),
        };
        format!("Pod {name:?}{why}")
    });
    let set =
        left.stateful_set.iter().filter_map(|set| Some(format!("StatefulSet {:?}{}", set.name_any(), strange(set)?)));
    let managed = left.managed.iter().map(|(reference, object)| {
        format!("{} {:?}{}", reference.kind, reference.name, strange(&**object).unwrap_or_default())
    });
    let own = strange(cluster).map(|why| format!("the ChatCluster itself{why}"));
    let all: Vec<String> = pods.chain(set).chain(managed).chain(own).collect();
    match all.len() {
        0 => "Kubernetes to take away what it owned".into(),
        count if count > NAMED_MAX => format!("{} and {} more", all[..NAMED_MAX].join(", "), count - NAMED_MAX),
        _ => all.join(", "),
    }
}

/// The finalizers of somebody, which nobody but they can take away.
fn strange<K: Resource>(object: &K) -> Option<String> {
    let strange: Vec<&str> = finalizers(object).filter(|finalizer| ![FOREGROUND, ORPHAN].contains(finalizer)).collect();
    (!strange.is_empty()).then(|| format!(" (finalizer {})", strange.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BEGAN: i64 = 1_000;
    const GRACE: i64 = 45;

    fn cluster(finalizers: &[&str], bound: bool) -> ChatCluster {
        let binding = |name: &str| if bound { json!({"secret": {"name": name}}) } else { Value::Null };
        serde_json::from_value(json!({
            "apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster",
            "metadata": {"name": "demo", "uid": "1", "finalizers": finalizers, "deletionTimestamp": at(BEGAN).to_string()},
            "spec": {"postgres": binding("pg"), "rabbitmq": binding("mq")},
        }))
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn owned(finalizers: &[&str]) -> Value {
        json!({"name": "demo", "finalizers": finalizers, "ownerReferences": [
            {"apiVersion": "v1", "kind": "ChatCluster", "name": "demo", "uid": "1", "blockOwnerDeletion": true}]})
    }

    fn left(pods: &[&str], finalizers: &[&str]) -> Left {
        let template = json!({"spec": {"terminationGracePeriodSeconds": GRACE, "containers": []}});
        let set = json!({"metadata": owned(finalizers), "spec": {"selector": {}, "template": template}});
        let pod = |name: &&str| {
            let end = at(BEGAN + GRACE).to_string();
            serde_json::from_value(json!({"metadata": {"name": name, "deletionTimestamp": end}})).unwrap()
        };
        Left {
            stateful_set: Some(serde_json::from_value(set).unwrap()),
            pods: pods.iter().map(pod).collect(),
            ..Left::default()
        }
    }

    #[test]
    fn what_does_not_go_is_let_go_of_after_the_grace_and_a_minute() {
        let (cluster, left) = (cluster(&[FOREGROUND], true), left(&["demo-0"], &[FOREGROUND]));
        for (seconds, overdue) in [(0, false), (GRACE + 59, false), (GRACE + 60, true), (100_000, true)] {
            let ending = decide(&cluster, &left, at(BEGAN + seconds));
            assert_eq!((ending.overdue, ending.lets_go), (overdue, overdue), "after {seconds} s");
        }
        assert!(holds(left.stateful_set.as_ref().unwrap(), &cluster));
    }

    #[test]
    fn a_finalizer_of_somebody_is_told_and_not_touched() {
        let ending = decide(&cluster(&["a.example/keep"], true), &Left::default(), at(BEGAN + 100_000));
        assert!(ending.overdue && !ending.lets_go);
        assert_eq!(ending.waits_for, "the ChatCluster itself (finalizer a.example/keep)");
    }

    #[test]
    fn whoever_does_not_go_is_named_with_a_reason() {
        let cluster = cluster(&[FOREGROUND], true);
        let mut left = left(&["demo-0", "demo-1"], &[FOREGROUND, "a.example/keep"]);
        left.lost.insert("demo-1".into());
        let managed =
            serde_json::from_value(json!({"metadata": {"name": "demo-rabbitmq", "finalizers": ["b.example/x"]}}));
        left.managed.push((Foreign::rabbitmq("demo-rabbitmq"), Arc::new(managed.unwrap())));
        let words = |seconds| decide(&cluster, &left, at(BEGAN + seconds)).waits_for;
        let rest =
            r#"StatefulSet "demo" (finalizer a.example/keep), RabbitmqCluster "demo-rabbitmq" (finalizer b.example/x)"#;
        assert_eq!(words(1), format!(r#"Pod "demo-0", Pod "demo-1" (its machine is dead), {rest}"#));
        assert_eq!(
            words(GRACE + 1),
            format!(r#"Pod "demo-0" (its grace is over), Pod "demo-1" (its machine is dead), {rest}"#)
        );
        let many: Vec<String> = (0..9).map(|number| format!("demo-{number}")).collect();
        let left = super::tests::left(&many.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        assert!(decide(&cluster, &left, at(BEGAN)).waits_for.ends_with(r#"Pod "demo-4" and 4 more"#));
    }

    #[test]
    fn only_a_pod_without_a_volume_is_deleted_by_force() {
        let mut left = left(&["demo-0"], &[]);
        left.lost.insert("demo-0".into());
        for (bound, lost) in [(true, vec!["demo-0".to_owned()]), (false, vec![])] {
            assert_eq!(decide(&cluster(&[FOREGROUND], bound), &left, at(BEGAN)).lost, lost);
        }
    }
}

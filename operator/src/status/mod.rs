//! What is reported: a pure fold of what was observed and decided.
//!
//! One file per condition. All conditions are always there; one's time changes only when its status does.

mod auth_configured;
mod durability_reduced;
mod postgres_bound;
mod progressing;
mod rabbitmq_bound;
mod ready;
mod redis_bound;

use crds::{ChatCluster, ChatClusterStatus, chatcluster::ConditionType};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use crate::{
    bindings::{BindingState, Bindings, Resolved},
    ending::Ending,
    names,
    rollout::{Decision, PodView},
    validate::{Cluster, Invalid},
};

/// Reasons of a binding that nobody asks for: there is one node, or the database serves as well.
const SELF_CONTAINED: &str = "SelfContained";
const NOT_CONFIGURED: &str = "NotConfigured";

/// Reason of a deletion that takes longer than it may.
pub(crate) const DELETION_HELD_UP: &str = "DeletionHeldUp";

/// Reason of too few nodes where one has said what it cannot use: it does not come by itself.
pub(crate) const NODES_IN_TROUBLE: &str = "NodesInTrouble";

/// Reason of a change that needs what cannot be had yet.
pub(crate) const WAITING_FOR_BINDINGS: &str = "WaitingForBindings";

/// Reason of a rollout that does not come forward.
pub(crate) const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// Whether a status tells of a rollout that is past its deadline.
pub(crate) fn is_stuck(status: &ChatClusterStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|told| told.type_ == ConditionType::Progressing.as_str() && told.reason == DEADLINE_EXCEEDED)
}

/// Whether a status tells that the spec stands as failed.
pub(crate) fn has_failed(status: &ChatClusterStatus) -> bool {
    status.rollout.as_ref().is_some_and(|rollout| !rollout.failure.is_empty())
}

/// Whether a binding is absent by choice, which is no trouble.
pub(crate) fn is_by_choice(reason: &str) -> bool {
    [SELF_CONTAINED, NOT_CONFIGURED].contains(&reason)
}

/// How far the cluster is.
pub enum Progress<'a> {
    /// The spec cannot be built.
    Invalid(&'a Invalid),
    /// A binding is not complete, and there is no StatefulSet yet.
    Unbound,
    /// The user wants everything to stay as it is.
    Paused,
    /// The rollout is here.
    Rollout(&'a Decision, &'a Template),
}

/// The pod template that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its shape; `None` when it is that of before.
    pub shape: Option<i32>,
    /// What a newer one would change.
    pub update: String,
    /// It is that of before: what the user has changed cannot be had yet.
    pub waits: bool,
}

/// What the status is made of.
pub struct Inputs<'a> {
    /// The resource, with its last status.
    pub resource: &'a ChatCluster,
    /// The checked resource; absent when it is invalid.
    pub cluster: Option<&'a Cluster>,
    /// What it is bound to.
    pub bindings: &'a Bindings,
    /// How far it is.
    pub progress: Progress<'a>,
    /// The pods.
    pub pods: &'a [PodView],
    /// Connections of all nodes; absent when no node told.
    pub connections: Option<i64>,
    /// Whether the database has a commit on a second machine before it is acknowledged, as the nodes find; absent when none told.
    pub synchronous: Option<bool>,
    /// What the first node that cannot use something says of it.
    pub trouble: Option<&'a str>,
}

/// A condition before its time is known.
struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn new(status: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Verdict { status: if status { "True" } else { "False" }, reason, message: message.into() }
    }

    /// What a binding is like, or why there is none.
    fn of_binding(resolved: Option<&Resolved>, unasked: &'static str, why: &str) -> Self {
        resolved.map_or_else(|| Verdict::new(false, unasked, why), |resolved| Verdict::of(&resolved.state))
    }

    fn of(state: &BindingState) -> Self {
        Verdict::new(state.bound, state.reason, state.message.clone())
    }

    fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Verdict { status: "Unknown", reason, message: message.into() }
    }
}

/// Folds the status.
pub fn fold(inputs: &Inputs<'_>, now: Timestamp) -> ChatClusterStatus {
    let previous = inputs.resource.status.clone().unwrap_or_default();
    let wanted = inputs.cluster.map_or(0, |cluster| cluster.policy.replicas);
    let there = inputs.pods.iter().filter(|pod| !pod.terminating);
    let ready = there.clone().filter(|pod| pod.ready);
    let rollout = match &inputs.progress {
        Progress::Rollout(decision, _) => Some(decision.told.clone()),
        Progress::Invalid(_) | Progress::Unbound | Progress::Paused => previous.rollout.clone(),
    };
    let (pod_template_version, update_available) = match &inputs.progress {
        Progress::Rollout(_, template) => (template.shape.or(previous.pod_template_version), template.update.clone()),
        _ => (previous.pod_template_version, previous.update_available.clone()),
    };
    let version = match (&inputs.progress, inputs.cluster) {
        // What is wanted is not what runs.
        (Progress::Paused, _) | (_, None) => previous.version.clone(),
        (_, Some(cluster)) => tag(&cluster.image).to_owned(),
    };
    let newest = rollout.as_ref().map(|rollout| rollout.revision.clone()).unwrap_or_default();
    ChatClusterStatus {
        observed_generation: inputs.resource.metadata.generation,
        conditions: conditions(inputs, &previous, now),
        // Nodes that a rollout adds for a while are not told, or an autoscaler would be misled.
        replicas: count(there.clone()).min(wanted),
        ready_replicas: count(ready).min(wanted),
        updated_replicas: count(there.filter(|pod| pod.revision == newest)).min(wanted),
        selector: names::selector_string(&inputs.resource.name_any()),
        connections: settled(previous.connections, inputs.connections),
        version,
        pod_template_version,
        update_available,
        rollout,
    }
}

/// The status of a cluster that is deleted and still there: what was told stays, but for what the end changes.
pub fn of_end(resource: &ChatCluster, ending: &Ending, pods: &[PodView], now: Timestamp) -> ChatClusterStatus {
    let mut status = resource.status.clone().unwrap_or_default();
    let there = pods.iter().filter(|pod| !pod.terminating);
    let wanted = resource.spec.replicas;
    status.observed_generation = resource.metadata.generation;
    status.replicas = count(there.clone()).min(wanted);
    status.ready_replicas = count(there.filter(|pod| pod.ready)).min(wanted);
    let message = format!("it is being deleted, and waits for {}", ending.waits_for);
    let mut verdicts = vec![(
        ConditionType::Progressing,
        match ending.overdue {
            false => Verdict::new(true, "Deleting", message.clone()),
            true => Verdict::new(false, DELETION_HELD_UP, message.clone()),
        },
    )];
    // Until somebody's finalizer is gone, the nodes serve as ever.
    if status.ready_replicas < wanted {
        verdicts.push((ConditionType::Ready, Verdict::new(false, "Deleting", message)));
    }
    for (type_, verdict) in verdicts {
        let told = condition(resource, type_, verdict, &status.conditions, now);
        match status.conditions.iter_mut().find(|condition| condition.type_ == told.type_) {
            Some(condition) => *condition = told,
            None => status.conditions.push(told),
        }
    }
    status
}

fn conditions(inputs: &Inputs<'_>, previous: &ChatClusterStatus, now: Timestamp) -> Vec<Condition> {
    let of = |type_| match type_ {
        ConditionType::Ready => ready::verdict(inputs),
        ConditionType::Progressing => progressing::verdict(inputs),
        ConditionType::PostgresBound => postgres_bound::verdict(inputs),
        ConditionType::RabbitmqBound => rabbitmq_bound::verdict(inputs),
        ConditionType::RedisBound => redis_bound::verdict(inputs),
        ConditionType::AuthConfigured => auth_configured::verdict(inputs),
        ConditionType::DurabilityReduced => durability_reduced::verdict(inputs),
    };
    ConditionType::ALL.map(|type_| condition(inputs.resource, type_, of(type_), &previous.conditions, now)).into()
}

/// A verdict with its time, which is that of the last change of its status.
fn condition(
    resource: &ChatCluster,
    type_: ConditionType,
    verdict: Verdict,
    previous: &[Condition],
    now: Timestamp,
) -> Condition {
    let Verdict { status, reason, message } = verdict;
    let before = previous.iter().find(|condition| condition.type_ == type_.as_str());
    let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Condition {
        type_: type_.as_str().into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: resource.metadata.generation,
        last_transition_time: since.unwrap_or(Time(whole_seconds(now))),
    }
}

/// The API server keeps whole seconds; more would differ from what is read back.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The number of connections moves all the time; a new one is told when it differs by 5%.
fn settled(told: i64, counted: Option<i64>) -> i64 {
    match counted {
        Some(counted) if (counted - told).abs() * 20 > told => counted,
        _ => told,
    }
}

/// The tag of an image, or its digest.
fn tag(image: &str) -> &str {
    if let Some((_, digest)) = image.split_once('@') {
        return digest;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').map_or("latest", |(_, tag)| tag)
}

fn count<'a>(pods: impl Iterator<Item = &'a PodView>) -> i32 {
    i32::try_from(pods.count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_told_again_when_they_moved_by_five_percent() {
        for (told, counted, expected) in
            [(100, Some(104), 100), (100, Some(106), 106), (0, Some(1), 1), (7, None, 7), (3, Some(0), 0)]
        {
            assert_eq!(settled(told, counted), expected);
        }
    }

    #[test]
    fn the_version_is_the_tag() {
        for (image, version) in [
            ("chat-node:0.1.0", "0.1.0"),
            ("registry:5000/chat/node", "latest"),
            ("registry:5000/chat/node:2", "2"),
            ("chat-node@sha256:ab", "sha256:ab"),
        ] {
            assert_eq!(tag(image), version);
        }
    }

    #[test]
    fn an_unchanged_condition_keeps_its_time() {
        let mut resource = ChatCluster::new("demo", crds::ChatClusterSpec::default());
        let invalid = Invalid { field: "spec.replicas", reason: "no".into() };
        let fold_at = |resource: &ChatCluster, second| {
            let inputs = Inputs {
                resource,
                cluster: None,
                bindings: &Bindings::resolve(resource, &crate::bindings::Read::default()),
                progress: Progress::Invalid(&invalid),
                pods: &[],
                connections: None,
                synchronous: None,
                trouble: None,
            };
            fold(&inputs, Timestamp::from_second(second).unwrap())
        };
        resource.status = Some(fold_at(&resource, 1000));
        assert_eq!(Some(fold_at(&resource, 2000)), resource.status);
        let types: Vec<_> = resource.status.unwrap().conditions.into_iter().map(|condition| condition.type_).collect();
        assert_eq!(
            types,
            [
                "Ready",
                "Progressing",
                "PostgresBound",
                "RabbitmqBound",
                "RedisBound",
                "AuthConfigured",
                "DurabilityReduced"
            ]
        );
    }
}

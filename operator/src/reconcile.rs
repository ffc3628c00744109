//! The reconcile: observe, validate, desire, decide, apply, tell. On one screen.

use std::time::Duration;

use crds::{ChatCluster, ChatClusterStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{events::Recorder, reflector::ObjectRef},
};

use crate::{
    apply::{Applier, ApplyError},
    bindings::Bindings,
    desired, ending, events, metrics, names,
    observe::{Observed, Observer},
    pace::{Pace, Turn},
    pods,
    probes::STATUS_AGE_MAX,
    rollout::{self, Decision, PodView},
    status::{self, Inputs, Progress, Template},
    template,
    validate::{Cluster, Invalid},
};

/// Wait before a name that somebody else's object holds is tried again.
const TAKEN_AGAIN: Duration = Duration::from_secs(60);

/// When to go on after nodes have passed their self-tests: at once.
const PROVEN: Duration = Duration::from_millis(50);

/// HTTP status of an object that breaks a rule of its kind.
const UNPROCESSABLE: u16 = 422;

/// What reconciles share.
pub struct Context {
    /// The client, for writes.
    pub client: Client,
    /// All reads.
    pub observer: Observer,
    /// Writes Events.
    pub recorder: Recorder,
    /// Image of nodes whose spec names none.
    pub node_image: String,
    /// Newest shape of the pod template that pods get.
    pub pod_template_version: i32,
    /// What was not told yet.
    pub pace: Pace,
    /// The time. A test has one of its own.
    pub clock: fn() -> Timestamp,
}

/// What came of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing more to do until something changes, or until then.
    Done(Option<Duration>),
    /// The spec has to change first.
    Invalid,
}

/// Brings one cluster a step further.
///
/// # Errors
/// The API server's. A conflict means that something changed in between: observe again.
pub async fn reconcile(resource: &ChatCluster, context: &Context) -> kube::Result<Verdict> {
    let now = (context.clock)();
    let mut observed = context.observer.observe(resource, now).await?;
    let checked = Cluster::new(resource, &context.node_image).and_then(desired::checked);
    let owner = desired::owner(resource);
    let mut token = Ok(());
    if let Ok(cluster) = &checked
        && cluster.lacks_token(&observed.read)
        && !resource.spec.paused
    {
        let made = applier(context, &cluster.namespace, &cluster.name).create_auth_secret(cluster, &owner).await;
        token = made.map(|made| {
            made.into_iter().for_each(|secret| context.observer.learn(&mut observed, &cluster.namespace, secret))
        });
    }
    let bindings = Bindings::resolve(resource, &observed.read);
    let told = Told { context, resource, observed: &observed, bindings: &bindings, now };
    let mut cluster = match checked {
        Ok(cluster) => cluster,
        Err(invalid) => {
            told.tell(None, Progress::Invalid(&invalid)).await?;
            return Ok(Verdict::Invalid);
        }
    };
    if resource.spec.paused {
        told.tell(Some(&cluster), Progress::Paused).await?;
        return Ok(Verdict::Done(Some(STATUS_AGE_MAX)));
    }
    if let Some(verdict) = told.refused(&cluster, token.map_err(ApplyError::Api)).await? {
        return Ok(verdict);
    }
    let managed = applier(context, &cluster.namespace, &cluster.name)
        .apply_managed(desired::managed(&cluster, &owner), &observed.read.found)
        .await;
    if let Some(verdict) = told.refused(&cluster, managed).await? {
        return Ok(verdict);
    }
    let live = observed.stateful_set.as_ref();
    let Some(choice) = desired::choose(&cluster, &owner, &bindings, live, context.pod_template_version) else {
        told.tell(Some(&cluster), Progress::Unbound).await?;
        return Ok(Verdict::Done(observed.read.may_be_missed().then_some(STATUS_AGE_MAX)));
    };
    // What cannot be had yet is not tried: until then it is the spec of before that stands or has failed.
    let before = || Some(resource.status.as_ref()?.rollout.as_ref()?.spec_hash.clone());
    let held = choice.spec_hash.is_none();
    let spec_hash = choice.spec_hash.or_else(before).unwrap_or_default();
    let scene = observed.scene(resource, cluster.policy, spec_hash, choice.current).known_as(choice.former_hash);
    let decision = rollout::decide(&if held { scene.without_new_orders() } else { scene }, now);
    let set = with_template(choice.stateful_set, &decision, &observed);
    // What the nodes get, be it what ran before.
    cluster.image = template::image(&set).unwrap_or(choice.image);
    let children = desired::children(&cluster, &owner, choice.config_map, set, &decision);
    let applier = applier(context, &cluster.namespace, &cluster.name);
    let applied = Box::pin(applier.apply(children, &observed, now)).await;
    if let Some(verdict) = told.refused(&cluster, applied).await? {
        return Ok(verdict);
    }
    applier.delete_lost(&decision.lost, &observed.pods).await?;
    let shape = choice.shape.filter(|_| decision.template == rollout::Template::Desired);
    let template = Template { shape, update: choice.update, waits: choice.waits };
    let untold = told.tell(Some(&cluster), Progress::Rollout(&decision, &template)).await?;
    let proven = !decision.tests.is_empty() && context.observer.self_test(resource, &observed, &decision.tests).await;
    Ok(Verdict::Done(Some(if proven { PROVEN } else { next_look(&decision, untold) })))
}

/// Watches over the end of a cluster that is deleted and still there.
///
/// # Errors
/// The API server's.
pub async fn end(resource: &ChatCluster, context: &Context) -> kube::Result<Verdict> {
    if ending::leaves_all_behind(resource) {
        return Ok(Verdict::Done(None));
    }
    let now = (context.clock)();
    let left = context.observer.left(resource, now).await?;
    let ending = ending::decide(resource, &left, now);
    let (name, namespace) = (resource.name_any(), resource.namespace().unwrap_or_default());
    let applier = applier(context, &namespace, &name);
    let status = status::of_end(resource, &ending, &pods::views(&left.pods, &name, &left.lost), now);
    let before = resource.status.clone().unwrap_or_default();
    if status != before {
        // It may have gone meanwhile.
        match write_status(context, resource, &status).await {
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() => return Ok(Verdict::Done(None)),
            other => other?,
        }
        events::publish(&context.recorder, resource, events::between(&before, &status)).await;
    }
    applier.delete_lost(&ending.lost, &left.pods).await?;
    if ending.lets_go {
        applier.let_go(resource, &left).await?;
    }
    Ok(Verdict::Done(Some(ending.again)))
}

fn applier<'a>(context: &'a Context, namespace: &'a str, cluster: &'a str) -> Applier<'a> {
    Applier { client: &context.client, namespace, cluster, caches: context.observer.caches() }
}

/// A spec that has failed leaves the pods' template to a revision, and one that waits to what the StatefulSet has.
fn with_template(set: StatefulSet, decision: &Decision, observed: &Observed) -> StatefulSet {
    let live = observed.stateful_set.as_ref();
    let pods = || live?.spec.as_ref().map(|spec| spec.template.clone());
    let (noted, pods) = match &decision.template {
        rollout::Template::Desired => return set,
        rollout::Template::Live => (live.map(template::noted).unwrap_or_default(), pods()),
        rollout::Template::Revision(revision) => (revision.clone(), observed.template(revision).or_else(pods)),
    };
    match pods {
        Some(pods) => template::at_revision(set, &noted, pods),
        None => set,
    }
}

/// What is told about one reconcile.
struct Told<'a> {
    context: &'a Context,
    resource: &'a ChatCluster,
    observed: &'a Observed,
    bindings: &'a Bindings,
    now: Timestamp,
}

impl Told<'_> {
    /// Tells a user what the API server cannot take of the spec, or whose object is in the way.
    async fn refused(&self, cluster: &Cluster, applied: Result<(), ApplyError>) -> kube::Result<Option<Verdict>> {
        let (invalid, verdict) = match applied {
            Ok(()) => return Ok(None),
            Err(ApplyError::Api(kube::Error::Api(refusal))) if refusal.code == UNPROCESSABLE => {
                (Invalid { field: "spec", reason: refusal.message.clone() }, Verdict::Invalid)
            }
            // By a quota, an admission webhook or a missing right: told, and tried again, because nothing wakes when that changes.
            Err(ApplyError::Api(error)) => {
                if let kube::Error::Api(refusal) = &error
                    && is_refused(refusal.code)
                {
                    let invalid = Invalid { field: "spec", reason: refusal.message.clone() };
                    self.tell(Some(cluster), Progress::Invalid(&invalid)).await?;
                }
                return Err(error);
            }
            // Nothing wakes when somebody else's object goes.
            Err(taken @ ApplyError::Taken { .. }) => {
                (Invalid { field: "metadata.name", reason: taken.to_string() }, Verdict::Done(Some(TAKEN_AGAIN)))
            }
        };
        self.tell(Some(cluster), Progress::Invalid(&invalid)).await?;
        Ok(Some(verdict))
    }

    /// Tells status and Events, when they differ from what was told. Gives when that is to be, when it can wait.
    async fn tell(&self, cluster: Option<&Cluster>, progress: Progress<'_>) -> kube::Result<Option<Duration>> {
        let Told { context, resource, observed, bindings, now } = self;
        let pods = pods::views(&observed.pods, &resource.name_any(), &observed.lost);
        let connections = connections(observed, &pods);
        let synchronous =
            observed.nodes.values().filter_map(|node| node.store_synchronous).reduce(|all, one| all && one);
        let inputs = Inputs {
            resource,
            cluster,
            bindings,
            progress,
            pods: &pods,
            connections,
            synchronous,
            trouble: observed.trouble.as_deref(),
        };
        let status = status::fold(&inputs, *now);
        let before = resource.status.clone().unwrap_or_default();
        let turn = match inputs.progress {
            Progress::Rollout(..) => {
                context.pace.turn(&ObjectRef::from_obj(*resource), resource.status.as_ref(), &status)
            }
            // Nothing counts up, and nobody would come back to tell it.
            _ if resource.status.as_ref() == Some(&status) => Turn::Never,
            _ => Turn::Now,
        };
        match turn {
            Turn::Never => return Ok(None),
            Turn::Later(wait) => return Ok(Some(wait)),
            Turn::Now => {}
        }
        write_status(context, resource, &status).await?;
        if let (was, Some(rollout)) = (before.rollout.as_ref().map(|rollout| rollout.phase), &status.rollout)
            && was != Some(rollout.phase)
        {
            metrics::rollout(rollout.phase.as_str());
        }
        events::publish(&context.recorder, resource, events::between(&before, &status)).await;
        Ok(None)
    }
}

/// Whether the API server will not do what is asked, however often: neither by the moment (404, 409, 410, 429) nor by a fault of its own.
fn is_refused(code: u16) -> bool {
    (400..500).contains(&code) && ![404, 409, 410, 429].contains(&code)
}

/// Upon the version that was read: a stale operator, or a former leader, overwrites nothing.
async fn write_status(context: &Context, resource: &ChatCluster, status: &ChatClusterStatus) -> kube::Result<()> {
    let api: Api<ChatCluster> = Api::namespaced(context.client.clone(), &resource.namespace().unwrap_or_default());
    let metadata = serde_json::json!({"resourceVersion": resource.metadata.resource_version});
    let patch = serde_json::json!({
        "apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster", "metadata": metadata, "status": status,
    });
    metrics::write("chatclusters", "patch");
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch_status(&resource.name_any(), &params, &Patch::Apply(&patch)).await.map(drop)
}

fn connections(observed: &Observed, pods: &[PodView]) -> Option<i64> {
    if pods.is_empty() {
        return Some(0);
    }
    let told = |pod: &PodView| observed.nodes.get(&pod.name).map(|node| node.connections);
    let counts: Vec<u64> = pods.iter().filter_map(told).collect();
    (!counts.is_empty()).then(|| i64::try_from(counts.iter().sum::<u64>()).unwrap_or(i64::MAX))
}

/// Nodes are asked again now and then, and what was not told yet is told; everything else wakes by itself.
fn next_look(decision: &Decision, untold: Option<Duration>) -> Duration {
    [decision.requeue, untold].into_iter().flatten().fold(STATUS_AGE_MAX, Duration::min)
}

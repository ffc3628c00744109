//! The reconcile: observe, validate, desire, decide, apply, tell. On one screen.

use std::time::Duration;

use crds::{ChatCluster, ChatClusterStatus, binding::Service};
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::Recorder,
};

use crate::{
    apply::{self, Applier},
    desired, events, metrics, names,
    observe::{Observed, Observer, STATUS_AGE_MAX},
    rollout::{self, Decision, PodView},
    status::{self, Inputs, Progress},
    validate::{self, Backing, BindingState, Cluster, Invalid},
};

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
    let observed = context.observer.observe(resource).await?;
    let image = running_image(resource, &observed).unwrap_or_else(|| context.node_image.clone());
    let cluster = match Cluster::new(resource, &image) {
        Ok(cluster) => cluster,
        Err(invalid) => {
            tell(context, resource, None, &observed, Progress::Invalid(&invalid), now).await?;
            return Ok(Verdict::Invalid);
        }
    };
    let applier = Applier { client: &context.client, namespace: &cluster.namespace };
    let owner = desired::owner(resource);
    if cluster.owns_token() && observed.secrets.get(&cluster.token.0).is_none_or(Option::is_none) {
        applier.create_auth_secret(&cluster, &owner).await?;
        // The Secret's watch wakes the next reconcile.
    }
    let Some(secrets_hash) = validate::secrets_hash(&cluster, &observed.secrets)
        .filter(|_| bindings(&cluster, &observed).into_iter().flatten().all(|state| state.bound))
        .or_else(|| last_secrets_hash(&observed))
    else {
        tell(context, resource, Some(&cluster), &observed, Progress::Unbound, now).await?;
        return Ok(Verdict::Done(None));
    };
    let config = desired::config_map(&cluster, &owner);
    let set = apply::note_template(desired::stateful_set_at_rest(&cluster, &owner, &config, &secrets_hash));
    let current = observed.stateful_set.as_ref().is_some_and(|observed| apply::has_template(observed, &set));
    let decision = rollout::decide(&observed.scene(resource, cluster.policy, current), now);
    let applied = Box::pin(applier.apply(desired::children(&cluster, &owner, config, set, &decision), &observed)).await;
    if let Err(kube::Error::Api(refusal)) = &applied
        && refusal.code == UNPROCESSABLE
    {
        // The API server cannot take what the spec asks for, which the user should read where the spec is.
        let invalid = Invalid { field: "spec", reason: refusal.message.clone() };
        tell(context, resource, Some(&cluster), &observed, Progress::Invalid(&invalid), now).await?;
        return Ok(Verdict::Invalid);
    }
    applied?;
    tell(context, resource, Some(&cluster), &observed, Progress::Rollout(&decision), now).await?;
    Ok(Verdict::Done(Some(next_look(&decision))))
}

/// Tells status and Events, when they differ from what was told.
async fn tell(
    context: &Context,
    resource: &ChatCluster,
    cluster: Option<&Cluster>,
    observed: &Observed,
    progress: Progress<'_>,
    now: Timestamp,
) -> kube::Result<()> {
    let pods = observed.pod_views(&resource.name_any());
    let [postgres, rabbitmq] = cluster.map_or([None, None], |cluster| bindings(cluster, observed));
    let inputs = Inputs {
        resource,
        cluster,
        postgres: postgres.as_ref(),
        rabbitmq: rabbitmq.as_ref(),
        progress,
        pods: &pods,
        connections: connections(observed, &pods),
    };
    let status = status::fold(&inputs, now);
    let before = resource.status.clone().unwrap_or_default();
    if resource.status.as_ref() == Some(&status) {
        return Ok(());
    }
    write_status(context, resource, &status).await?;
    if let (was, Some(rollout)) = (before.rollout.as_ref().map(|rollout| rollout.phase), &status.rollout)
        && was != Some(rollout.phase)
    {
        metrics::rollout(rollout.phase.as_str());
    }
    events::publish(&context.recorder, resource, events::between(&before, &status)).await;
    Ok(())
}

async fn write_status(context: &Context, resource: &ChatCluster, status: &ChatClusterStatus) -> kube::Result<()> {
    let api: Api<ChatCluster> = Api::namespaced(context.client.clone(), &resource.namespace().unwrap_or_default());
    let patch = serde_json::json!({"apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster", "status": status});
    metrics::write("chatclusters", "patch");
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch_status(&resource.name_any(), &params, &Patch::Apply(&patch)).await.map(drop)
}

/// The image that runs, when the spec names none and did not change: a newer operator has a newer default, and must not restart
/// anything by itself.
fn running_image(resource: &ChatCluster, observed: &Observed) -> Option<String> {
    let unchanged = resource.status.as_ref()?.observed_generation == resource.metadata.generation;
    let template = &observed.stateful_set.as_ref()?.spec.as_ref()?.template;
    let image = template.spec.as_ref()?.containers.first()?.image.clone();
    image.filter(|_| unchanged && resource.spec.image.is_none())
}

fn last_secrets_hash(observed: &Observed) -> Option<String> {
    let template = &observed.stateful_set.as_ref()?.spec.as_ref()?.template;
    template.metadata.as_ref()?.annotations.as_ref()?.get(names::SECRETS).cloned()
}

/// State of the Postgres and of the RabbitMQ binding.
fn bindings(cluster: &Cluster, observed: &Observed) -> [Option<BindingState>; 2] {
    let Backing::Bound { postgres, rabbitmq } = &cluster.backing else { return [None, None] };
    let state = |service, secret: &String| {
        let data = observed.secrets.get(secret).cloned().flatten();
        Some(validate::binding_state(service, secret, &data))
    };
    [state(Service::Postgres, postgres), state(Service::Rabbitmq, rabbitmq)]
}

fn connections(observed: &Observed, pods: &[PodView]) -> Option<i64> {
    let told = |pod: &PodView| observed.nodes.get(&pod.name).map(|node| node.connections);
    let counts: Vec<u64> = pods.iter().filter_map(told).collect();
    (!counts.is_empty()).then(|| i64::try_from(counts.iter().sum::<u64>()).unwrap_or(i64::MAX))
}

/// Nodes are asked again now and then; everything else wakes by itself.
fn next_look(decision: &Decision) -> Duration {
    decision.requeue.unwrap_or(STATUS_AGE_MAX).min(STATUS_AGE_MAX)
}

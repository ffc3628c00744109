//! Caches: what the API server told, kept by watches, so that a reconcile reads nothing over the network.
//!
//! Holds only objects that the operator made (by label), what Kubernetes made of them, and of Secrets no content but the names. A
//! change of any of them wakes the reconcile of its cluster.

use std::{fmt::Debug, sync::Arc};

use crds::ChatCluster;
use futures::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{ConfigMap, Pod, PodSpec, PodStatus, PodTemplateSpec, Secret, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    cache::{self, Cache, Ended},
    interest::Interest,
    kinds::Kinds,
    metrics, names,
};

/// Wakes the reconcile of a cluster.
pub type Wake = mpsc::Sender<ObjectRef<ChatCluster>>;

/// The caches of one namespace, or of all.
#[derive(Clone)]
pub struct Caches {
    /// StatefulSets.
    pub stateful_sets: Cache<StatefulSet>,
    /// Services.
    pub services: Cache<Service>,
    /// ConfigMaps.
    pub config_maps: Cache<ConfigMap>,
    /// ServiceAccounts.
    pub service_accounts: Cache<ServiceAccount>,
    /// PodDisruptionBudgets.
    pub budgets: Cache<PodDisruptionBudget>,
    /// Pods.
    pub pods: Cache<Pod>,
    /// Revisions of StatefulSets.
    pub revisions: Cache<ControllerRevision>,
    /// Endpoints of Services.
    pub slices: Cache<EndpointSlice>,
    /// Names and versions of all Secrets, without content.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// Who refers to which Secret.
    pub interest: Arc<Interest>,
    /// Kinds of other operators.
    pub kinds: Kinds,
}

impl Caches {
    /// Starts the watches as tasks that never end by themselves. `clusters` tells who refers to a Secret.
    pub fn start(
        client: &Client,
        namespace: Option<&str>,
        clusters: Store<ChatCluster>,
        wake: &Wake,
        tasks: &mut JoinSet<&'static str>,
    ) -> Caches {
        let interest = Arc::new(Interest::default());
        let kinds = Kinds::new(client.clone(), namespace.map(str::to_owned), clusters, wake.clone());
        let secrets = watch_secrets(client, namespace, interest.clone(), wake.clone(), tasks);
        Caches {
            stateful_sets: watch("statefulsets", client, namespace, wake, tasks, whole),
            services: watch("services", client, namespace, wake, tasks, whole),
            config_maps: watch("configmaps", client, namespace, wake, tasks, whole),
            service_accounts: watch("serviceaccounts", client, namespace, wake, tasks, whole),
            budgets: watch("poddisruptionbudgets", client, namespace, wake, tasks, whole),
            pods: watch("pods", client, namespace, wake, tasks, slim_pod),
            revisions: watch("controllerrevisions", client, namespace, wake, tasks, slim_revision),
            slices: watch("endpointslices", client, namespace, wake, tasks, whole),
            secrets,
            interest,
            kinds,
        }
    }

    /// Waits until every cache was filled once.
    ///
    /// # Errors
    /// When a watch has ended.
    pub async fn ready(&self) -> Result<(), Ended> {
        self.stateful_sets.ready().await?;
        self.services.ready().await?;
        self.config_maps.ready().await?;
        self.service_accounts.ready().await?;
        self.budgets.ready().await?;
        self.pods.ready().await?;
        self.revisions.ready().await?;
        self.slices.ready().await?;
        self.secrets.wait_until_ready().await.map_err(|_| Ended)
    }
}

/// Watches names and versions of Secrets, and wakes who refers to one.
fn watch_secrets(
    client: &Client,
    namespace: Option<&str>,
    interest: Arc<Interest>,
    wake: Wake,
    tasks: &mut JoinSet<&'static str>,
) -> Store<PartialObjectMeta<Secret>> {
    let (reader, writer) = reflector::store();
    let stream = watcher::watcher(api::<PartialObjectMeta<Secret>>(client, namespace), watcher::Config::default());
    let stream = stream.default_backoff().modify(slim_secret).reflect(writer).touched_objects();
    tasks.spawn(async move {
        futures::pin_mut!(stream);
        while let Some(event) = stream.next().await {
            let Ok(secret) = event.inspect_err(|error| tell_failure("secrets", error)) else { continue };
            for cluster in interest.of(&secret.namespace().unwrap_or_default(), &secret.name_any()) {
                // The receiver lives as long as the controller.
                let _ = wake.send(cluster).await;
            }
        }
        "secrets"
    });
    reader
}

/// The API of a kind, in a namespace or in all.
pub fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn watch<K>(
    name: &'static str,
    client: &Client,
    namespace: Option<&str>,
    wake: &Wake,
    tasks: &mut JoinSet<&'static str>,
    slim: fn(&mut K),
) -> Cache<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let (cache, mut filler) = cache::new();
    let config = watcher::Config::default().labels(names::MANAGED_SELECTOR);
    let stream = watcher::watcher(api::<K>(client, namespace), config).default_backoff().modify(slim);
    let wake = wake.clone();
    tasks.spawn(async move {
        futures::pin_mut!(stream);
        while let Some(event) = stream.next().await {
            // A watch that failed goes on by itself.
            let Ok(event) = event.inspect_err(|error| tell_failure(name, error)) else { continue };
            for cluster in filler.take_in(event) {
                let _ = wake.send(cluster).await;
            }
        }
        name
    });
    cache
}

/// Tells of a watch that cannot begin: until each has begun once nothing is reconciled, however long that takes. One that breaks off
/// goes on by itself, and tells here when it cannot.
pub fn tell_failure(watched: &str, error: &watcher::Error) {
    if matches!(error, watcher::Error::InitialListFailed(_) | watcher::Error::WatchStartFailed(_)) {
        tracing::warn!(watched, %error, "a watch failed");
        metrics::watch_failed();
    }
}

/// Leaves everything: of what the operator applies, it has to see each change.
fn whole<K>(_: &mut K) {}

/// Leaves of a pod what decisions look at; the rest would be most of the operator's memory.
fn slim_pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        let volumes = spec.volumes.take();
        let node_name = spec.node_name.take();
        *spec = PodSpec { volumes, node_name, ..PodSpec::default() };
    }
    if let Some(status) = &mut pod.status {
        let (pod_ip, conditions) = (status.pod_ip.take(), status.conditions.take());
        *status = PodStatus { pod_ip, conditions, ..PodStatus::default() };
    }
    pod.metadata.annotations = None;
}

/// Leaves of a Secret whose it is.
fn slim_secret(secret: &mut PartialObjectMeta<Secret>) {
    let ObjectMeta { name, namespace, resource_version, owner_references, .. } = std::mem::take(&mut secret.metadata);
    secret.metadata = ObjectMeta { name, namespace, resource_version, owner_references, ..ObjectMeta::default() };
}

/// Keeps the template of a revision as text within its text: it is looked at when a rollout goes back.
fn slim_revision(revision: &mut ControllerRevision) {
    if let Some(data) = &mut revision.data {
        data.0 = Value::String(data.0.to_string());
    }
}

/// The pods' template of a revision, as its controller wrote it down
/// (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/>).
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let data: Value = serde_json::from_str(revision_text(revision)?).ok()?;
    serde_json::from_value(data.get("spec")?.get("template")?.clone()).ok()
}

/// What a revision holds, as text.
pub fn revision_text(revision: &ControllerRevision) -> Option<&str> {
    revision.data.as_ref()?.0.as_str()
}

/// Leaves of a cluster what users write and the operator tells. Who wrote which field, and a copy of all in an annotation of `kubectl`, would be
/// more than that.
pub fn slim_cluster(cluster: &mut ChatCluster) {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    cluster.metadata.managed_fields = None;
    cluster.annotations_mut().remove(LAST_APPLIED);
}

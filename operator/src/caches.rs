//! Caches: what the API server told, kept by watches, so that a reconcile reads nothing over the network.
//!
//! Holds only objects that the operator made (by label), what Kubernetes made of them, and of Secrets no content but the names. A
//! change of any of them wakes the reconcile of its cluster.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    hash::Hash,
    sync::Arc,
};

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
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event},
    },
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{interest::Interest, kinds::Kinds, names};

/// Wakes the reconcile of a cluster.
pub type Wake = mpsc::Sender<ObjectRef<ChatCluster>>;

/// The objects of one kind, by the cluster that they belong to.
#[derive(Clone)]
pub struct Cache<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    /// Names of each cluster's objects. One that vanished while the watch was away is dropped when it is looked for.
    names: Arc<Mutex<HashMap<ObjectRef<ChatCluster>, Names<K>>>>,
}

type Names<K> = BTreeMap<String, Option<Written<K>>>;

/// An object as this operator wrote it, while the watch still tells of what it was before. A decision must not rest on what was changed by an
/// earlier one: a Service that seems to lead elsewhere would have the nodes behind it taken for idle.
struct Written<K> {
    object: Arc<K>,
    /// Versions upon which it was written.
    superseded: BTreeSet<String>,
}

impl<K: Resource> Written<K> {
    fn supersedes(&self, told: &K) -> bool {
        let told = told.meta().resource_version.as_ref();
        told.is_some_and(|version| self.superseded.contains(version))
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Cache<K> {
    /// The objects of a cluster, by name: a decision must not depend on the order in which they came. Costs what they are, not what
    /// the cache holds.
    pub fn of(&self, namespace: &str, cluster: &str) -> Vec<Arc<K>> {
        let mut names = self.names.lock();
        let Some(names) = names.get_mut(&ObjectRef::new(cluster).within(namespace)) else { return Vec::new() };
        let mut objects = Vec::with_capacity(names.len());
        names.retain(|name, written| {
            let told = self.store.get(&ObjectRef::new(name).within(namespace));
            let is_there = told.is_some();
            *written = written.take().filter(|written| told.as_ref().is_some_and(|told| written.supersedes(told)));
            objects.extend(written.as_ref().map(|written| written.object.clone()).or(told));
            is_there
        });
        objects
    }

    /// Takes in what an object has become by a write upon a version of it. What was made only now is not taken in: whoever misses it and makes it
    /// again gets a conflict.
    pub fn wrote(&self, cluster: &ObjectRef<ChatCluster>, upon: &str, mut object: K) {
        let mut clusters = self.names.lock();
        let names = clusters.get_mut(cluster);
        let Some(written) = names.and_then(|names| names.get_mut(&object.name_any())) else { return };
        object.managed_fields_mut().clear();
        let before = written.take().filter(|before| before.object.resource_version().as_deref() == Some(upon));
        let mut superseded = before.map(|before| before.superseded).unwrap_or_default();
        superseded.insert(upon.to_owned());
        *written = Some(Written { object: Arc::new(object), superseded });
    }

    fn note(&self, cluster: &ObjectRef<ChatCluster>, name: String) {
        self.names.lock().entry(cluster.clone()).or_default().entry(name).or_default();
    }

    fn forget(&self, cluster: &ObjectRef<ChatCluster>, name: &str) {
        let mut clusters = self.names.lock();
        if let Some(names) = clusters.get_mut(cluster) {
            names.remove(name);
            if names.is_empty() {
                clusters.remove(cluster);
            }
        }
    }
}

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
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.stateful_sets.store.wait_until_ready().await?;
        self.services.store.wait_until_ready().await?;
        self.config_maps.store.wait_until_ready().await?;
        self.service_accounts.store.wait_until_ready().await?;
        self.budgets.store.wait_until_ready().await?;
        self.pods.store.wait_until_ready().await?;
        self.revisions.store.wait_until_ready().await?;
        self.slices.store.wait_until_ready().await?;
        self.secrets.wait_until_ready().await
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
    let stream = stream.default_backoff().reflect(writer).touched_objects();
    tasks.spawn(async move {
        futures::pin_mut!(stream);
        while let Some(event) = stream.next().await {
            let Ok(secret) = event else { continue };
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
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq,
{
    let (store, writer) = reflector::store();
    let cache = Cache { store, names: Arc::default() };
    let config = watcher::Config::default().labels(names::MANAGED_SELECTOR);
    let stream = watcher::watcher(api::<K>(client, namespace), config).default_backoff().modify(move |object| {
        object.managed_fields_mut().clear();
        slim(object);
    });
    let stream = stream.reflect(writer);
    let (wake, noted) = (wake.clone(), cache.clone());
    tasks.spawn(async move {
        futures::pin_mut!(stream);
        while let Some(event) = stream.next().await {
            let (object, is_gone) = match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => (object, false),
                Ok(Event::Delete(object)) => (object, true),
                // What begins, ends or failed says nothing of an object; a watch that failed goes on by itself.
                Ok(Event::Init | Event::InitDone) | Err(_) => continue,
            };
            let (Some(cluster), Some(namespace)) = (object.labels().get(names::INSTANCE), object.namespace()) else {
                continue;
            };
            let cluster = ObjectRef::new(cluster).within(&namespace);
            match is_gone {
                true => noted.forget(&cluster, &object.name_any()),
                false => noted.note(&cluster, object.name_any()),
            }
            let _ = wake.send(cluster).await;
        }
        name
    });
    cache
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

/// Keeps the template of a revision as its text, which is a tenth of the same as a tree: it is looked at when a rollout goes back.
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
    cluster.managed_fields_mut().clear();
    cluster.annotations_mut().remove(LAST_APPLIED);
}

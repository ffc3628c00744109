//! Caches: what the API server told, kept by watches, so that a reconcile reads nothing over the network.
//!
//! Holds only objects that the operator made (by label), what Kubernetes made of them, and of Secrets no content but the names. A
//! change of any of them wakes the reconcile of its cluster.

use std::{fmt::Debug, hash::Hash};

use crds::ChatCluster;
use futures::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
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
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

use crate::names;

/// Wakes the reconcile of a cluster.
pub type Wake = mpsc::Sender<ObjectRef<ChatCluster>>;

/// The caches of one namespace, or of all.
#[derive(Clone)]
pub struct Caches {
    /// StatefulSets.
    pub stateful_sets: Store<StatefulSet>,
    /// Services.
    pub services: Store<Service>,
    /// ConfigMaps.
    pub config_maps: Store<ConfigMap>,
    /// ServiceAccounts.
    pub service_accounts: Store<ServiceAccount>,
    /// PodDisruptionBudgets.
    pub budgets: Store<PodDisruptionBudget>,
    /// Pods.
    pub pods: Store<Pod>,
    /// Revisions of StatefulSets.
    pub revisions: Store<ControllerRevision>,
    /// Endpoints of Services.
    pub slices: Store<EndpointSlice>,
    /// Names and versions of all Secrets, without content.
    pub secrets: Store<PartialObjectMeta<Secret>>,
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
        let secrets = {
            let (reader, writer) = reflector::store();
            let stream = watcher(api::<PartialObjectMeta<Secret>>(client, namespace), watcher::Config::default());
            let stream = stream.default_backoff().reflect(writer).touched_objects();
            let wake = wake.clone();
            tasks.spawn(async move {
                futures::pin_mut!(stream);
                while let Some(event) = stream.next().await {
                    let Ok(secret) = event else { continue };
                    let (name, namespace) = (secret.name_any(), secret.namespace());
                    let refers = |cluster: &ChatCluster| {
                        cluster.namespace() == namespace && names::secrets(cluster).contains(&name)
                    };
                    for cluster in clusters.state_filter(refers) {
                        // The receiver lives as long as the controller.
                        let _ = wake.send(ObjectRef::from_obj(&*cluster)).await;
                    }
                }
                "secrets"
            });
            reader
        };
        Caches {
            stateful_sets: watch("statefulsets", client, namespace, wake, tasks),
            services: watch("services", client, namespace, wake, tasks),
            config_maps: watch("configmaps", client, namespace, wake, tasks),
            service_accounts: watch("serviceaccounts", client, namespace, wake, tasks),
            budgets: watch("poddisruptionbudgets", client, namespace, wake, tasks),
            pods: watch("pods", client, namespace, wake, tasks),
            revisions: watch("controllerrevisions", client, namespace, wake, tasks),
            slices: watch("endpointslices", client, namespace, wake, tasks),
            secrets,
        }
    }

    /// Waits until every cache was filled once.
    ///
    /// # Errors
    /// When a watch has ended.
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.stateful_sets.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.budgets.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.revisions.wait_until_ready().await?;
        self.slices.wait_until_ready().await?;
        self.secrets.wait_until_ready().await
    }
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
) -> Store<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq,
{
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().labels(names::MANAGED_SELECTOR);
    let stream = watcher(api::<K>(client, namespace), config).default_backoff().modify(|object| {
        object.managed_fields_mut().clear();
    });
    let stream = stream.reflect(writer).touched_objects();
    let wake = wake.clone();
    tasks.spawn(async move {
        futures::pin_mut!(stream);
        while let Some(event) = stream.next().await {
            let Ok(object) = event else { continue };
            if let (Some(cluster), Some(namespace)) = (object.labels().get(names::INSTANCE), object.namespace()) {
                let _ = wake.send(ObjectRef::new(cluster).within(&namespace)).await;
            }
        }
        name
    });
    reader
}

//! The only writes: server-side apply of what differs, and deletion of what nobody names any more.
//!
//! An object that is already so is not written. Whether it is so is seen from a hash of what was applied last, which notices a field
//! that is no longer wanted, and from a comparison with the live object, which notices what somebody else changed. Every write is made
//! upon the state that was observed, an absence too: a stale operator, or a former leader, gets a conflict and overwrites nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use crds::ChatCluster;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
};
use rand::RngExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    bindings::{Foreign, Found},
    cache::Cache,
    caches::{self, Caches},
    desired::{self, Children},
    ending::{self, Left},
    metrics, names,
    observe::Observed,
    same::same,
    template,
    validate::Cluster,
};

/// HTTP status of a write upon a state that is no more.
const CONFLICT: u16 = 409;

/// The version that an apply carries when the object is to be made: no object has it (etcd's first write is a later one), so an apply over
/// an object that is there is a conflict, and one where there is none makes it.
const ABSENT: &str = "1";

/// Time from which on no write of the reconcile that made an object can arrive any more: that of a reconcile, and the API server's own bound of
/// a minute (`--request-timeout`, <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/>).
const GIVEN_UP_MAX: SignedDuration = SignedDuration::from_secs(2 * 60);

/// Writes for one cluster.
pub struct Applier<'a> {
    /// The client.
    pub client: &'a Client,
    /// The namespace.
    pub namespace: &'a str,
    /// The cluster.
    pub cluster: &'a str,
    /// What is learned of the objects that were written.
    pub caches: &'a Caches,
}

/// Why a write did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused. A conflict means that something changed in between: observe again.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The name belongs to somebody else's object, which is left alone.
    #[error("{kind} {name:?} exists and is not this cluster's: remove it, or give the ChatCluster another name")]
    Taken {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
}

impl Applier<'_> {
    /// Makes the children be as desired. The StatefulSet comes last, so that its pods find what they refer to.
    ///
    /// # Errors
    /// What was written before stays and is found again.
    pub async fn apply(&self, children: Children, observed: &Observed, now: Timestamp) -> Result<(), ApplyError> {
        let Children {
            service_account,
            config_map,
            headless_service,
            client_service,
            pod_disruption_budget,
            stateful_set,
        } = children;
        let services: BTreeSet<String> = [&headless_service, &client_service].map(ResourceExt::name_any).into();
        let config = config_map.as_ref().map(ResourceExt::name_any).unwrap_or_default();
        let caches = self.caches;
        self.ensure(service_account, &observed.service_accounts, &caches.service_accounts).await?;
        self.ensure(config_map, &observed.config_maps, &caches.config_maps).await?;
        self.ensure(headless_service, &observed.services, &caches.services).await?;
        self.ensure(client_service, &observed.services, &caches.services).await?;
        self.ensure(pod_disruption_budget, &observed.budgets, &caches.budgets).await?;
        self.ensure(stateful_set, observed.stateful_set.as_slice(), &caches.stateful_sets).await?;
        self.prune(&observed.services, |service| services.contains(&service.name_any())).await?;
        let may_be_used = |map: &ConfigMap| map.name_any() == config || is_named(map, observed) || is_new(map, now);
        self.prune(&observed.config_maps, may_be_used).await?;
        Ok(())
    }

    /// Makes the clusters of other operators that belong to the chat. A kind that is not installed waits: it wakes when it comes.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub async fn apply_managed(
        &self,
        wanted: Vec<(Foreign, DynamicObject)>,
        found: &BTreeMap<Foreign, Found>,
    ) -> Result<(), ApplyError> {
        for (reference, object) in wanted {
            let observed = match found.get(&reference) {
                Some(Found::Present(observed)) => Some(observed.as_ref()),
                Some(Found::Absent) => None,
                _ => continue,
            };
            let resource = reference.resource();
            let api = Api::namespaced_with(self.client.clone(), self.namespace, &resource);
            self.write(&api, &resource, object, observed).await?;
        }
        Ok(())
    }

    /// Makes the signing Secret when it is absent, and gives it. `None`: another operator was faster and has made the one that counts,
    /// or it is there and no watch has told of it yet.
    ///
    /// # Errors
    /// The API server's.
    pub async fn create_auth_secret(&self, cluster: &Cluster, owner: &OwnerReference) -> kube::Result<Option<Secret>> {
        const KEY_BYTES: usize = 64;
        let mut key = [0u8; KEY_BYTES];
        rand::rng().fill(&mut key);
        let secret = desired::auth_secret(cluster, owner, STANDARD.encode(key));
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PostParams::default() };
        metrics::write("secrets", "create");
        match api.create(&params, &secret).await {
            Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(None),
            made => made.map(Some),
        }
    }

    /// Deletes pods by force, whose machine is dead: nobody will say any more that their processes have ended.
    ///
    /// # Errors
    /// The API server's.
    pub async fn delete_lost(&self, lost: &[String], pods: &[Pod]) -> kube::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        for pod in pods.iter().filter(|pod| lost.contains(&pod.name_any())) {
            let same_object = Preconditions { uid: pod.uid(), resource_version: None };
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(same_object),
                ..DeleteParams::default()
            };
            tracing::warn!(pod = %pod.name_any(), "its machine is dead: deleting it by force");
            metrics::write("pods", "delete");
            match api.delete(&pod.name_any(), &params).await {
                Err(kube::Error::Api(status)) if status.is_not_found() || status.code == CONFLICT => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Lets a cluster that is being deleted go without waiting any longer for what it owns. That goes on ending by itself.
    ///
    /// # Errors
    /// The API server's.
    pub async fn let_go(&self, owner: &ChatCluster, left: &Left) -> kube::Result<()> {
        if let Some(set) = &left.stateful_set {
            let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), self.namespace);
            self.let_one_go(&api, &ApiResource::erase::<StatefulSet>(&()), set, owner).await?;
        }
        for (reference, object) in &left.managed {
            let resource = reference.resource();
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), self.namespace, &resource);
            self.let_one_go(&api, &resource, &**object, owner).await?;
        }
        Ok(())
    }

    async fn let_one_go<K>(
        &self,
        api: &Api<K>,
        resource: &ApiResource,
        object: &K,
        owner: &ChatCluster,
    ) -> kube::Result<()>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        if !ending::holds(object, owner) {
            return Ok(());
        }
        let mut references = object.owner_references().to_vec();
        for reference in references.iter_mut().filter(|reference| ending::is_to(owner, reference)) {
            reference.block_owner_deletion = Some(false);
        }
        let version = object.resource_version();
        let patch = serde_json::json!({"metadata": {"resourceVersion": version, "ownerReferences": references}});
        tracing::warn!(kind = %resource.kind, name = %object.name_any(), "it does not go: its ChatCluster waits for it no longer");
        metrics::write(&resource.plural, "patch");
        let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() };
        match api.patch(&object.name_any(), &params, &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Applies an object, if there is one, unless it is so already.
    async fn ensure<K>(&self, desired: impl Into<Option<K>>, observed: &[K], cache: &Cache<K>) -> Result<(), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned + 'static,
    {
        let Some(desired) = desired.into() else { return Ok(()) };
        let name = desired.name_any();
        let observed = observed.iter().find(|object| object.name_any() == name);
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let written = self.write(&api, &ApiResource::erase::<K>(&()), desired, observed).await?;
        if let (Some(written), Some(upon)) = (written, observed.and_then(ResourceExt::resource_version)) {
            cache.wrote(&upon, written);
        }
        Ok(())
    }

    /// Likewise. Gives what it has become, if it was written.
    async fn write<K>(
        &self,
        api: &Api<K>,
        resource: &ApiResource,
        mut desired: K,
        observed: Option<&K>,
    ) -> Result<Option<K>, ApplyError>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = desired.name_any();
        let hash = template::hash(&desired);
        desired.annotations_mut().insert(names::APPLIED.into(), hash);
        if let Some(observed) = observed {
            if !self.owns(observed) {
                return Err(ApplyError::Taken { kind: resource.kind.clone(), name });
            }
            if is_so(&desired, observed) {
                return Ok(None);
            }
        }
        let version = observed.and_then(ResourceExt::resource_version);
        desired.meta_mut().resource_version = Some(version.unwrap_or_else(|| ABSENT.into()));
        tracing::info!(kind = %resource.kind, %name, "applying");
        metrics::write(&resource.plural, "patch");
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        match api.patch(&name, &params, &Patch::Apply(&with_kind(&desired, resource))).await {
            Err(kube::Error::Api(status)) if status.code == CONFLICT && observed.is_none() => {
                // Made by this operator a moment ago, or somebody else's.
                match api.get_metadata_opt(&name).await? {
                    Some(there) if !self.owns(&there) => Err(ApplyError::Taken { kind: resource.kind.clone(), name }),
                    _ => Err(kube::Error::Api(status).into()),
                }
            }
            other => Ok(other.map(Some)?),
        }
    }

    /// Whether an object is of this cluster, by its labels: an orphan is, and is taken up again.
    fn owns<K: Resource>(&self, object: &K) -> bool {
        let label = |key: &str| object.meta().labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        label(names::MANAGED_BY) == Some(names::FIELD_MANAGER) && label(names::INSTANCE) == Some(self.cluster)
    }

    /// Deletes what is not kept.
    async fn prune<K>(&self, observed: &[K], keep: impl Fn(&K) -> bool) -> kube::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        for object in observed {
            if keep(object) || object.meta().deletion_timestamp.is_some() || object.owner_references().is_empty() {
                continue;
            }
            let same_object = Preconditions { uid: object.uid(), resource_version: None };
            let params = DeleteParams { preconditions: Some(same_object), ..DeleteParams::default() };
            tracing::info!(kind = %K::kind(&()), name = %object.name_any(), "deleting");
            metrics::write(&K::plural(&()), "delete");
            match api.delete(&object.name_any(), &params).await {
                Err(kube::Error::Api(status)) if status.is_not_found() || status.code == CONFLICT => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}

/// Whether a pod or a revision, which may become a pod again, names a ConfigMap.
fn is_named(map: &ConfigMap, observed: &Observed) -> bool {
    let name = map.name_any();
    let by_pod = observed.pods.iter().any(|pod| {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes.filter_map(|volume| volume.config_map.as_ref()).any(|map| map.name == name)
    });
    let quoted = format!("\"{name}\"");
    by_pod
        || observed
            .revisions
            .iter()
            .any(|revision| caches::revision_text(revision).is_some_and(|text| text.contains(&quoted)))
}

/// Whether the StatefulSet may still come to name a ConfigMap: by a write that this operator has given up, and the API server carries out all the
/// same.
fn is_new(map: &ConfigMap, now: Timestamp) -> bool {
    map.creation_timestamp().is_some_and(|made| now.duration_since(made.0) < GIVEN_UP_MAX)
}

fn is_so<K: Serialize>(desired: &K, observed: &K) -> bool {
    let value = |object: &K| serde_json::to_value(object).unwrap_or(Value::Null);
    same(&value(desired), &value(observed))
}

/// Server-side apply needs to be told the kind, which the types know but do not carry.
fn with_kind<K: Serialize>(object: &K, resource: &ApiResource) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or(Value::Null);
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), resource.api_version.clone().into());
        map.insert("kind".into(), resource.kind.clone().into());
    }
    value
}

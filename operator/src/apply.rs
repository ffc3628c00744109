//! The only writes: server-side apply of what differs, and deletion of what nobody names any more.
//!
//! An object that is already so is not written. Whether it is so is seen from a hash of what was applied last, which notices a field
//! that is no longer wanted, and from a comparison with the live object, which notices what somebody else changed.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Secret},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use rand::RngExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    desired::{self, Children},
    metrics, names,
    observe::Observed,
    same::same,
    validate::{Cluster, hex},
};

/// Writes for one cluster.
pub struct Applier<'a> {
    /// The client.
    pub client: &'a Client,
    /// The namespace.
    pub namespace: &'a str,
}

impl Applier<'_> {
    /// Makes the children be as desired. The StatefulSet comes last, so that its pods find what they refer to, and only upon the
    /// state that was observed: a stale operator gets a conflict.
    ///
    /// # Errors
    /// The API server's; what was written before stays and is found again.
    pub async fn apply(&self, children: Children, observed: &Observed) -> kube::Result<()> {
        let Children {
            service_account,
            config_map,
            headless_service,
            client_service,
            pod_disruption_budget,
            mut stateful_set,
        } = children;
        let services: BTreeSet<String> = [&headless_service, &client_service].map(ResourceExt::name_any).into();
        let config = config_map.name_any();
        self.ensure(service_account, &observed.service_accounts).await?;
        self.ensure(config_map, &observed.config_maps).await?;
        self.ensure(headless_service, &observed.services).await?;
        self.ensure(client_service, &observed.services).await?;
        self.ensure(pod_disruption_budget, &observed.budgets).await?;
        stateful_set.metadata.resource_version = observed.stateful_set.as_ref().and_then(|set| set.resource_version());
        self.ensure(stateful_set, observed.stateful_set.as_slice()).await?;
        self.prune(&observed.services, |service| services.contains(&service.name_any())).await?;
        self.prune(&observed.config_maps, |map| map.name_any() == config || is_named(map, observed)).await
    }

    /// Makes the signing Secret when it is absent. Another operator that was faster has made the one that counts.
    ///
    /// # Errors
    /// The API server's.
    pub async fn create_auth_secret(&self, cluster: &Cluster, owner: &OwnerReference) -> kube::Result<()> {
        const KEY_BYTES: usize = 64;
        let mut key = [0u8; KEY_BYTES];
        rand::rng().fill(&mut key);
        let secret = desired::auth_secret(cluster, owner, STANDARD.encode(key));
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PostParams::default() };
        metrics::write("secrets", "create");
        match api.create(&params, &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }

    /// Applies an object unless it is so already.
    async fn ensure<K>(&self, mut desired: K, observed: &[Arc<K>]) -> kube::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = desired.name_any();
        // The version is a precondition, not a wish.
        let version = desired.meta_mut().resource_version.take();
        let hash = hash(&desired);
        desired.annotations_mut().insert(names::APPLIED.into(), hash);
        let observed = observed.iter().find(|object| object.name_any() == name);
        if observed.is_some_and(|observed| is_so(&desired, &**observed)) {
            return Ok(());
        }
        desired.meta_mut().resource_version = version;
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        tracing::info!(kind = %K::kind(&()), %name, "applying");
        metrics::write(&K::plural(&()), "patch");
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&with_kind(&desired))).await.map(drop)
    }

    /// Deletes what is not kept.
    async fn prune<K>(&self, observed: &[Arc<K>], keep: impl Fn(&K) -> bool) -> kube::Result<()>
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
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
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
            .any(|revision| revision.data.as_ref().is_some_and(|data| data.0.to_string().contains(&quoted)))
}

/// Whether the StatefulSet has the desired template, whatever its window.
pub fn has_template(observed: &StatefulSet, desired: &StatefulSet) -> bool {
    let template =
        |set: &StatefulSet| set.spec.as_ref().map(|spec| serde_json::to_value(&spec.template).unwrap_or(Value::Null));
    let applied = |set: &StatefulSet| set.annotations().get(TEMPLATE).cloned();
    match (template(desired), template(observed)) {
        (Some(desired_template), Some(live)) => applied(observed) == applied(desired) && same(&desired_template, &live),
        _ => false,
    }
}

/// The annotation that tells which template was applied.
const TEMPLATE: &str = "chatcluster.dev/template";

/// Notes on a StatefulSet which template it has.
pub fn note_template(mut set: StatefulSet) -> StatefulSet {
    let hash = set.spec.as_ref().map(|spec| hash(&spec.template)).unwrap_or_default();
    set.annotations_mut().insert(TEMPLATE.into(), hash);
    set
}

fn is_so<K: Resource<DynamicType = ()> + Serialize>(desired: &K, observed: &K) -> bool {
    let value = |object: &K| serde_json::to_value(object).unwrap_or(Value::Null);
    same(&value(desired), &value(observed))
}

fn hash<T: Serialize>(value: &T) -> String {
    // Struct fields and ordered maps always encode in the same order.
    hex(&Sha256::digest(serde_json::to_vec(value).unwrap_or_default()))
}

/// Server-side apply needs to be told the kind, which the types know but do not carry.
fn with_kind<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or(Value::Null);
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), K::api_version(&()).into());
        map.insert("kind".into(), K::kind(&()).into());
    }
    value
}

//! The only reads: everything that a decision about one cluster rests on, at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::{ChatCluster, NodeStatus, chatcluster::Window};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{ConfigMap, Node, Pod, PodTemplateSpec, Secret, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, Client, ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    bindings::{self, SecretData},
    caches::{self, Caches},
    contents::Contents,
    desired,
    ending::{self, Left},
    names,
    nodes::Nodes,
    pods,
    probes::{Probes, Told},
    rollout::{Policy, Scene, SetView},
    template,
};

/// HTTP status of what the operator has no right to.
const FORBIDDEN: u16 = 403;

/// What was observed of one cluster.
pub struct Observed {
    /// Its StatefulSet.
    pub stateful_set: Option<StatefulSet>,
    /// Its Services.
    pub services: Vec<Service>,
    /// Its ConfigMaps.
    pub config_maps: Vec<ConfigMap>,
    /// Its ServiceAccounts.
    pub service_accounts: Vec<ServiceAccount>,
    /// Its PodDisruptionBudgets.
    pub budgets: Vec<PodDisruptionBudget>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its revisions.
    pub revisions: Vec<ControllerRevision>,
    /// Endpoints of its Services.
    pub slices: Vec<EndpointSlice>,
    /// What its bindings depend on.
    pub read: bindings::Read,
    /// What its ready nodes told, by pod.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// What the first of its nodes that cannot use something says of it.
    pub trouble: Option<String>,
    /// Pods that should be gone by now, but whose machine is dead.
    pub lost: BTreeSet<String>,
}

/// Reads for reconciles, and remembers what need not be read again.
pub struct Observer {
    client: Client,
    caches: Caches,
    probes: Probes,
    contents: Contents,
}

impl Observer {
    /// Reads from these caches.
    pub fn new(client: Client, caches: Caches, asks: Arc<dyn Nodes>) -> Self {
        Observer { client, caches, probes: Probes::new(asks), contents: Contents::default() }
    }

    /// Observes a cluster.
    ///
    /// # Errors
    /// When the API server cannot be asked for what no cache holds.
    pub async fn observe(&self, cluster: &ChatCluster, now: Timestamp) -> kube::Result<Observed> {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let caches = &self.caches;
        let stateful_set = self.stateful_set(&namespace, &name);
        let read = self.read(cluster, &namespace).await?;
        let pods = caches.pods.of(&namespace, &name);
        let Told { nodes, trouble, .. } = self.probes.status(cluster, &pods, now).await;
        let lost = self.lost(&pods, now).await?;
        Ok(Observed {
            stateful_set,
            services: caches.services.of(&namespace, &name),
            config_maps: caches.config_maps.of(&namespace, &name),
            service_accounts: caches.service_accounts.of(&namespace, &name),
            budgets: caches.budgets.of(&namespace, &name),
            revisions: caches.revisions.of(&namespace, &name),
            slices: caches.slices.of(&namespace, &name),
            pods,
            read,
            nodes,
            trouble,
            lost,
        })
    }

    /// What is read from, which learns of what is written.
    pub fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Looks what is left of a cluster that is being deleted.
    ///
    /// # Errors
    /// When the API server cannot be asked whether a machine is dead.
    pub async fn left(&self, cluster: &ChatCluster, now: Timestamp) -> kube::Result<Left> {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let pods = self.caches.pods.of(&namespace, &name);
        let mut managed = Vec::new();
        for reference in bindings::foreign(cluster) {
            if let bindings::Found::Present(object) = self.caches.kinds.find(&reference, &namespace).await
                && object.owner_references().iter().any(|owner| ending::is_to(cluster, owner))
            {
                managed.push((reference, object));
            }
        }
        let lost = self.lost(&pods, now).await?;
        Ok(Left { stateful_set: self.stateful_set(&namespace, &name), pods, managed, lost })
    }

    /// The StatefulSet of a cluster.
    fn stateful_set(&self, namespace: &str, cluster: &str) -> Option<StatefulSet> {
        self.caches.stateful_sets.of(namespace, cluster).into_iter().find(|set| set.name_any() == cluster)
    }

    /// Forgets a cluster that is gone, and the Secrets that nobody else refers to.
    pub async fn forget(&self, cluster: &ObjectRef<ChatCluster>) {
        self.probes.forget(cluster).await;
        let of_nobody = self.caches.interest.set(cluster, BTreeSet::new());
        self.forget_contents(cluster.namespace.as_deref().unwrap_or_default(), &of_nobody);
    }

    /// Reads what the bindings of a cluster depend on.
    async fn read(&self, cluster: &ChatCluster, namespace: &str) -> kube::Result<bindings::Read> {
        let mut read = bindings::Read::default();
        for object in bindings::foreign(cluster) {
            let found = self.caches.kinds.find(&object, namespace).await;
            read.found.insert(object, found);
        }
        let secrets = bindings::secrets(cluster, &read.found);
        let of_nobody = self.caches.interest.set(&ObjectRef::from_obj(cluster), secrets.clone());
        self.forget_contents(namespace, &of_nobody);
        for secret in secrets {
            let data = self.secret(namespace, &secret).await?;
            read.secrets.insert(secret, data);
        }
        read.token_is_strange = self.token_is_strange(cluster, namespace);
        Ok(read)
    }

    /// Whether a Secret has the name of the one that the operator makes, and is not this cluster's.
    fn token_is_strange(&self, cluster: &ChatCluster, namespace: &str) -> bool {
        let is_made = cluster.spec.auth.as_ref().is_none_or(|auth| auth.token_secret.is_none());
        let reference = ObjectRef::new(&names::auth_secret(&cluster.name_any())).within(namespace);
        let there = self.caches.secrets.get(&reference).filter(|_| is_made);
        there.is_some_and(|secret| {
            secret.owner_references().iter().all(|owner| Some(&owner.uid) != cluster.uid().as_ref())
        })
    }

    /// Forgets the contents of Secrets that nobody refers to any more.
    fn forget_contents(&self, namespace: &str, of_nobody: &[String]) {
        of_nobody.iter().for_each(|name| self.contents.forget(namespace, name));
    }

    /// Reads a Secret, unless the version that the watch tells was read before.
    async fn secret(&self, namespace: &str, name: &str) -> kube::Result<SecretData> {
        let reference = ObjectRef::new(name).within(namespace);
        let version = self.caches.secrets.get(&reference).and_then(|secret| secret.resource_version());
        let known = self.contents.get(namespace, name, version.as_deref());
        if known.is_some() {
            return Ok(known);
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = if version.is_some() { api.get_opt(name).await? } else { None };
        let Some(secret) = secret else {
            self.contents.forget(namespace, name);
            return Ok(None);
        };
        Ok(Some(self.contents.read(namespace, name, secret)))
    }

    /// Takes in a Secret that was made just now: no watch has told of it yet.
    pub fn learn(&self, observed: &mut Observed, namespace: &str, secret: Secret) {
        let name = secret.name_any();
        let entries = self.contents.made(namespace, &name, secret);
        observed.read.secrets.insert(name, Some(entries));
    }

    /// Has the nodes of these pods test themselves. Tells whether all passed.
    pub async fn self_test(&self, cluster: &ChatCluster, observed: &Observed, pods: &[String]) -> bool {
        self.probes.self_test(cluster, &observed.pods, pods).await
    }

    /// Pods that should be gone by now, but whose machine is dead. Machines are asked for only when a pod is overdue; an operator that
    /// may not read them goes by what Kubernetes has written on the pod when it gave the machine up.
    async fn lost(&self, pods: &[Pod], now: Timestamp) -> kube::Result<BTreeSet<String>> {
        let mut lost = BTreeSet::new();
        for pod in pods.iter().filter(|pod| pods::is_overdue(pod, now)) {
            let Some(machine) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { continue };
            let dead = match Api::<Node>::all(self.client.clone()).get_opt(&machine).await {
                Ok(machine) => machine.is_none_or(|machine| !is_up(&machine)),
                Err(kube::Error::Api(refusal)) if refusal.code == FORBIDDEN => pods::was_given_up(pod),
                Err(error) => return Err(error),
            };
            if dead {
                lost.insert(pod.name_any());
            }
        }
        Ok(lost)
    }
}

impl Observed {
    /// What a rollout depends on. `spec_hash` is that of the desired template, and `template_current` tells whether the StatefulSet
    /// has it.
    pub fn scene(&self, cluster: &ChatCluster, policy: Policy, spec_hash: String, template_current: bool) -> Scene {
        let name = cluster.name_any();
        let client_service = self.services.iter().find(|service| service.name_any() == name);
        let complete = self.revisions.iter().filter(|revision| revision.data.is_some());
        let revisions = complete.map(|revision| (revision.name_any(), revision.revision)).collect();
        Scene {
            policy,
            spec_hash,
            command: cluster.annotations().get(names::ROLLOUT).cloned(),
            set: self.stateful_set.as_ref().and_then(|set| set_view(set, template_current)),
            pods: pods::views(&self.pods, &name, &self.lost),
            serving: client_service.and_then(desired::serving),
            endpoints: self.endpoints(&name),
            revisions,
            nodes: self.nodes.clone(),
            previous: cluster.status.as_ref().and_then(|status| status.rollout.clone()),
        }
    }

    /// The pods' template of a revision.
    pub fn template(&self, revision: &str) -> Option<PodTemplateSpec> {
        caches::template(self.revisions.iter().find(|observed| observed.name_any() == revision)?)
    }

    /// Names of the pods behind the ready endpoints of a Service.
    fn endpoints(&self, service: &str) -> BTreeSet<String> {
        let of_service = |slice: &&EndpointSlice| {
            slice.labels().get("kubernetes.io/service-name").map(String::as_str) == Some(service)
        };
        let endpoints = self.slices.iter().filter(of_service).flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints
            // The API server's advice: no word about readiness means ready.
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true))
            .filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone())
            .collect()
    }
}

fn set_view(set: &StatefulSet, template_current: bool) -> Option<SetView> {
    let spec = set.spec.as_ref()?;
    let status = set.status.clone().unwrap_or_default();
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    Some(SetView {
        window: Window {
            start: spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0),
            replicas: spec.replicas.unwrap_or(1),
            partition: rolling.and_then(|rolling| rolling.partition).unwrap_or(0),
        },
        template_current,
        noted: template::noted(set),
        fresh: status.observed_generation.is_some() && status.observed_generation == set.metadata.generation,
        current_revision: status.current_revision.unwrap_or_default(),
        update_revision: status.update_revision.unwrap_or_default(),
    })
}

fn is_up(machine: &Node) -> bool {
    let conditions = machine.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True")
}

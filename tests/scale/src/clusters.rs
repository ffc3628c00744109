//! The ChatClusters of the benchmark, as a user sees them: applied, watched, changed, deleted.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::{ChatCluster, chatcluster::definition};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    fleet::{LABEL, TAINT},
    operator::Operator,
};

/// Where everything happens.
pub(crate) const NAMESPACE: &str = "chatcluster-scale";
/// Requests of the benchmark at once.
const AT_ONCE: usize = 16;
const MANAGER: &str = "scale";

/// The ChatClusters.
pub(crate) struct Clusters {
    api: Api<ChatCluster>,
    client: Client,
    count: usize,
}

impl Clusters {
    /// Makes the CRD current and the namespace; applies none yet.
    pub(crate) async fn new(client: Client, count: usize) -> Result<Self> {
        let params = PatchParams::apply(MANAGER).force();
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let crd = definition();
        crds.patch("chatclusters.chatcluster.dev", &params, &Patch::Apply(&crd)).await.context("apply the CRD")?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        namespaces.patch(NAMESPACE, &params, &Patch::Apply(&namespace)).await.context("apply the namespace")?;
        Ok(Clusters { api: Api::namespaced(client.clone(), NAMESPACE), client, count })
    }

    fn name(index: usize) -> String {
        format!("c{index:04}")
    }

    async fn put(&self, index: usize, spec: Value) -> Result<()> {
        let name = Self::name(index);
        let cluster = json!({
            "apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
        });
        let params = PatchParams::apply(MANAGER).force();
        self.api.patch(&name, &params, &Patch::Apply(&cluster)).await.with_context(|| format!("apply {name}")).map(drop)
    }

    /// Applies all of them.
    pub(crate) async fn apply(&self) -> Result<()> {
        let put = |index| self.put(index, spec(Value::Null));
        stream::iter(0..self.count).map(put).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Waits until the status of each says Ready. Gives when the operator had made all children of all, which a status tells, and when all
    /// were Ready: what lies between is the work of Kubernetes' controllers.
    pub(crate) async fn all_ready(&self, patience: Duration, operator: &mut Operator) -> Result<(Instant, Instant)> {
        let deadline = Instant::now() + patience;
        let mut made = None;
        loop {
            operator.look()?;
            // From the API server's cache, as cheap as such a look can be.
            let list = self.api.list(&ListParams::default().match_any()).await?;
            let ready = list.items.iter().filter(|cluster| is_ready(cluster)).count();
            if made.is_none() && list.items.iter().filter(|cluster| cluster.status.is_some()).count() == self.count {
                made = Some(Instant::now());
            }
            if let (Some(made), true) = (made, ready == self.count) {
                return Ok((made, Instant::now()));
            }
            if Instant::now() > deadline {
                bail!("only {ready} of {} are ready", self.count);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Changes the spec of one and waits until its StatefulSet has another template; gives how long that took.
    pub(crate) async fn change_one(&self) -> Result<Duration> {
        const LOOKS_MAX: usize = 3_000;
        let index = self.count / 2;
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let generation = async || anyhow::Ok(sets.get(&Self::name(index)).await?.metadata.generation);
        let before = generation().await?;
        let began = Instant::now();
        self.put(index, spec(json!({"benchmark": "changed"}))).await?;
        for _ in 0..LOOKS_MAX {
            if generation().await? != before {
                return Ok(began.elapsed());
            }
            sleep(Duration::from_millis(10)).await;
        }
        bail!("the change of {} was not reflected", Self::name(index))
    }

    /// Deletes all, and the namespace, and waits until both are gone: the pods need their pretended kubelet until then.
    pub(crate) async fn delete(&self, patience: Duration) -> Result<()> {
        self.api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let first = ListParams::default().limit(1);
        until("StatefulSets are left although their ChatClusters are gone", patience, async || {
            Ok(sets.list_metadata(&first).await?.items.is_empty())
        })
        .await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
        until("the namespace does not go", patience, async || Ok(namespaces.get_opt(NAMESPACE).await?.is_none())).await
    }
}

/// Looks each second whether it is so.
async fn until(
    otherwise: &'static str,
    patience: Duration,
    mut is_so: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !is_so().await? {
        ensure!(Instant::now() < deadline, otherwise);
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// The smallest spec, but that its pod goes to the pretended machines.
fn spec(annotations: Value) -> Value {
    let mut pod = json!({"nodeSelector": {LABEL: "true"}, "tolerations": [{"key": TAINT, "operator": "Exists"}]});
    if !annotations.is_null() {
        pod["annotations"] = annotations;
    }
    json!({"pod": pod})
}

fn is_ready(cluster: &ChatCluster) -> bool {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

//! What happened to pods, written down by a watch as it happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::Mutex, task::JoinHandle};

/// A pod at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Its name.
    pub name: String,
    /// Its id: a pod that is made again has another.
    pub uid: String,
    /// How often its containers were started again.
    pub restarts: i32,
    /// Its revision.
    pub revision: String,
    /// Whether it is ready and not leaving.
    pub serves: bool,
    /// Whether it is gone.
    pub gone: bool,
}

/// Writes down what happens to a cluster's pods until it is dropped.
pub struct PodWatch {
    sights: Arc<Mutex<Vec<Sight>>>,
    task: JoinHandle<()>,
}

impl PodWatch {
    /// Begins to watch.
    pub fn begin(client: &Client, namespace: &str, cluster: &str) -> PodWatch {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let config = watcher::Config::default().labels(&format!("app.kubernetes.io/instance={cluster}"));
        let sights = Arc::new(Mutex::new(Vec::new()));
        let writes = sights.clone();
        let task = tokio::spawn(async move {
            let events = watcher(api, config).default_backoff();
            let _ = events
                .try_for_each(|event| {
                    let writes = writes.clone();
                    async move {
                        let sight = match event {
                            watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => sight(&pod, false),
                            watcher::Event::Delete(pod) => sight(&pod, true),
                            watcher::Event::Init | watcher::Event::InitDone => return Ok(()),
                        };
                        writes.lock().await.push(sight);
                        Ok(())
                    }
                })
                .await;
        });
        PodWatch { sights, task }
    }

    /// Everything that was seen.
    pub async fn sights(&self) -> Vec<Sight> {
        self.sights.lock().await.clone()
    }
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn sight(pod: &Pod, gone: bool) -> Sight {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True");
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    Sight {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        restarts: containers.map(|container| container.restart_count).sum(),
        revision: pod.labels().get("controller-revision-hash").cloned().unwrap_or_default(),
        serves: ready && pod.metadata.deletion_timestamp.is_none() && !gone,
        gone,
    }
}

/// The fewest pods that served at any moment, from the first one at which `at_least` did.
pub fn fewest_serving(sights: &[Sight], at_least: usize) -> Option<usize> {
    let mut serving: BTreeMap<&str, bool> = BTreeMap::new();
    let mut fewest = None;
    for sight in sights {
        serving.insert(&sight.uid, sight.serves);
        let count = serving.values().filter(|serves| **serves).count();
        if fewest.is_some() || count >= at_least {
            fewest = Some(fewest.unwrap_or(count).min(count));
        }
    }
    fewest
}

/// Names under which more than one pod was seen, or one whose container was started again: pods that were restarted in place.
pub fn made_again(sights: &[Sight]) -> BTreeSet<String> {
    let mut lives: BTreeMap<&str, BTreeSet<(&str, i32)>> = BTreeMap::new();
    for sight in sights {
        lives.entry(&sight.name).or_default().insert((&sight.uid, sight.restarts));
    }
    lives.into_iter().filter(|(_, lives)| lives.len() > 1).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, uid: &str, serves: bool) -> Sight {
        Sight { name: name.into(), uid: uid.into(), restarts: 0, revision: String::new(), serves, gone: false }
    }

    #[test]
    fn the_fewest_serving_pods_and_those_made_again_are_found() {
        let sights = [
            seen("demo-0", "a", true),
            seen("demo-1", "b", true),
            seen("demo-2", "c", true),
            seen("demo-0", "a", false),
            seen("demo-0", "d", true),
            Sight { restarts: 1, ..seen("demo-2", "c", true) },
        ];
        assert_eq!(fewest_serving(&sights, 2), Some(2));
        assert_eq!(fewest_serving(&sights[..1], 2), None);
        assert_eq!(made_again(&sights), BTreeSet::from(["demo-0", "demo-2"].map(str::to_owned)));
    }
}

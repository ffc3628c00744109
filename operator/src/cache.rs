//! A cache: what a watch told of the objects of one kind, by the cluster that they belong to.
//!
//! Holds each object as its text, which is a tenth of the same as a tree, and reads it when somebody asks: there are many objects, and few are
//! looked at in any one second. What the operator wrote itself counts until the watch has told of it. It must never ask anybody.

use std::{
    collections::{BTreeSet, HashMap},
    marker::PhantomData,
    sync::Arc,
};

use crds::ChatCluster;
use kube::{
    Resource, ResourceExt,
    runtime::{reflector::ObjectRef, watcher::Event},
};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::names;

/// The objects of one kind.
pub struct Cache<K> {
    namespaces: Arc<Mutex<Namespaces>>,
    is_filled: watch::Receiver<bool>,
    kind: PhantomData<fn() -> K>,
}

/// What fills a cache. A cache of which it is gone is never filled.
pub struct Filler<K> {
    cache: Cache<K>,
    is_filled: watch::Sender<bool>,
    /// Lists that have begun; what the last one does not name is gone.
    lists: u64,
}

/// A watch has ended, which none does by itself.
#[derive(Debug, thiserror::Error)]
#[error("a watch has ended")]
pub struct Ended;

type Namespaces = HashMap<String, Namespace>;

#[derive(Default)]
struct Namespace {
    objects: HashMap<String, Kept>,
    /// Names of each cluster's objects.
    clusters: HashMap<String, BTreeSet<String>>,
}

struct Kept {
    told: Text,
    /// The list in which, or after which, it was told.
    list: u64,
    written: Option<Written>,
}

/// An object as this operator wrote it, while the watch still tells of what it was before. A decision must not rest on what was changed by an
/// earlier one: a Service that seems to lead elsewhere would have the nodes behind it taken for idle.
struct Written {
    text: Text,
    /// Versions upon which it was written.
    superseded: BTreeSet<String>,
}

#[derive(Clone)]
struct Text {
    version: String,
    cluster: Arc<str>,
    json: Arc<[u8]>,
}

/// A cache, and what fills it.
pub fn new<K>() -> (Cache<K>, Filler<K>) {
    let (sender, is_filled) = watch::channel(false);
    let cache = Cache { namespaces: Arc::default(), is_filled, kind: PhantomData };
    (cache.clone(), Filler { cache, is_filled: sender, lists: 0 })
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Cache { namespaces: self.namespaces.clone(), is_filled: self.is_filled.clone(), kind: PhantomData }
    }
}

impl<K> Cache<K> {
    /// Waits until it was filled once.
    ///
    /// # Errors
    /// When the watch has ended.
    pub async fn ready(&self) -> Result<(), Ended> {
        self.is_filled.clone().wait_for(|is_filled| *is_filled).await.map(drop).map_err(|_| Ended)
    }
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Cache<K> {
    /// The objects of a cluster, by name: a decision must not depend on the order in which they came. Costs what they are, not what
    /// the cache holds.
    pub fn of(&self, namespace: &str, cluster: &str) -> Vec<K> {
        // What was written here can be read again.
        self.texts(namespace, cluster).iter().filter_map(|text| serde_json::from_slice(&text.json).ok()).collect()
    }

    fn texts(&self, namespace: &str, cluster: &str) -> Vec<Text> {
        let mut namespaces = self.namespaces.lock();
        let Some(Namespace { objects, clusters }) = namespaces.get_mut(namespace) else { return Vec::new() };
        let names = clusters.get(cluster).into_iter().flatten();
        names.filter_map(|name| Some(objects.get_mut(name)?.counts().clone())).collect()
    }

    /// Takes in what an object has become by a write upon a version of it. What was made only now is not taken in: whoever misses it and makes it
    /// again gets a conflict.
    pub fn wrote(&self, upon: &str, object: K) {
        let (namespace, name) = key(&object);
        let mut namespaces = self.namespaces.lock();
        let kept = namespaces.get_mut(&namespace).and_then(|namespace| namespace.objects.get_mut(&name));
        let (Some(kept), Some(text)) = (kept, Text::of(object)) else { return };
        let before = kept.written.take().filter(|before| before.text.version == upon);
        let mut superseded = before.map(|before| before.superseded).unwrap_or_default();
        superseded.insert(upon.to_owned());
        kept.written = Some(Written { text, superseded });
    }
}

impl<K: Resource<DynamicType = ()> + Serialize> Filler<K> {
    /// Takes in what a watch tells. Gives the clusters that it is about.
    pub fn take_in(&mut self, event: Event<K>) -> Vec<ObjectRef<ChatCluster>> {
        match event {
            Event::Init => {
                self.lists += 1;
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let (namespace, name) = key(&object);
                self.put(&namespace, name, Text::of(object))
            }
            Event::InitDone => {
                self.is_filled.send_replace(true);
                let gone = self.unlisted();
                gone.into_iter().flat_map(|(namespace, name)| self.put(&namespace, name, None)).collect()
            }
            Event::Delete(object) => {
                let (namespace, name) = key(&object);
                self.put(&namespace, name, None)
            }
        }
    }

    /// What was there before the last list, and was not in it.
    fn unlisted(&self) -> Vec<(String, String)> {
        let namespaces = self.cache.namespaces.lock();
        let all = namespaces.iter().flat_map(|(name, within)| within.objects.iter().map(move |object| (name, object)));
        all.filter(|(_, (_, kept))| kept.list < self.lists)
            .map(|(namespace, (name, _))| (namespace.clone(), name.clone()))
            .collect()
    }

    /// Puts what is told of an object in place of what was. Gives the clusters whose it was and is.
    fn put(&self, namespace: &str, name: String, told: Option<Text>) -> Vec<ObjectRef<ChatCluster>> {
        let mut namespaces = self.cache.namespaces.lock();
        let within = namespaces.entry(namespace.to_owned()).or_default();
        let before = within.objects.remove(&name);
        let was = before.as_ref().map(|kept| kept.told.cluster.clone());
        let is = told.as_ref().map(|told| told.cluster.clone());
        if was != is {
            was.iter().for_each(|cluster| within.leave(cluster, &name));
        }
        if let Some(told) = told {
            within.clusters.entry(told.cluster.to_string()).or_default().insert(name.clone());
            let written = before.and_then(|kept| kept.written);
            within.objects.insert(name, Kept { told, list: self.lists, written });
        } else if within.objects.is_empty() {
            namespaces.remove(namespace);
        }
        let clusters: BTreeSet<_> = [was, is].into_iter().flatten().collect();
        clusters.iter().map(|cluster| ObjectRef::new(cluster).within(namespace)).collect()
    }
}

impl Namespace {
    /// An object is a cluster's no more.
    fn leave(&mut self, cluster: &str, name: &str) {
        if let Some(names) = self.clusters.get_mut(cluster) {
            names.remove(name);
            if names.is_empty() {
                self.clusters.remove(cluster);
            }
        }
    }
}

impl Kept {
    /// What counts: what was written here, until the watch has caught up with it.
    fn counts(&mut self) -> &Text {
        if self.written.as_ref().is_some_and(|written| !written.superseded.contains(&self.told.version)) {
            self.written = None;
        }
        self.written.as_ref().map_or(&self.told, |written| &written.text)
    }
}

impl Text {
    /// An object as its text, unless it is no cluster's. Who wrote which field is left out: nobody asks, and it is the half.
    fn of<K: Resource<DynamicType = ()> + Serialize>(mut object: K) -> Option<Text> {
        object.meta_mut().managed_fields = None;
        let cluster = object.labels().get(names::INSTANCE)?.as_str().into();
        let version = object.resource_version().unwrap_or_default();
        Some(Text { version, cluster, json: serde_json::to_vec(&object).ok()?.into() })
    }
}

/// Namespace and name.
fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(name: &str, version: u32, cluster: &str) -> ConfigMap {
        let object = serde_json::json!({"metadata": {
            "namespace": "chat", "name": name, "resourceVersion": version.to_string(), "labels": {names::INSTANCE: cluster},
            "managedFields": [{"manager": "somebody"}],
        }});
        serde_json::from_value(object).unwrap()
    }

    /// Names and versions of a cluster's objects.
    fn of(cache: &Cache<ConfigMap>, cluster: &str) -> Vec<String> {
        let objects = cache.of("chat", cluster);
        assert!(objects.iter().all(|object| object.metadata.managed_fields.is_none()));
        objects.iter().map(|object| format!("{}:{}", object.name_any(), object.resource_version().unwrap())).collect()
    }

    fn take_in(filler: &mut Filler<ConfigMap>, event: Event<ConfigMap>) -> Vec<String> {
        filler
            .take_in(event)
            .into_iter()
            .map(|cluster| format!("{}/{}", cluster.namespace.unwrap(), cluster.name))
            .collect()
    }

    #[tokio::test]
    async fn a_list_takes_the_place_of_what_was_told_before_it() {
        let (cache, mut filler) = new();
        assert!(take_in(&mut filler, Event::Init).is_empty());
        assert_eq!(take_in(&mut filler, Event::InitApply(map("b", 1, "demo"))), ["chat/demo"]);
        assert_eq!(take_in(&mut filler, Event::InitApply(map("a", 2, "demo"))), ["chat/demo"]);
        assert!(!*cache.is_filled.borrow());
        assert!(take_in(&mut filler, Event::InitDone).is_empty());
        cache.ready().await.unwrap();
        assert_eq!(of(&cache, "demo"), ["a:2", "b:1"], "in the order of names");
        assert_eq!(take_in(&mut filler, Event::Apply(map("c", 3, "demo"))), ["chat/demo"]);
        take_in(&mut filler, Event::Init);
        take_in(&mut filler, Event::InitApply(map("a", 4, "demo")));
        assert_eq!(of(&cache, "demo"), ["a:4", "b:1", "c:3"], "a list that has not ended names not all");
        assert_eq!(take_in(&mut filler, Event::InitDone), ["chat/demo", "chat/demo"]);
        assert_eq!(of(&cache, "demo"), ["a:4"]);
        assert_eq!(take_in(&mut filler, Event::Delete(map("a", 5, "demo"))), ["chat/demo"]);
        assert!(cache.namespaces.lock().is_empty(), "nothing is remembered of what is gone");
        drop(filler);
        cache.ready().await.unwrap();
    }

    #[tokio::test]
    async fn a_cache_whose_watch_has_ended_is_never_filled() {
        let (cache, filler) = new::<ConfigMap>();
        drop(filler);
        cache.ready().await.unwrap_err();
    }

    #[test]
    fn an_object_belongs_to_the_cluster_that_its_label_names() {
        let (cache, mut filler) = new();
        take_in(&mut filler, Event::Apply(map("a", 1, "demo")));
        assert_eq!(take_in(&mut filler, Event::Apply(map("a", 2, "other"))), ["chat/demo", "chat/other"]);
        assert_eq!((of(&cache, "demo"), of(&cache, "other")), (vec![], vec!["a:2".to_owned()]));
        let mut without = map("a", 3, "other");
        without.labels_mut().clear();
        assert_eq!(take_in(&mut filler, Event::Apply(without)), ["chat/other"]);
        assert!(cache.of("chat", "other").is_empty());
        assert!(cache.of("elsewhere", "other").is_empty());
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_caught_up() {
        let (cache, mut filler) = new();
        take_in(&mut filler, Event::Apply(map("a", 1, "demo")));
        cache.wrote("1", map("a", 3, "demo"));
        assert_eq!(of(&cache, "demo"), ["a:3"]);
        cache.wrote("3", map("a", 5, "demo"));
        take_in(&mut filler, Event::Apply(map("a", 1, "demo")));
        assert_eq!(of(&cache, "demo"), ["a:5"], "told of the first version again");
        take_in(&mut filler, Event::Apply(map("a", 3, "demo")));
        assert_eq!(of(&cache, "demo"), ["a:5"], "told of the first write");
        take_in(&mut filler, Event::Apply(map("a", 4, "demo")));
        assert_eq!(of(&cache, "demo"), ["a:4"], "somebody else has written in between");
        take_in(&mut filler, Event::Apply(map("a", 3, "demo")));
        assert_eq!(of(&cache, "demo"), ["a:3"], "what was superseded once counts no more");
        cache.wrote("1", map("unknown", 2, "demo"));
        assert_eq!(of(&cache, "demo"), ["a:3"]);
    }
}

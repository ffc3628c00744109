//! Who refers to which Secret.
//!
//! Owns the answer to two questions: which clusters a changed Secret wakes, and which contents may be forgotten. It holds names alone.

use std::collections::{BTreeSet, HashMap};

use crds::ChatCluster;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

/// The Secrets that each cluster refers to.
#[derive(Default)]
pub struct Interest(Mutex<Index>);

#[derive(Default)]
struct Index {
    secrets: HashMap<ObjectRef<ChatCluster>, BTreeSet<String>>,
    /// The same the other way round: clusters by namespace and Secret.
    clusters: HashMap<(String, String), Vec<ObjectRef<ChatCluster>>>,
}

impl Interest {
    /// Notes what a cluster refers to, before it is read: a change that comes meanwhile wakes. Returns the Secrets that nobody refers to any
    /// more.
    pub fn set(&self, cluster: &ObjectRef<ChatCluster>, secrets: BTreeSet<String>) -> Vec<String> {
        let mut index = self.0.lock();
        let before = if secrets.is_empty() {
            index.secrets.remove(cluster)
        } else {
            index.secrets.insert(cluster.clone(), secrets.clone())
        };
        let before = before.unwrap_or_default();
        let key = |secret: &String| (cluster.namespace.clone().unwrap_or_default(), secret.clone());
        for secret in secrets.difference(&before) {
            index.clusters.entry(key(secret)).or_default().push(cluster.clone());
        }
        let mut of_nobody = Vec::new();
        for secret in before.difference(&secrets) {
            let key = key(secret);
            let Some(clusters) = index.clusters.get_mut(&key) else { continue };
            clusters.retain(|other| other != cluster);
            if clusters.is_empty() {
                index.clusters.remove(&key);
                of_nobody.push(secret.clone());
            }
        }
        of_nobody
    }

    /// The clusters that refer to a Secret.
    pub fn of(&self, namespace: &str, secret: &str) -> Vec<ObjectRef<ChatCluster>> {
        let key = (namespace.to_owned(), secret.to_owned());
        self.0.lock().clusters.get(&key).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_of_interest_as_long_as_somebody_refers_to_it() {
        let interest = Interest::default();
        let cluster = |name: &str| ObjectRef::new(name).within("chat");
        let both = |name: &str| BTreeSet::from(["shared".to_owned(), name.to_owned()]);
        for name in ["a", "b"] {
            assert!(interest.set(&cluster(name), both(name)).is_empty());
            assert!(interest.set(&cluster(name), both(name)).is_empty(), "said twice");
        }
        assert_eq!(interest.of("chat", "a"), [cluster("a")]);
        assert_eq!(interest.of("chat", "shared"), [cluster("a"), cluster("b")]);
        assert!(interest.of("other", "shared").is_empty(), "the same name in another namespace is another Secret");
        assert_eq!(interest.set(&cluster("a"), BTreeSet::new()), ["a"]);
        assert_eq!(interest.set(&cluster("b"), BTreeSet::new()), ["b", "shared"]);
        assert!(interest.of("chat", "shared").is_empty());
    }
}

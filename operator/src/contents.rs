//! Contents of the Secrets that some cluster refers to, each as it was at the version that a watch has told of.
//!
//! Owns what is remembered of them and for how long. It must never ask anybody, and never hold the content of a Secret that nobody refers
//! to.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a Secret that was made here counts before any watch has told of it.
const UNTOLD_MAX: Duration = Duration::from_secs(10);

/// The entries of a Secret.
pub type Entries = BTreeMap<String, Vec<u8>>;

struct Content {
    version: String,
    entries: Entries,
    /// When it was made here; absent when a watch told of it first.
    made: Option<Instant>,
}

/// Contents by namespace and name.
#[derive(Default)]
pub struct Contents(Mutex<HashMap<(String, String), Content>>);

impl Contents {
    /// The entries of a Secret that a watch tells to be at this version, or not to be there; `None` when they have to be read.
    pub fn get(&self, namespace: &str, name: &str, version: Option<&str>) -> Option<Entries> {
        let contents = self.0.lock();
        let content = contents.get(&key(namespace, name))?;
        let counts = match version {
            Some(version) => content.version == version,
            None => content.made.is_some_and(|made| made.elapsed() < UNTOLD_MAX),
        };
        counts.then(|| content.entries.clone())
    }

    /// Remembers a Secret that was read.
    pub fn read(&self, namespace: &str, name: &str, secret: Secret) -> Entries {
        self.remember(namespace, name, secret, None)
    }

    /// Remembers a Secret that was made here, of which no watch has told yet.
    pub fn made(&self, namespace: &str, name: &str, secret: Secret) -> Entries {
        self.remember(namespace, name, secret, Some(Instant::now()))
    }

    fn remember(&self, namespace: &str, name: &str, secret: Secret, made: Option<Instant>) -> Entries {
        let version = secret.resource_version().unwrap_or_default();
        let entries: Entries = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        self.0.lock().insert(key(namespace, name), Content { version, entries: entries.clone(), made });
        entries
    }

    /// Forgets a Secret that is gone, or that nobody refers to any more.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.0.lock().remove(&key(namespace, name));
    }
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_secret_counts_at_its_version_and_one_that_was_made_for_a_while_before_it_is_told() {
        let secret = || Secret {
            metadata: ObjectMeta { resource_version: Some("7".into()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([("key".to_owned(), ByteString(b"k".to_vec()))])),
            ..Secret::default()
        };
        let entries = Entries::from([("key".to_owned(), b"k".to_vec())]);
        let contents = Contents::default();
        assert_eq!(contents.get("chat", "a", None), None);
        contents.read("chat", "a", secret());
        assert_eq!(contents.get("chat", "a", Some("7")), Some(entries.clone()));
        assert_eq!(contents.get("chat", "a", Some("8")), None, "it has changed");
        assert_eq!(contents.get("chat", "a", None), None, "it is gone");
        contents.made("chat", "b", secret());
        assert_eq!(contents.get("chat", "b", None), Some(entries.clone()));
        assert_eq!(contents.get("chat", "b", Some("7")), Some(entries));
        tokio::time::advance(UNTOLD_MAX).await;
        assert_eq!(contents.get("chat", "b", None), None);
        contents.forget("chat", "b");
        assert_eq!(contents.get("chat", "b", Some("7")), None);
    }
}

//! What the API server holds: objects, their versions, and the log of changes that watches are fed from.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use super::{
    fields::{Managers, managed_fields},
    kinds,
};
use crate::clock;

/// Kind (by plural), namespace and name.
pub type Key = (&'static str, String, String);

/// Who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The operator under test.
    Operator,
    /// The user, or anybody else who is none of the others.
    User,
    /// Kubernetes: its controllers and kubelets.
    Kubernetes,
}

/// An object and who owns its fields.
#[derive(Clone, Debug)]
pub struct Stored {
    /// As clients see it.
    pub value: Arc<Value>,
    /// The owners of its fields.
    pub managers: Managers,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// Version of the change. Changes are numbered without holes.
    pub version: u64,
    /// The object.
    pub key: Key,
    /// Who changed it.
    pub who: Who,
    /// When.
    pub at: Instant,
    /// The object before; `None` when it was created.
    pub before: Option<Arc<Value>>,
    /// The object afterwards; for a deletion its last state.
    pub object: Arc<Value>,
    /// Whether it is gone.
    pub deleted: bool,
}

/// The objects.
#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Key, Stored>,
    log: Vec<Arc<Change>>,
    uids: u64,
    /// Wakes in the order in which they began to wait: tokio's channels wake by chance.
    bell: Arc<Notify>,
}

impl Store {
    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.log.len() as u64
    }

    /// Every change so far.
    pub fn log(&self) -> &[Arc<Change>] {
        &self.log
    }

    /// Rings at each change, for all who wait.
    pub fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    /// One object.
    pub fn get(&self, plural: &'static str, namespace: &str, name: &str) -> Option<&Stored> {
        self.objects.get(&(plural, namespace.to_owned(), name.to_owned()))
    }

    /// One object, as JSON.
    pub fn value(&self, plural: &'static str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.get(plural, namespace, name).map(|stored| stored.value.clone())
    }

    /// The objects of a kind in a namespace, or in all, by namespace and name.
    pub fn list<'a>(
        &'a self,
        plural: &'static str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Value>> {
        self.objects
            .iter()
            .filter(move |((kind, of, _), _)| *kind == plural && namespace.is_none_or(|namespace| namespace == of))
            .map(|(_, stored)| &stored.value)
    }

    /// Every object.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Stored)> {
        self.objects.iter()
    }

    /// A name that nothing had before.
    pub fn new_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.uids)
    }

    /// Puts an object, unless it is so already. Sets its version, and what else the server keeps.
    pub fn put(&mut self, key: Key, mut value: Value, managers: Managers, who: Who) -> Arc<Value> {
        let before = self.objects.get(&key).cloned();
        if let Some(before) = &before {
            value["metadata"]["managedFields"] = before.value["metadata"]["managedFields"].clone();
            value["metadata"]["resourceVersion"] = before.value["metadata"]["resourceVersion"].clone();
            if *before.value == value && before.managers == managers {
                return before.value.clone();
            }
        }
        let api_version = kinds::of(key.0).api_version();
        let version = self.version() + 1;
        value["metadata"]["managedFields"] = managed_fields(&managers, &api_version, &clock::text());
        value["metadata"]["resourceVersion"] = json!(version.to_string());
        let value = Arc::new(value);
        self.objects.insert(key.clone(), Stored { value: value.clone(), managers });
        self.note(key, who, before.map(|before| before.value), value.clone(), false);
        value
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &Key, who: Who) {
        let Some(stored) = self.objects.remove(key) else { return };
        let mut last = (*stored.value).clone();
        last["metadata"]["resourceVersion"] = json!((self.version() + 1).to_string());
        self.note(key.clone(), who, Some(stored.value), Arc::new(last), true);
    }

    fn note(&mut self, key: Key, who: Who, before: Option<Arc<Value>>, object: Arc<Value>, deleted: bool) {
        let version = self.version() + 1;
        self.log.push(Arc::new(Change { version, key, who, at: Instant::now(), before, object, deleted }));
        self.bell.notify_waiters();
    }
}

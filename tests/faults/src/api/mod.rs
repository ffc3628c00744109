//! A Kubernetes API server in memory, under a real client.
//!
//! It has what an operator's correctness rests on: versions and conflicts, preconditions, server-side apply with owners of fields,
//! status as a subresource, generations, structural defaults, watches with bookmarks and versions that are gone. It has no
//! authentication, no admission and no CEL. How like the real one it is, `tests/conformance.rs` asks a real one.
//!
//! | file | what it owns |
//! |---|---|
//! | `kinds` | what is served, and how its lists merge |
//! | `store` | objects, versions, the log of changes |
//! | `call`, `refusal` | a request understood; an answer that is a refusal |
//! | `verbs` | what each verb does |
//! | `fields`, `merge` | who owns which field; apply and merge patch |
//! | `defaults`, `rules`, `schema` | what is filled in and what is refused |
//! | `watch` | the log as a stream |
//! | `service` | the server as a `tower::Service` that a `kube::Client` stands on |

pub mod call;
mod defaults;
pub mod fields;
pub mod kinds;
mod merge;
pub mod refusal;
mod rules;
pub mod schema;
mod service;
pub mod store;
mod verbs;
mod watch;

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(crate) use self::verbs::FOREGROUND;
use self::{
    call::{Call, Verb},
    refusal::Refusal,
    service::Calls,
    store::{Store, Who},
};
use crate::plan::Plan;

/// The API server. Clones are the same one.
#[derive(Clone, Default)]
pub struct Server {
    store: Arc<Mutex<Store>>,
    kept_from: Arc<Mutex<u64>>,
}

/// HTTP status and body of an answer, or why there is none.
pub type Answer = Result<(u16, Value), Refusal>;

impl Server {
    /// The objects. Never to be held while waiting.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock()
    }

    /// Rings at each change, for all who wait.
    pub fn bell(&self) -> Arc<Notify> {
        self.store().bell()
    }

    /// A client whose calls go through `plan`, in the name of `who`.
    pub fn client(&self, who: Who, plan: Arc<Plan>) -> kube::Client {
        kube::Client::new(Calls::new(self.clone(), who, plan), "default")
    }

    /// Forgets the log up to now: watches from older versions are told that these are gone.
    pub fn compact(&self) {
        *self.kept_from.lock() = self.store().version();
    }

    fn kept_from(&self) -> u64 {
        *self.kept_from.lock()
    }

    /// Does what a call asks for, at once.
    ///
    /// # Errors
    /// Refusals.
    pub fn serve(&self, call: &Call, who: Who) -> Answer {
        verbs::serve(&mut self.store(), call, who)
    }

    /// One object as it is.
    pub fn get(&self, plural: &'static str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.store().value(plural, namespace, name)
    }

    /// A write by somebody who is not under test.
    ///
    /// # Errors
    /// Refusals.
    pub fn write(&self, verb: Verb, who: Who, plural: &str, namespace: &str, name: &str, body: Value) -> Answer {
        let manager = match who {
            Who::User => "kubectl",
            Who::Kubernetes => "kube-controller-manager",
            Who::Operator => "operator",
        };
        let (name, subresource) = name.split_once('/').unwrap_or((name, ""));
        let call = Call {
            verb,
            kind: kinds::of(plural),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            metadata_only: false,
            query: [("fieldManager".to_owned(), manager.to_owned())].into(),
            body,
        };
        self.serve(&call, who)
    }

    /// Creates an object, or puts a merge patch over it.
    ///
    /// # Errors
    /// Refusals.
    pub fn put(&self, who: Who, plural: &'static str, namespace: &str, name: &str, body: Value) -> Answer {
        if self.get(plural, namespace, name).is_some() {
            return self.write(Verb::Merge, who, plural, namespace, name, body);
        }
        let mut body = body;
        body["metadata"]["name"] = json!(name);
        self.write(Verb::Create, who, plural, namespace, "", body)
    }
}

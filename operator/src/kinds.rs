//! Kinds of other operators, watched while some cluster refers to them.
//!
//! Owns the difference between a kind that is not served and an object that is not there. A CRD may be installed or removed at any time:
//! an absent kind is looked for again, less and less often, and its arrival wakes whoever refers to it. No kind that nobody refers to is
//! watched, and of what is watched no more is kept than a binding depends on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crds::ChatCluster;
use futures::StreamExt;
use kube::{
    Api, Client, Error, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    discovery::{self, Scope},
    error::DiscoveryError,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    bindings::{self, Foreign, Found},
    caches::Wake,
};

/// Kinds that are watched at once besides those two that are known. Beyond them one that is not served makes room, and while all are, a
/// further one stays unknown: users name kinds as they like, and none may keep another user's from being found.
pub const KINDS_MAX: usize = 32;

/// How long a reconcile waits for the first look at a kind.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Bounds of the wait before an absent kind is looked for again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The annotation in which `kubectl apply` leaves the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The watches of one namespace, or of all.
#[derive(Clone)]
pub struct Kinds {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    namespace: Option<String>,
    clusters: Store<ChatCluster>,
    wake: Wake,
    watched: Mutex<HashMap<GroupVersionKind, Watched>>,
}

struct Watched {
    state: watch::Receiver<State>,
    task: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of a kind.
#[derive(Clone)]
enum State {
    Unknown,
    NotInstalled,
    NotNamespaced,
    Forbidden,
    Served(Store<DynamicObject>, ApiResource),
}

impl State {
    /// Which of the kinds that are not served makes room first. A served one never does.
    fn makes_room(&self) -> Option<u8> {
        match self {
            State::NotInstalled => Some(0),
            State::NotNamespaced | State::Forbidden => Some(1),
            State::Unknown => Some(2),
            State::Served(..) => None,
        }
    }

    fn is_like(&self, other: &State) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Kinds {
    /// Watches nothing yet. `clusters` tells who refers to what.
    pub fn new(client: Client, namespace: Option<String>, clusters: Store<ChatCluster>, wake: Wake) -> Self {
        let watched = Mutex::default();
        Kinds { shared: Arc::new(Shared { client, namespace, clusters, wake, watched }) }
    }

    /// Looks an object up, and watches its kind from now on.
    pub async fn find(&self, object: &Foreign, namespace: &str) -> Found {
        let Some(mut state) = self.watch(&object.kind()) else { return Found::Unknown };
        let known = timeout(LOOK_MAX, async {
            let known = state.wait_for(|state| !matches!(state, State::Unknown)).await.ok()?.clone();
            if let State::Served(store, _) = &known {
                store.wait_until_ready().await.ok()?;
            }
            Some(known)
        });
        match known.await.ok().flatten() {
            None | Some(State::Unknown) => Found::Unknown,
            Some(State::NotInstalled) => Found::NotInstalled,
            Some(State::NotNamespaced) => Found::NotNamespaced,
            Some(State::Forbidden) => Found::Forbidden,
            Some(State::Served(store, resource)) => {
                let reference = ObjectRef::new_with(&object.name, resource).within(namespace);
                store.get(&reference).map_or(Found::Absent, Found::Present)
            }
        }
    }

    /// The state of a kind. `None` when there is no room for it.
    fn watch(&self, kind: &GroupVersionKind) -> Option<watch::Receiver<State>> {
        let mut watched = self.shared.watched.lock();
        watched.retain(|kind, watched| !watched.task.is_finished() && self.shared.is_wanted(kind));
        if let Some(watched) = watched.get(kind) {
            return Some(watched.state.clone());
        }
        if !Foreign::is_known(kind) && !has_room(&mut watched) {
            return None;
        }
        let (tell, state) = watch::channel(State::Unknown);
        let task = tokio::spawn(follow(Arc::downgrade(&self.shared), kind.clone(), tell)).abort_handle();
        watched.insert(kind.clone(), Watched { state: state.clone(), task });
        Some(state)
    }
}

/// Whether one more kind can be watched, for which another may have to go. Whoever refers to that one is not told when it is installed, and
/// looks again by itself ([`bindings::Read::may_be_missed`]).
fn has_room(watched: &mut HashMap<GroupVersionKind, Watched>) -> bool {
    let counted = || watched.iter().filter(|(kind, _)| !Foreign::is_known(kind));
    if counted().count() < KINDS_MAX {
        return true;
    }
    let dispensable = counted().filter_map(|(kind, watched)| Some((watched.state.borrow().makes_room()?, kind)));
    let first = dispensable.min_by_key(|(rank, _)| *rank).map(|(_, kind)| kind.clone());
    first.is_some_and(|kind| watched.remove(&kind).is_some())
}

impl Shared {
    fn is_wanted(&self, kind: &GroupVersionKind) -> bool {
        self.clusters.find(|cluster| bindings::foreign(cluster).iter().any(|object| object.kind() == *kind)).is_some()
    }

    /// Wakes the clusters that refer to an object of a kind, or to any.
    async fn wake(&self, kind: &GroupVersionKind, object: Option<&DynamicObject>) {
        let refers = |cluster: &ChatCluster| {
            bindings::foreign(cluster).iter().any(|foreign| {
                let same = |object: &DynamicObject| {
                    foreign.name == object.name_any() && cluster.namespace() == object.namespace()
                };
                foreign.kind() == *kind && object.is_none_or(same)
            })
        };
        for cluster in self.clusters.state_filter(refers) {
            // The receiver lives as long as the controller.
            let _ = self.wake.send(ObjectRef::from_obj(&*cluster)).await;
        }
    }
}

/// Follows a kind until nobody wants it, or the controller has ended.
async fn follow(shared: std::sync::Weak<Shared>, kind: GroupVersionKind, tell: watch::Sender<State>) {
    let mut backoff = BACKOFF_MIN;
    while let Some(shared) = shared.upgrade() {
        let state = look(&shared, &kind, &tell).await;
        let changed = !tell.borrow().is_like(&state);
        tell.send_replace(state);
        if changed {
            backoff = BACKOFF_MIN;
            shared.wake(&kind, None).await;
        }
        if tell.is_closed() {
            return;
        }
        drop(shared);
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Finds a kind and, when it is served, watches it until it no longer is. Tells what it is from then on.
async fn look(shared: &Shared, kind: &GroupVersionKind, tell: &watch::Sender<State>) -> State {
    let (resource, capabilities) = match discovery::pinned_kind(&shared.client, kind).await {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    if capabilities.scope == Scope::Cluster {
        return State::NotNamespaced;
    }
    let api: Api<DynamicObject> = match &shared.namespace {
        Some(namespace) => Api::namespaced_with(shared.client.clone(), namespace, &resource),
        None => Api::all_with(shared.client.clone(), &resource),
    };
    let writer = reflector::store::Writer::<DynamicObject>::new(resource.clone());
    let reader = writer.as_reader();
    let stream =
        watcher(api, watcher::Config::default()).default_backoff().modify(|object| keep_what_matters(object, kind));
    let stream = stream.reflect(writer).touched_objects();
    futures::pin_mut!(stream);
    let mut is_listed = false;
    loop {
        // A kind without any object has no event, and is served all the same.
        let event = tokio::select! {
            listed = reader.wait_until_ready(), if !is_listed => {
                if listed.is_err() {
                    return State::Unknown;
                }
                is_listed = true;
                tell.send_replace(State::Served(reader.clone(), resource.clone()));
                shared.wake(kind, None).await;
                continue;
            }
            event = stream.next() => event,
        };
        match event {
            Some(Ok(object)) => shared.wake(kind, Some(&object)).await,
            Some(Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error))) => {
                match refused(&error) {
                    State::Unknown => {}
                    state => return state,
                }
            }
            Some(Err(_)) => {}
            None => return State::Unknown,
        }
    }
}

/// What an error of the API server says of a kind.
fn refused(error: &Error) -> State {
    match error {
        Error::Discovery(DiscoveryError::MissingKind(_)) => State::NotInstalled,
        Error::Api(status) if status.code == 404 => State::NotInstalled,
        Error::Api(status) if status.code == 403 => State::Forbidden,
        _ => State::Unknown,
    }
}

/// Drops what no binding depends on: others' objects are large, and their status changes all the time. Users name kinds as they like, also
/// that of Secrets, of which nothing may be remembered here.
fn keep_what_matters(object: &mut DynamicObject, kind: &GroupVersionKind) {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    // Of how a database is replicated its `spec` tells; of any other kind the status alone names the Secret, and all of a kind's objects in
    // the whole cluster are kept.
    let fields: &[&str] = if Foreign::is_known(kind) { &["spec", "status"] } else { &["status"] };
    keep(&mut object.data, fields);
    if let Some(status) = object.data.get_mut("status") {
        keep(status, &["binding", "certificates"]);
    }
}

/// Keeps these fields of an object and no other.
fn keep(object: &mut Value, fields: &[&str]) {
    if let Some(map) = object.as_object_mut() {
        map.retain(|name, _| fields.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(object: Value, expected: &Value) {
        let mut object: DynamicObject = serde_json::from_value(object).unwrap();
        let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
        keep_what_matters(&mut object, &kind);
        assert_eq!(&serde_json::to_value(object).unwrap(), expected);
    }

    #[test]
    fn of_a_foreign_object_no_more_is_kept_than_a_binding_depends_on() {
        let metadata = json!({"name": "pg", "namespace": "chat", "annotations": {"kept": "y"}, "ownerReferences": [
            {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1"}]});
        let spec = json!({"instances": 3});
        check(
            json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": metadata, "spec": spec,
                "status": {"certificates": {"serverCASecret": "ca"}, "binding": {"name": "b"}, "phase": "healthy"}}),
            &json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": metadata, "spec": spec,
                "status": {"certificates": {"serverCASecret": "ca"}, "binding": {"name": "b"}}}),
        );
    }

    #[test]
    fn of_a_kind_that_nobody_knows_nothing_but_its_binding_is_kept() {
        let metadata = json!({"name": "p"});
        check(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "a"}]},
                "status": {"phase": "Running"}}),
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {}}),
        );
    }

    #[test]
    fn of_a_secret_that_is_named_as_a_service_nothing_is_kept() {
        let noted =
            json!({"kubectl.kubernetes.io/last-applied-configuration": "{\"stringData\":{\"password\":\"x\"}}"});
        check(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations": noted}, "type": "Opaque",
                "data": {"password": "eA=="}}),
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations": {}}}),
        );
    }
}

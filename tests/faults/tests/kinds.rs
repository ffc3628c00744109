//! Kinds of other operators, of which users name whatever they like: nobody's kinds keep anybody else's from being found.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{convert::Infallible, sync::Arc, time::Duration};

use crds::ChatCluster;
use faults::{
    api::{Server, store::Who},
    clock,
    plan::Plan,
    scenario::NAMESPACE,
    world::Answers,
};
use futures::future::pending;
use http::{Request, Response};
use kube::{
    Client,
    client::Body,
    runtime::{events::Reporter, reflector, watcher},
};
use operator::{
    bindings::{Foreign, Found},
    caches::Caches,
    desired::POD_TEMPLATE_VERSION,
    kinds::{KINDS_MAX, Kinds},
    observe::Observer,
    pace::Pace,
    reconcile::{Context, Verdict, reconcile},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

/// A group in which every kind is served, and none has an object.
const SERVED: &str = "served.example.org/v1";

/// A group that is not there.
const MADE_UP: &str = "made.up.example.org/v1";

/// Kinds of a group, one more than there are places for.
const KINDS: usize = KINDS_MAX + 1;

fn kind(api_version: &str, number: usize) -> Foreign {
    Foreign { api_version: api_version.into(), kind: format!("Kind{number}"), name: "given".into() }
}

fn postgres(binding: Value) -> ChatCluster {
    let spec = json!({"postgres": binding, "rabbitmq": {"secret": {"name": "mq"}}, "auth": {"tokenSecret": {"name": "token"}}});
    ChatCluster::new("demo", serde_json::from_value(spec).unwrap())
}

fn provisioned(Foreign { api_version, kind, name }: &Foreign) -> ChatCluster {
    postgres(json!({"serviceBinding": {"apiVersion": api_version, "kind": kind, "name": name}}))
}

/// The answer of an API server that serves one group, CloudNativePG, and nothing else.
async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().trim_start_matches("/apis/");
    let resource = |kind: String, name: String| json!({"kind": kind, "name": name, "singularName": "", "namespaced": true, "verbs": ["list", "watch"]});
    let (code, body) = match path {
        _ if request.uri().query().is_some_and(|query| query.contains("watch=")) => pending().await,
        SERVED => {
            let kinds = (0..KINDS).map(|number| resource(format!("Kind{number}"), format!("kind{number}s")));
            (200, json!({"groupVersion": SERVED, "resources": kinds.collect::<Vec<_>>()}))
        }
        "postgresql.cnpg.io/v1" => {
            (200, json!({"groupVersion": path, "resources": [resource("Cluster".into(), "clusters".into())]}))
        }
        _ if path.starts_with(SERVED) || path.starts_with("postgresql.cnpg.io/v1") => {
            (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}))
        }
        _ => (404, json!({"kind": "Status", "status": "Failure", "message": "", "reason": "NotFound", "code": 404})),
    };
    let response = Response::builder().status(code).header("content-type", "application/json");
    Ok(response.body(Body::from(body.to_string().into_bytes())).unwrap())
}

/// The watches of an operator whose clusters name all of these kinds.
fn kinds() -> (Kinds, mpsc::Receiver<reflector::ObjectRef<ChatCluster>>) {
    let (clusters, mut writer) = reflector::store();
    let numbered = [SERVED, MADE_UP].into_iter().flat_map(|group| (0..KINDS).map(move |number| kind(group, number)));
    let all = numbered.map(|kind| provisioned(&kind)).chain([postgres(json!({"managed": {}}))]);
    for (number, mut cluster) in all.enumerate() {
        cluster.metadata.name = Some(format!("demo-{number}"));
        cluster.metadata.namespace = Some(NAMESPACE.into());
        writer.apply_watcher_event(&watcher::Event::Apply(cluster));
    }
    let (wake, wakes) = mpsc::channel(1_024);
    (Kinds::new(Client::new(tower::service_fn(answer), NAMESPACE), None, clusters, wake), wakes)
}

async fn look(kinds: &Kinds, object: &Foreign) -> &'static str {
    match kinds.find(object, NAMESPACE).await {
        Found::NotInstalled => "not installed",
        Found::Absent => "absent",
        Found::Unknown => "unknown",
        other => panic!("{object}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_not_installed_keep_no_other_out() {
    let (kinds, _wakes) = kinds();
    for number in 0..KINDS {
        assert_eq!(look(&kinds, &kind(MADE_UP, number)).await, "not installed", "{number}");
    }
    for number in 0..KINDS_MAX {
        assert_eq!(look(&kinds, &kind(SERVED, number)).await, "absent", "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_two_known_kinds_have_a_place_when_all_others_are_taken() {
    let (kinds, _wakes) = kinds();
    for number in 0..KINDS_MAX {
        assert_eq!(look(&kinds, &kind(SERVED, number)).await, "absent", "{number}");
    }
    assert_eq!(look(&kinds, &kind(SERVED, KINDS_MAX)).await, "unknown", "served ones do not make room");
    assert_eq!(look(&kinds, &Foreign::postgres("demo-postgres")).await, "absent");
    assert_eq!(look(&kinds, &Foreign::rabbitmq("demo-rabbitmq")).await, "not installed");
    assert_eq!(look(&kinds, &kind(SERVED, 0)).await, "absent", "whoever has a place keeps it");
}

/// Seconds until a cluster that waits for its bindings is looked at again; none when it only waits for a change.
async fn again(mut cluster: ChatCluster) -> Option<Duration> {
    clock::begin();
    let server = Server::default();
    cluster.metadata.namespace = Some(NAMESPACE.into());
    let body = json!({"spec": cluster.spec});
    let (_, there) = server.put(Who::User, "chatclusters", NAMESPACE, "demo", body).unwrap();
    let client = server.client(Who::Operator, Arc::new(Plan::default()));
    let (wake, _wakes) = mpsc::channel(1_024);
    let (clusters, mut writer) = reflector::store();
    let cluster: ChatCluster = serde_json::from_value(there).unwrap();
    writer.apply_watcher_event(&watcher::Event::Apply(cluster.clone()));
    let mut watches = JoinSet::new();
    let caches = Caches::start(&client, None, clusters, &wake, &mut watches);
    caches.ready().await.unwrap();
    let context = Context {
        observer: Observer::new(client.clone(), caches, Arc::new(Answers::new(server))),
        recorder: kube::runtime::events::Recorder::new(client.clone(), Reporter::from("operator")),
        client,
        node_image: "chat-node:1".into(),
        pod_template_version: POD_TEMPLATE_VERSION,
        pace: Pace::default(),
        clock: clock::now,
    };
    match Box::pin(reconcile(&cluster, &context)).await.unwrap() {
        Verdict::Done(again) => again,
        Verdict::Invalid => panic!("it is valid"),
    }
}

#[tokio::test(start_paused = true)]
async fn who_refers_to_a_kind_that_is_not_found_looks_again_by_itself() {
    let of_secret = Box::pin(again(postgres(json!({"secret": {"name": "pg"}})))).await;
    assert_eq!(of_secret, None, "a watch tells of a Secret");
    let of_kind = Box::pin(again(provisioned(&kind(MADE_UP, 1)))).await;
    assert_eq!(of_kind, Some(Duration::from_secs(30)));
}

//! One of the two servers: sends requests and remembers what it has seen, so that a request can refer to it.

use std::{collections::BTreeMap, time::Duration};

use faults::{
    api::{Server, store::Who},
    plan::Plan,
};
use http::{Method, Request};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Where everything happens.
pub(crate) const NAMESPACE: &str = "chatcluster-conformance";

/// Looks at something that takes its time, and the time between them.
pub(crate) const LOOKS_MAX: usize = 150;
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// A server, and what was seen of it.
pub(crate) struct Side {
    client: Client,
    seen: BTreeMap<String, Value>,
}

/// An answer: the HTTP status, and the object.
pub(crate) type Answer = (u16, Value);

impl Side {
    /// The server in memory, with its controllers.
    pub(crate) fn model() -> Self {
        let server = Server::default();
        tokio::spawn(faults::world::run(server.clone(), std::sync::Arc::default()));
        Side { client: server.client(Who::User, Plan::default().into()), seen: BTreeMap::new() }
    }

    /// The server that `KUBECONFIG` names, with the custom resource and an empty namespace.
    pub(crate) async fn real() -> Result<Self, String> {
        let client = Client::try_default().await.map_err(|error| format!("no cluster: {error}"))?;
        let mut side = Side { client, seen: BTreeMap::new() };
        let crd = serde_json::to_value(<crds::ChatCluster as kube::CustomResourceExt>::crd()).unwrap_or_default();
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/chatclusters.chatcluster.dev";
        let (code, answer) = side.send("apply", &format!("{path}?fieldManager=conformance&force=true"), &crd).await?;
        if code > 201 {
            return Err(format!("the custom resource cannot be installed: {answer}"));
        }
        let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
        side.send("delete", &namespace, &json!({})).await?;
        for _ in 0..LOOKS_MAX {
            if side.send("get", &namespace, &Value::Null).await?.0 == 404 {
                break;
            }
            sleep(LOOK).await;
        }
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let (code, answer) = side.send("create", "/api/v1/namespaces", &body).await?;
        if code == 201 { Ok(side) } else { Err(format!("the namespace cannot be made: {answer}")) }
    }

    /// Sends a request. `apply`, `merge`, `create`, `replace`, `delete`, `get` or `names` (metadata alone).
    pub(crate) async fn send(&mut self, verb: &str, path: &str, body: &Value) -> Result<Answer, String> {
        let (method, kind) = match verb {
            "apply" => (Method::PATCH, "application/apply-patch+yaml"),
            "merge" => (Method::PATCH, "application/merge-patch+json"),
            "create" => (Method::POST, "application/json"),
            "replace" => (Method::PUT, "application/json"),
            "delete" => (Method::DELETE, "application/json"),
            _ => (Method::GET, "application/json"),
        };
        let accept = match verb {
            "names" => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            _ => "application/json",
        };
        let sent = if body.is_null() { Vec::new() } else { self.fill(&body.to_string()).into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", kind).header("accept", accept);
        let request = request.body(Body::from(sent)).map_err(|error| error.to_string())?;
        let response = self.client.send(request).await.map_err(|error| format!("{verb} {path}: {error}"))?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await.map_err(|error| error.to_string())?;
        let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if let Some(name) = object["metadata"]["name"].as_str().filter(|_| code < 300) {
            self.seen.entry(format!("first {name}")).or_insert_with(|| object.clone());
            self.seen.insert(name.to_owned(), object.clone());
        }
        Ok((code, object))
    }

    /// Puts what was seen in place of `$rv(NAME)`, `$first(NAME)` (its first version) and `$uid(NAME)`.
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, object) in &self.seen {
            let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            match name.strip_prefix("first ") {
                Some(name) => text = text.replace(&format!("$first({name})"), &part("resourceVersion")),
                None => {
                    text = text.replace(&format!("$rv({name})"), &part("resourceVersion"));
                    text = text.replace(&format!("$uid({name})"), &part("uid"));
                }
            }
        }
        text
    }

    /// The version at which an object was last seen.
    pub(crate) fn version(&self, name: &str) -> Value {
        self.seen.get(name).map(|object| object["metadata"]["resourceVersion"].clone()).unwrap_or_default()
    }
}

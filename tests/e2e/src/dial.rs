//! Reaching a node as a load balancer would: a random ready endpoint of the Service, chosen anew for each connection.
//!
//! The way there is a port-forward, which works the same on every Kubernetes, wherever this runs.

use std::{io, sync::Arc};

use chat_load::dial::{Dial, Stream};
use futures::future::BoxFuture;
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, Client, api::ListParams};
use rand::seq::IndexedRandom;

/// The port that a node serves clients on.
const CLIENT_PORT: u16 = 8080;

/// Any ready node behind a Service, or one pod.
pub struct ToNode {
    client: Client,
    namespace: String,
    target: Target,
}

enum Target {
    Service(String),
    Pod(String),
}

impl ToNode {
    /// Any ready node behind a Service.
    pub fn behind(client: &Client, namespace: &str, service: &str) -> Arc<dyn Dial> {
        Arc::new(ToNode {
            client: client.clone(),
            namespace: namespace.into(),
            target: Target::Service(service.into()),
        })
    }

    /// One pod.
    pub fn pod(client: &Client, namespace: &str, pod: &str) -> Arc<dyn Dial> {
        Arc::new(ToNode { client: client.clone(), namespace: namespace.into(), target: Target::Pod(pod.into()) })
    }

    async fn choose(&self) -> io::Result<String> {
        let service = match &self.target {
            Target::Pod(pod) => return Ok(pod.clone()),
            Target::Service(service) => service,
        };
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = api.list(&of_service).await.map_err(io::Error::other)?;
        let endpoints = slices.items.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let ready: Vec<String> = endpoints
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true))
            .filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone())
            .collect();
        ready.choose(&mut rand::rng()).cloned().ok_or_else(|| io::Error::other("no endpoint is ready"))
    }
}

impl Dial for ToNode {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let pod = self.choose().await?;
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
            let mut forward = api.portforward(&pod, &[CLIENT_PORT]).await.map_err(io::Error::other)?;
            let stream = forward.take_stream(CLIENT_PORT).ok_or_else(|| io::Error::other("no stream"))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

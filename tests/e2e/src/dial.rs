//! Reaching a node as a load balancer would: a random ready endpoint of the Service, chosen anew for each connection.
//!
//! Where this machine has a route to the pods, the way there is the pod's address, as for a load balancer. Elsewhere it is a
//! port-forward, which works on every Kubernetes; it leads through the API server, the kubelet and the container runtime, and any of them
//! may cut it.

use std::{io, net::IpAddr, sync::Arc};

use chat_load::dial::{Dial, Stream};
use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::Pod,
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::{Api, Client, api::ListParams};
use rand::seq::IndexedRandom;
use tokio::net::TcpStream;

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

    async fn choose(&self) -> io::Result<Node> {
        match &self.target {
            Target::Pod(pod) => {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
                let found = api.get(pod).await.map_err(io::Error::other)?;
                let address = found.status.and_then(|status| status.pod_ip);
                Ok(Node { pod: pod.clone(), address: address.and_then(|address| address.parse().ok()) })
            }
            Target::Service(service) => {
                let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
                let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
                let slices = api.list(&of_service).await.map_err(io::Error::other)?;
                let endpoints = slices.items.iter().flat_map(|slice| slice.endpoints.iter().flatten());
                let ready: Vec<Node> = endpoints.filter_map(ready).collect();
                ready.choose(&mut rand::rng()).cloned().ok_or_else(|| io::Error::other("no endpoint is ready"))
            }
        }
    }
}

/// One node that may be dialled.
#[derive(Clone)]
struct Node {
    pod: String,
    address: Option<IpAddr>,
}

fn ready(endpoint: &Endpoint) -> Option<Node> {
    let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
    let pod = endpoint.target_ref.as_ref()?.name.clone()?;
    ready.then(|| Node { pod, address: endpoint.addresses.first().and_then(|address| address.parse().ok()) })
}

/// Whether this machine has a route to the pods.
fn pods_are_routed() -> bool {
    std::env::var("CHATCLUSTER_PODS_ARE_ROUTED").is_ok_and(|value| value == "yes")
}

impl Dial for ToNode {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let node = self.choose().await?;
            if let Some(address) = node.address.filter(|_| pods_are_routed()) {
                let stream = TcpStream::connect((address, CLIENT_PORT)).await?;
                stream.set_nodelay(true)?;
                return Ok(Box::new(stream) as Box<dyn Stream>);
            }
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
            let mut forward = api.portforward(&node.pod, &[CLIENT_PORT]).await.map_err(io::Error::other)?;
            let stream = forward.take_stream(CLIENT_PORT).ok_or_else(|| io::Error::other("no stream"))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

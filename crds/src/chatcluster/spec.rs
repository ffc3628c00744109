//! What a user writes.

#![allow(unreachable_pub, reason = "the derive repeats the structs inside of functions")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, transform::RecursiveTransform};
use serde::{Deserialize, Serialize};

use super::{
    auth::AuthSpec,
    bindings::{PostgresBinding, RabbitmqBinding, RedisBinding},
    known_to_kubernetes,
    limits::Limits,
    status::ChatClusterStatus,
    storage::Storage,
    update_strategy::UpdateStrategy,
};
use crate::node_config::{ForwardedHeader, Persistence};

/// A chat service: WebSocket nodes bound to Postgres and RabbitMQ, or one self-contained node.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "chatcluster.dev",
    version = "v1alpha1",
    kind = "ChatCluster",
    plural = "chatclusters",
    shortname = "chat",
    category = "all",
    namespaced,
    doc = "A chat service: WebSocket nodes bound to Postgres and RabbitMQ, or one self-contained node.",
    status = "ChatClusterStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".status.connections"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Rollout", type_ = "string", json_path = ".status.rollout.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Progressing",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Progressing')].reason",
        priority = 1
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Progressing')].message",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    validation = Rule::new("size(self.metadata.name) <= 52")
        .message("metadata.name is longer than 52 characters: choose a shorter one, the names of revisions are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name becomes the name of a Service: start with a letter and use only a-z, 0-9 and '-'"),
    validation = Rule::new("!has(self.spec.postgres) || !has(self.spec.postgres.managed) || size(self.metadata.name) <= 41")
        .message("metadata.name is longer than 41 characters: CloudNativePG takes 50 for <name>-postgres, choose a shorter one"),
    validation = Rule::new("!has(self.spec.rabbitmq) || !has(self.spec.rabbitmq.managed) || size(self.metadata.name) <= 36")
        .message("metadata.name is longer than 36 characters: the pods of <name>-rabbitmq are labelled <name>-rabbitmq-server-<hash>, choose a shorter one")
)]
#[x_kube(
    validation = Rule::new("has(self.postgres) == has(self.rabbitmq)").message(
        "postgres and rabbitmq belong together: set both, or neither for a single self-contained node"
    ),
    validation = Rule::new("self.replicas <= 1 || (has(self.postgres) && has(self.rabbitmq))").message(
        "more than one replica needs a database and a bus to share: set postgres and rabbitmq, or set replicas to 1"
    ),
    validation = Rule::new("!has(self.storage) || !has(self.postgres)").message(
        "storage is the volume of a self-contained node, a bound one keeps nothing: remove storage, or remove postgres and rabbitmq"
    ),
    validation = Rule::new("!has(self.redis) || has(self.postgres)").message(
        "redis keeps the sessions that nodes share: set postgres and rabbitmq, or remove redis"
    ),
    validation = Rule::new("!has(self.persistence) || self.persistence != 'Queued' || has(self.rabbitmq)").message(
        "persistence Queued takes messages through RabbitMQ: set postgres and rabbitmq, or write Direct"
    ),
    validation = Rule::new("has(self.storage) == has(oldSelf.storage)").message(
        "storage cannot be added or removed, a StatefulSet keeps its volume claims: create a second ChatCluster instead"
    ),
    validation = Rule::new("has(self.postgres) == has(oldSelf.postgres)").message(
        "a cluster cannot move between self-contained and bound, its history would stay behind: create a second ChatCluster instead"
    )
)]
#[schemars(transform = RecursiveTransform(known_to_kubernetes))]
#[serde(rename_all = "camelCase")]
pub struct ChatClusterSpec {
    /// Number of chat nodes. More than one needs `postgres` and `rabbitmq`.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// Image of the chat node. Absent: the operator's default, which an existing cluster takes with its next change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// The database. Absent together with `rabbitmq`, one node keeps its history in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresBinding>,

    /// The bus between nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitmqBinding>,

    /// Where sessions live, who is present, and when people were last seen. Absent: in the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisBinding>,

    /// Who may connect. By default the operator makes a signing secret and people can register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,

    /// The volume of a self-contained node. Absent, its history lives as long as its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// How a change of the pods is rolled out.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,

    /// The Service that clients connect to.
    #[serde(default)]
    pub service: ServiceSpec,

    /// Which way a message takes to the database. By default `Direct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,

    /// Bounds on what a client may ask and a node may hold. What is absent has the node's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// What is kept, and for how long. Absent: all history, for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,

    /// What the nodes log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,

    /// Where the nodes' spans go. Absent: nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<Traces>,

    /// The pods that the nodes run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,

    /// Leaves everything as it is: nothing is written but the status.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// The Service that clients connect to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new(
    "!has(self.trustedProxies) || self.trustedProxies.all(p, isIP(p) || (isCIDR(p) && cidr(p) == cidr(p).masked()))"
).message(
    "trustedProxies are ranges of addresses without bits behind their prefix: write them such as 10.0.0.0/8, fd00::/8 or 192.0.2.1"
))]
#[x_kube(validation = Rule::new(
    "!has(self.allowedOrigins) || self.allowedOrigins.all(o, o == '*' || o.matches('^[a-z][a-z0-9+.-]*://[^/?#@* ]+$'))"
).message("allowedOrigins have a scheme and no path: write them such as https://chat.example.org, or \"*\" for any"))]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// How the Service is reached.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
    /// Port of the Service.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Annotations of the Service, for a load balancer's controller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Addresses of the proxies in front of the nodes, as ranges: those of an ingress, or of a load balancer. Only these may say for
    /// whom a connection is made, and with them the limits per address hold behind a `ClusterIP` too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 43)))]
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it. What stands in the other one is not believed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forwarded_header: ForwardedHeader,
    /// Origins whose pages may use the service from a browser, besides those of its own host. `*` for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 300)))]
    pub allowed_origins: Vec<String>,
}

/// How a Service is reached. `NodePort` and `LoadBalancer` keep the client's address (`externalTrafficPolicy: Local`), so that the
/// limits per address hold; behind `ClusterIP` they are off unless there are trusted proxies.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// From within the Kubernetes cluster, or through an ingress.
    #[default]
    ClusterIP,
    /// On a port of every machine.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
}

/// What is kept, and for how long.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Age at which an event leaves a room's log, in days. The latest event of a room stays.
    #[schemars(range(min = 1, max = 36_500))]
    pub history_days: u32,
}

/// What the nodes log.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as `info,chat_node::bus=debug`.
    #[schemars(length(min = 1, max = 512))]
    pub filter: String,
}

/// Where the nodes' spans go, and of how many messages.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.endpoint.matches('^https?://[^/?#@ ]+(/[^?#@ ]*)?$')").message(
    "endpoint is where the collector takes OTLP over HTTP, without a user or a query: write it such as http://collector.monitoring:4318"
))]
#[serde(rename_all = "camelCase")]
pub struct Traces {
    /// A collector that takes OTLP over HTTP (protobuf). `/v1/traces` is added to it.
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: String,
    /// The share of messages that are followed, from 0 to 1. By default 0.01.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub sample_ratio: Option<f64>,
}

/// The pods that the nodes run in.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Further labels. Those of the operator win.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Further annotations. Those of the operator win.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Resources of the container. By default it requests 100m CPU and 64Mi memory, and is limited to 512Mi memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Further environment variables of the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub env: Vec<EnvVar>,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Always|IfNotPresent|Never)$"))]
    pub image_pull_policy: Option<String>,
    /// Secrets with credentials for the image's registry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Labels that a machine must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Where pods may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods spread. By default evenly over machines and zones, as far as possible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        ServiceSpec {
            type_: ServiceType::ClusterIP,
            port: default_port(),
            annotations: BTreeMap::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            allowed_origins: Vec::new(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_port() -> i32 {
    80
}

fn default_replicas() -> i32 {
    1
}

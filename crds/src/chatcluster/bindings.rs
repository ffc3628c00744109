//! Where the database and the bus come from, as a user writes it: four forms, and exactly one of them.

#![allow(unreachable_pub, reason = "the derive repeats the structs inside of functions")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The database: exactly one of `secret`, `cluster`, `serviceBinding` and `managed`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("[has(self.secret), has(self.cluster), has(self.serviceBinding), has(self.managed)].filter(x, x).size() == 1")
        .message(
            "name the database in exactly one way: secret: {name: ...}, cluster: {name: ...}, serviceBinding: {apiVersion, kind, name} or managed: {}"
        )
)]
#[serde(rename_all = "camelCase")]
pub struct PostgresBinding {
    /// A Secret of the same namespace in Service Binding shape: key `uri`, or `host`, `port`, `username`, `password` and `database`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretReference>,
    /// A CloudNativePG `Cluster` of the same namespace: its Secret `<name>-app` and its CA `<name>-ca` are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterReference>,
    /// Any Provisioned Service of the same namespace: an object whose `status.binding.name` names a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_binding: Option<ServiceReference>,
    /// A CloudNativePG `Cluster` that the operator makes, named `<name>-postgres`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedPostgres>,
    /// The certificate authority that the server's certificate is verified with, when the form does not bring one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaReference>,
}

/// The bus: exactly one of `secret`, `cluster`, `serviceBinding` and `managed`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("[has(self.secret), has(self.cluster), has(self.serviceBinding), has(self.managed)].filter(x, x).size() == 1")
        .message(
            "name the bus in exactly one way: secret: {name: ...}, cluster: {name: ...}, serviceBinding: {apiVersion, kind, name} or managed: {}"
        )
)]
#[serde(rename_all = "camelCase")]
pub struct RabbitmqBinding {
    /// A Secret of the same namespace in Service Binding shape: key `uri` or `connection_string`, or `host`, `port`, `username`,
    /// `password` and `vhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretReference>,
    /// A `RabbitmqCluster` of the same namespace: the Secret that its status names, `<name>-default-user`, is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterReference>,
    /// Any Provisioned Service of the same namespace: an object whose `status.binding.name` names a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_binding: Option<ServiceReference>,
    /// A `RabbitmqCluster` that the operator makes, named `<name>-rabbitmq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedRabbitmq>,
    /// The certificate authority that the server's certificate is verified with, when the form does not bring one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaReference>,
}

/// Where sessions live instead of in the database.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RedisBinding {
    /// A Secret of the same namespace in Service Binding shape: key `uri`, or `host`, `port`, `username`, `password` and `database`. The
    /// database belongs to this ChatCluster alone.
    pub secret: SecretReference,
    /// The certificate authority that the server's certificate is verified with, when the Secret does not bring one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaReference>,
}

/// A Secret of the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A cluster resource of another operator, in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReference {
    /// Its name.
    #[schemars(length(min = 1, max = 240), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A Provisioned Service of the same namespace (<https://servicebinding.io/spec/core/1.1.0/#provisioned-service>).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReference {
    /// Its API version, such as `rabbitmq.com/v1beta1`.
    #[schemars(length(min = 1, max = 317), regex(pattern = r"^([-a-z0-9.]+/)?v[a-z0-9]+$"))]
    pub api_version: String,
    /// Its kind, such as `RabbitmqCluster`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A certificate authority in a Secret of the same namespace. It is mounted, never copied.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct CaReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The key with the certificates, in PEM.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A CloudNativePG `Cluster` that belongs to the chat. What is not here can be edited in that resource itself: the operator owns no more
/// of it than it writes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedPostgres {
    /// Instances. From two on, a message is acknowledged only when a second one has it too; with three, one may be away meanwhile.
    #[schemars(range(min = 1, max = 9))]
    pub instances: i32,
    /// Size of the volume of each.
    pub storage: Quantity,
    /// Class of the volumes. Absent, the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Image of PostgreSQL. Absent, CloudNativePG's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Further settings of PostgreSQL, such as `max_connections`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// What becomes of it when the ChatCluster is deleted.
    pub on_delete: OnDelete,
}

/// A `RabbitmqCluster` that belongs to the chat. What is not here can be edited in that resource itself.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedRabbitmq {
    /// Brokers. An odd number: a quorum queue needs a majority of them.
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// Size of the volume of each.
    pub storage: Quantity,
    /// Class of the volumes. Absent, the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Image of RabbitMQ. Absent, the RabbitMQ Cluster Operator's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Secret with `tls.crt`, `tls.key` and `ca.crt`, as cert-manager writes it: the bus then speaks TLS alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<SecretReference>,
    /// What becomes of it when the ChatCluster is deleted.
    pub on_delete: OnDelete,
}

/// What becomes of data when its ChatCluster is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// It stays, and is found again by a ChatCluster of the same name.
    Retain,
    /// It goes too.
    Delete,
}

impl Default for ManagedPostgres {
    fn default() -> Self {
        ManagedPostgres {
            instances: 3,
            storage: Quantity("10Gi".into()),
            storage_class_name: None,
            image: None,
            parameters: BTreeMap::new(),
            on_delete: OnDelete::Delete,
        }
    }
}

impl Default for ManagedRabbitmq {
    fn default() -> Self {
        ManagedRabbitmq {
            replicas: 3,
            storage: Quantity("10Gi".into()),
            storage_class_name: None,
            image: None,
            tls_secret: None,
            on_delete: OnDelete::Delete,
        }
    }
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

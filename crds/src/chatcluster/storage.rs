//! The volume of a self-contained node, as a user writes it.

#![allow(unreachable_pub, reason = "the derive repeats the structs inside of functions")]

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::bindings::OnDelete;

/// The volume of a self-contained node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "self.size == oldSelf.size && has(self.storageClassName) == has(oldSelf.storageClassName) && \
         (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
    )
    .message("the volume cannot be changed, a StatefulSet keeps its volume claims: create a second ChatCluster instead")
)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size of the volume, such as `1Gi`.
    pub size: Quantity,
    /// Class of the volume. Absent, the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the volume when the ChatCluster is deleted.
    #[serde(default = "retain")]
    pub on_delete: OnDelete,
}

fn retain() -> OnDelete {
    OnDelete::Retain
}

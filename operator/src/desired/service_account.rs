//! Who the pods are: nobody to the API server.

use k8s_openapi::{api::core::v1::ServiceAccount, apimachinery::pkg::apis::meta::v1::OwnerReference};

use super::metadata;
use crate::validate::Cluster;

pub(super) fn build(cluster: &Cluster, owner: &OwnerReference) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(cluster, owner, cluster.name.clone()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

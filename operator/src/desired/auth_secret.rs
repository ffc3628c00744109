//! The signing Secret, for clusters that name none.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};

use super::metadata;
use crate::{names, validate::Cluster};

/// Holds `key`, which the caller has drawn. It is created and never overwritten: another key would end every session.
pub fn build(cluster: &Cluster, owner: &OwnerReference, key: String) -> Secret {
    Secret {
        metadata: metadata(cluster, owner, names::auth_secret(&cluster.name)),
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(names::TOKEN_KEY.to_owned(), ByteString(key.into_bytes()))])),
        ..Secret::default()
    }
}

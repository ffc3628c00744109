//! The headless Service: gives each pod a name, ready or not.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::OwnerReference, util::intstr::IntOrString},
};

use super::metadata;
use crate::{names, validate::Cluster};

pub(super) fn build(cluster: &Cluster, owner: &OwnerReference) -> Service {
    Service {
        metadata: metadata(cluster, owner, names::headless(&cluster.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&cluster.name)),
            ports: Some(vec![ServicePort {
                name: Some("admin".into()),
                port: 9090,
                target_port: Some(IntOrString::String("admin".into())),
                protocol: Some("TCP".into()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

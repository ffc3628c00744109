//! The Service that clients connect to. During a rollout it selects one revision.

use crds::chatcluster::ServiceType;
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::OwnerReference, util::intstr::IntOrString},
};

use super::metadata;
use crate::{names, validate::Cluster};

pub(super) fn build(cluster: &Cluster, owner: &OwnerReference, serving: Option<&str>) -> Service {
    let wanted = &cluster.spec.service;
    let mut selector = names::selector(&cluster.name);
    selector.extend(serving.map(|revision| (names::REVISION.to_owned(), revision.to_owned())));
    let (type_, local) = match wanted.type_ {
        ServiceType::ClusterIP => ("ClusterIP", false),
        ServiceType::NodePort => ("NodePort", true),
        ServiceType::LoadBalancer => ("LoadBalancer", true),
    };
    let mut metadata = metadata(cluster, owner, cluster.name.clone());
    if !wanted.annotations.is_empty() {
        metadata.annotations = Some(wanted.annotations.clone());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_.into()),
            // Keeps the client's address, on which the limits per address rest.
            external_traffic_policy: local.then(|| "Local".into()),
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some("client".into()),
                port: wanted.port,
                target_port: Some(IntOrString::String("client".into())),
                protocol: Some("TCP".into()),
                app_protocol: Some("kubernetes.io/ws".into()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The revision that a client Service selects.
pub(crate) fn serving(service: &Service) -> Option<String> {
    service.spec.as_ref()?.selector.as_ref()?.get(names::REVISION).cloned()
}

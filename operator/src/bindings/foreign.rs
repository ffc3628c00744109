//! Objects of other operators, as far as a binding depends on them.
//!
//! Plain data: what is referred to, and what was found. Who watches them is [`crate::kinds`].

use std::{fmt, sync::Arc};

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

/// A reference to an object of another operator, in the namespace of the cluster that refers to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foreign {
    /// Group, with a slash, and version; a version alone for the core group.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// What was found in place of a reference.
#[derive(Clone, Debug)]
pub enum Found {
    /// The kind is not served: its CRD is not installed, or not yet.
    NotInstalled,
    /// The kind belongs to no namespace.
    NotNamespaced,
    /// The operator may not list and watch the kind.
    Forbidden,
    /// The API server could not be asked; it is asked again.
    Unknown,
    /// There is no object of that name.
    Absent,
    /// The object.
    Present(Arc<DynamicObject>),
}

impl Foreign {
    /// A CloudNativePG cluster.
    pub fn postgres(name: &str) -> Self {
        Foreign { api_version: "postgresql.cnpg.io/v1".into(), kind: "Cluster".into(), name: name.into() }
    }

    /// A cluster of the RabbitMQ Cluster Operator.
    pub fn rabbitmq(name: &str) -> Self {
        Foreign { api_version: "rabbitmq.com/v1beta1".into(), kind: "RabbitmqCluster".into(), name: name.into() }
    }

    /// Whether a kind is one of these two, which no other one may ever keep out.
    pub fn is_known(kind: &GroupVersionKind) -> bool {
        [Foreign::postgres(""), Foreign::rabbitmq("")].iter().any(|known| known.kind() == *kind)
    }

    /// Its kind.
    pub fn kind(&self) -> GroupVersionKind {
        let (group, version) = self.api_version.rsplit_once('/').unwrap_or(("", &self.api_version));
        GroupVersionKind::gvk(group, version, &self.kind)
    }

    /// Where the API server has kinds whose plural is the usual one.
    pub fn resource(&self) -> ApiResource {
        ApiResource::from_gvk(&self.kind())
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} ({})", self.kind, self.name, self.api_version)
    }
}

/// The text at a JSON pointer of an object.
pub(super) fn text<'a>(object: &'a DynamicObject, pointer: &str) -> Option<&'a str> {
    object.data.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

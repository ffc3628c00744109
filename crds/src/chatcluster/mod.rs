//! The `ChatCluster` resource, `chatcluster.dev/v1alpha1`: what a user writes and what the operator reports.
//!
//! Owns the schema, its defaults and its rules. Whatever the schema can refuse, it refuses here, in CEL, with a sentence that
//! says what to write instead, so that no webhook and no certificate is needed. It holds no field that nothing honours.

mod spec;
mod status;

pub use spec::{
    AuthSpec, BindingSpec, ChatCluster, ChatClusterSpec, ClusterReference, Limits, Logging, Pod, SecretKeyReference,
    SecretReference, ServiceSpec, ServiceType, Storage, UpdateStrategy,
};
pub use status::{ChatClusterStatus, ConditionType, RolloutPhase, RolloutStatus, Window};

/// API group of the resource.
pub const GROUP: &str = "chatcluster.dev";

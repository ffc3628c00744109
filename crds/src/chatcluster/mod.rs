//! The `ChatCluster` resource, `chatcluster.dev/v1alpha1`: what a user writes and what the operator reports.
//!
//! Owns the schema, its defaults and its rules. Whatever the schema can refuse, it refuses here, in CEL, with a sentence that
//! says what to write instead, so that no webhook and no certificate is needed. It holds no field that nothing honours.

mod auth;
mod bindings;
mod limits;
mod spec;
mod status;
mod storage;
mod update_strategy;

pub use auth::{AuthJwks, AuthKey, AuthSpec, SecretKeyReference};
pub use bindings::{
    CaReference, ClusterReference, ManagedPostgres, ManagedRabbitmq, OnDelete, PostgresBinding, RabbitmqBinding,
    RedisBinding, SecretReference, ServiceReference,
};
pub use limits::{AddressLimits, Limits};
pub use spec::{ChatCluster, ChatClusterSpec, Logging, Pod, Retention, ServiceSpec, ServiceType, Traces};
pub use status::{ChatClusterStatus, ConditionType, LiveGate, RolloutOrder, RolloutPhase, RolloutStatus, Window};
pub use storage::Storage;
pub use update_strategy::{OnFailure, OnInconclusive, UpdateStrategy};

/// API group of the resource.
pub const GROUP: &str = "chatcluster.dev";

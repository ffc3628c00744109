//! The `ChatCluster` resource, `chatcluster.dev/v1alpha1`: what a user writes and what the operator reports.
//!
//! Owns the schema, its defaults and its rules. Whatever the schema can refuse, it refuses here, in CEL, with a sentence that
//! says what to write instead, so that no webhook and no certificate is needed. It holds no field that nothing honours.

mod auth;
mod bindings;
mod definition;
mod limits;
mod spec;
mod status;
mod storage;
mod update_strategy;

use schemars::Schema;

pub use auth::{AuthJwks, AuthKey, AuthSpec, SecretKeyReference};
pub use bindings::{
    CaReference, ClusterReference, ManagedPostgres, ManagedRabbitmq, OnDelete, PostgresBinding, RabbitmqBinding,
    RedisBinding, SecretReference, ServiceReference,
};
pub use definition::definition;
pub use limits::{AddressLimits, Limits};
pub use spec::{ChatCluster, ChatClusterSpec, Logging, Pod, Retention, ServiceSpec, ServiceType, Traces};
pub use status::{ChatClusterStatus, ConditionType, LiveGate, RolloutOrder, RolloutPhase, RolloutStatus, Window};
pub use storage::Storage;
pub use update_strategy::{OnFailure, OnInconclusive, UpdateStrategy};

/// API group of the resource.
pub const GROUP: &str = "chatcluster.dev";

/// Leaves out formats that Kubernetes does not know, of which it warns whoever applies the CRD. The bounds of unsigned numbers stand in
/// `minimum` and `maximum`.
fn known_to_kubernetes(schema: &mut Schema) {
    if schema.get("format").and_then(|format| format.as_str()).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
}

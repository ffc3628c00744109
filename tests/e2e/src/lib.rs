//! What the claims stand on: a real Kubernetes, the operator installed by its chart, and people who talk.
//!
//! | module | what it is |
//! |---|---|
//! | [`stage`] | the cluster under test: the operator's release, its namespace, `kubectl` |
//! | [`dial`] | reaching a node as a load balancer would: any ready endpoint of the Service |
//! | [`people`] | clients with accounts, and the proof from their records |
//! | [`operators`] | CloudNativePG and the RabbitMQ Cluster Operator: their CRDs, and they themselves |
//! | [`pods`] | what happened to pods, written down as it happened |
//!
//! Nothing here knows the operator's or the node's code; only the resource's types are shared.

pub mod dial;
pub mod operators;
pub mod people;
pub mod pods;
pub mod stage;

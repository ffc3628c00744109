//! The contracts of ChatCluster, and nothing else: no client, no clock, no `async`.
//!
//! | module | between | what it is |
//! |---|---|---|
//! | [`chatcluster`] | user and operator | the `ChatCluster` resource (feature `kubernetes`) |
//! | [`node_config`] | operator and node | the file that the operator writes and the node reads |
//! | [`node_status`] | node and operator | what a node answers on its admin port at `/status` |
//! | [`binding`] | Secret and both | which keys of a Secret make a connection URL |
//!
//! The operator and the node meet here and never import each other. Every type can grow: a field that is added later is
//! optional, and one equal to its default is left out of what is written, so that an older reader understands it.

pub mod binding;
#[cfg(feature = "kubernetes")]
pub mod chatcluster;
pub mod node_config;
pub mod node_status;

#[cfg(feature = "kubernetes")]
pub use chatcluster::{ChatCluster, ChatClusterSpec, ChatClusterStatus};
pub use node_config::NodeConfig;
pub use node_status::NodeStatus;

//! The ChatCluster operator.
pub mod rollout;

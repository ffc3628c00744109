//! What the operator is started with.

use std::{collections::BTreeSet, net::SocketAddr};

use clap::{Parser, ValueEnum};

use crate::desired::POD_TEMPLATE_VERSION;

/// The ChatCluster operator.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Settings {
    /// Namespace that is watched; may be given several times. Without it all are.
    #[arg(long = "namespace", env = "CHATCLUSTER_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Image of chat nodes whose spec names none.
    #[arg(long, env = "CHATCLUSTER_NODE_IMAGE", default_value = concat!("chat-node:", env!("CARGO_PKG_VERSION")))]
    pub node_image: String,
    /// Name of the Lease that the leader holds.
    #[arg(long, env = "CHATCLUSTER_LEASE_NAME", default_value = "chatcluster-operator")]
    pub lease_name: String,
    /// Namespace of the Lease. Without it: that of the kubeconfig or of the service account.
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of this process in the Lease and in Events.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Where probes and metrics are served.
    #[arg(long, env = "CHATCLUSTER_ADMIN_ADDR", default_value = "0.0.0.0:8080")]
    pub admin_addr: SocketAddr,
    /// How a log line looks.
    #[arg(long, env = "CHATCLUSTER_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// A level, or a filter such as `info,kube=debug`.
    #[arg(long, env = "CHATCLUSTER_LOG_FILTER", default_value = "info")]
    pub log_filter: String,
    /// Newest shape of the pod template that new pods get; see docs/operations.md.
    #[arg(long, env = "CHATCLUSTER_POD_TEMPLATE_VERSION", default_value_t = POD_TEMPLATE_VERSION,
        value_parser = clap::value_parser!(i32).range(1..=i64::from(POD_TEMPLATE_VERSION)))]
    pub pod_template_version: i32,
    /// Reconciles at once.
    #[arg(long, env = "CHATCLUSTER_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For collectors: one JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Settings {
    /// The namespaces to watch, each by a controller of its own; `None` stands for all.
    pub fn watched(&self) -> Vec<Option<String>> {
        let named: BTreeSet<_> = self.namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
        if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The chart refuses what the process would end over, again and again.
    #[test]
    fn the_chart_takes_the_shapes_that_the_operator_knows() {
        let schema = include_str!("../../helm/chatcluster-operator/values.schema.json");
        let schema: Value = serde_json::from_str(schema).unwrap();
        let version = &schema["properties"]["podTemplateVersion"];
        assert_eq!((&version["minimum"], &version["maximum"]), (&1.into(), &POD_TEMPLATE_VERSION.into()));
    }
}

//! What the operator is told from outside: flags, each with an environment variable.
//!
//! Owns names and defaults. It must never read a cluster.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// Reconciles `ChatCluster` resources into running chat nodes.
#[derive(Clone, Debug, Parser)]
#[command(name = "chat-operator", version, about)]
pub struct Settings {
    /// Namespace to watch; may be repeated. None: all namespaces.
    #[arg(long = "namespace", env = "CHATCLUSTER_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,

    /// Image of chat nodes whose ChatCluster names none.
    #[arg(long, env = "CHATCLUSTER_NODE_IMAGE", default_value = concat!("chat-node:", env!("CARGO_PKG_VERSION")))]
    pub node_image: String,

    /// Name of the Lease that elects the one operator that acts.
    #[arg(long, env = "CHATCLUSTER_LEASE_NAME", default_value = "chatcluster-operator")]
    pub lease_name: String,

    /// Namespace of the Lease. By default the one that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of this process in the Lease and in Events. By default the machine's name and a random part.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,

    /// Address of `/healthz`, `/readyz` and `/metrics`.
    #[arg(long, env = "CHATCLUSTER_ADMIN_ADDR", default_value = "0.0.0.0:8080")]
    pub admin_addr: SocketAddr,

    /// Reconciles that run at once.
    #[arg(long, env = "CHATCLUSTER_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// How a log line looks.
    #[arg(long, env = "CHATCLUSTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// A level (error, warn, info, debug, trace) or a filter such as `info,operator=debug`.
    #[arg(long, env = "CHATCLUSTER_LOG_FILTER", default_value = "info")]
    pub log_filter: String,
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
    /// The parts of the Kubernetes cluster to watch, each with caches and watches of its own.
    pub fn scopes(&self) -> Vec<Scope> {
        let mut namespaces: Vec<&str> = self.namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        match namespaces.is_empty() {
            true => vec![Scope::All],
            false => namespaces.into_iter().map(|name| Scope::Namespace(name.to_owned())).collect(),
        }
    }
}

/// A part of the Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace.
    All,
    /// One namespace.
    Namespace(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(arguments: &[&str]) -> Vec<Scope> {
        Settings::try_parse_from(["chat-operator"].iter().chain(arguments)).unwrap().scopes()
    }

    #[test]
    fn without_a_namespace_all_are_watched() {
        assert_eq!(scopes(&[]), [Scope::All]);
        assert_eq!(scopes(&["--namespace", ""]), [Scope::All]);
    }

    #[test]
    fn each_namespace_is_watched_once() {
        let expected = [Scope::Namespace("a".into()), Scope::Namespace("b".into())];
        assert_eq!(scopes(&["--namespace", "b", "--namespace=a", "--namespace=b"]), expected);
        assert_eq!(scopes(&["--namespace", "a,b"]), expected);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Settings::try_parse_from(["chat-operator", "--concurrency", "0"]).is_err());
        assert!(Settings::try_parse_from(["chat-operator", "--admin-addr", "here"]).is_err());
    }
}

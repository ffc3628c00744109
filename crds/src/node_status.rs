//! `NodeStatus`: what a node answers on its admin port at `/status`.
//!
//! The operator reads it to count connections, to follow a drain and to judge new nodes against old ones. Unknown fields are
//! ignored and absent ones have defaults, because nodes and operator differ in age during every upgrade.

use serde::{Deserialize, Serialize};

/// A node's report of itself at one moment. Counters count since the process started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the node: its pod's name in Kubernetes.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// The pod's `controller-revision-hash`; empty outside Kubernetes.
    pub revision: String,
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// WebSocket connections that are open now.
    pub connections: u64,
    /// Rooms that have a member on this node now.
    pub rooms_resident: u64,
    /// State of the database.
    pub store: Dependency,
    /// Whether the database has a commit on a second machine before it is acknowledged; absent when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_synchronous: Option<bool>,
    /// State of the bus between nodes.
    pub bus: Dependency,
    /// State of the durable queue, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Dependency>,
    /// State of the Redis that sessions live in, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Dependency>,
    /// Messages that clients asked to send.
    pub sends: u64,
    /// Sends that were acknowledged as committed.
    pub sends_committed: u64,
    /// Sends that were acknowledged as accepted: durable, their place to come.
    pub sends_accepted: u64,
    /// Accepted sends of this node's clients that have no place yet.
    pub sends_waiting: u64,
    /// Sends that ended with an error that was not the client's fault.
    pub sends_failed: u64,
    /// Events written to connections.
    pub deliveries: u64,
    /// Time from a send's arrival to its acknowledgement.
    pub ack_latency: Quantiles,
    /// How resumes of rooms ended.
    pub resumes: Resumes,
    /// Connections closed because they read too slowly.
    pub slow_consumers: u64,
    /// The latest minute or two, for comparing nodes of different ages.
    pub recent: Recent,
    /// The last self-test, once one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
    /// Progress of the drain, once it has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// State of something that the node depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Dependency {
    /// `postgres`, `sqlite`, `rabbitmq`, `in-process` or `redis`.
    pub kind: String,
    /// Whether the last exchange with it succeeded.
    pub up: bool,
    /// Why it did not, in the words of whoever refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Quantiles of a latency in milliseconds, and how many samples they rest on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Quantiles {
    /// Number of samples. Below a few dozen the quantiles mean little.
    pub samples: u64,
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

/// Outcomes of resuming a room after a reconnect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resumes {
    /// Everything missed was replayed.
    pub replayed: u64,
    /// More was missed than is replayed; the client was told to page through history.
    pub too_far: u64,
    /// The position belonged to another history; the client was told to start anew.
    pub reset: u64,
}

/// What happened lately. The window is between one and two minutes long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Recent {
    /// Messages that clients asked to send.
    pub sends: u64,
    /// Sends that ended with an error that was not the client's fault.
    pub sends_failed: u64,
    /// Time from a send's arrival to its acknowledgement.
    pub ack_latency: Quantiles,
    /// How resumes of rooms ended.
    pub resumes: Resumes,
}

/// How a self-test ended: what `POST /self-test` on the admin port answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SelfTest {
    /// Whether every step succeeded.
    pub passed: bool,
    /// Self-tests in a row, up to and with this one, that did not pass.
    pub failures: u32,
    /// The step that failed: `sign_in`, `send`, `delivery`, `resume` or `bus`; empty when it passed.
    pub step: String,
    /// Why, in words; empty when it passed.
    pub error: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Progress of a drain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Drain {
    /// Connections that were open when the drain began.
    pub connections_at_start: u64,
    /// Connections that are still to be told to move.
    pub connections_left: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_age_is_understood() {
        let report: NodeStatus =
            serde_json::from_str(r#"{"node": "demo-0", "connections": 7, "fromTheFuture": {"x": 1}}"#).unwrap();
        assert_eq!(report, NodeStatus { node: "demo-0".into(), connections: 7, ..NodeStatus::default() });
    }
}

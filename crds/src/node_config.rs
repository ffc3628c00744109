//! `NodeConfig`: the file that the operator writes and the node reads.
//!
//! Owns every limit of a node by name, with its default. An unknown key is an error, because a limit that is misspelt is a
//! limit that does not hold. A value equal to its default is left out when written, so that an older node reads what a
//! newer operator writes.

mod addresses;
mod auth;
mod origin;
mod traces;
mod web;

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_yaml::with::singleton_map_recursive;

pub use self::addresses::{Addresses, BadCidr, Cidr, ForwardedHeader};
pub use self::auth::{Auth, HmacAlgorithm, Jwks, Key, SignatureAlgorithm};
pub use self::origin::{BadOrigin, Origin};
pub use self::traces::{SAMPLE_RATIO, Traces};

/// The configuration of one chat node. `NodeConfig::default()` is a working server on loopback.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeConfig {
    /// Where the node listens.
    pub listen: Listen,
    /// Where the room logs live.
    #[serde(with = "singleton_map_recursive")]
    pub store: Store,
    /// How nodes tell each other what was committed.
    #[serde(with = "singleton_map_recursive")]
    pub bus: Bus,
    /// Where sessions live, who is present, and when people were last seen. Absent: in the store.
    pub redis: Option<Redis>,
    /// Which way a message takes to the database.
    pub persistence: Persistence,
    /// Who may connect.
    pub auth: Auth,
    /// Bounds on what a client may ask and a node may hold.
    pub limits: Limits,
    /// Bounds per client address.
    pub addresses: Addresses,
    /// What is kept, and for how long.
    pub retention: Retention,
    /// Pages of which further origins may use the service from a browser. Those of its own host may.
    pub allowed_origins: Vec<Origin>,
    /// How the node leaves.
    pub drain: DrainConfig,
    /// What the node logs.
    pub log: Log,
    /// Where spans go. Absent: nothing is traced.
    pub traces: Option<Traces>,
}

/// Listening addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Listen {
    /// WebSocket, REST and the web client.
    pub client: SocketAddr,
    /// Probes, metrics and `/status`. Not for clients.
    pub admin: SocketAddr,
}

/// Where the room logs live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Store {
    /// A file on this machine: one node only.
    Sqlite {
        /// The database file; created when absent.
        path: PathBuf,
    },
    /// A PostgreSQL database, shared by all nodes.
    Postgres {
        /// How to reach it.
        endpoint: Endpoint,
        /// Connections that this node keeps to it at most. Three of six or more are for sends alone.
        #[serde(default = "default_pool_connections_max")]
        pool_connections_max: u32,
    },
}

/// How nodes tell each other what was committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Bus {
    /// There is no other node.
    InProcess {},
    /// A RabbitMQ virtual host, shared by all nodes.
    Rabbitmq {
        /// How to reach it.
        endpoint: Endpoint,
    },
}

/// A database of Redis, shared by all nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Redis {
    /// How to reach it.
    #[serde(with = "singleton_map_recursive")]
    pub endpoint: Endpoint,
}

/// Which way a message takes to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum Persistence {
    /// At once. Only while the database is away, through the durable queue.
    #[default]
    Direct,
    /// Through the durable queue first. Only while the queue is away, at once. Every message is acknowledged twice.
    Queued,
}

/// How to reach a service: exactly one of the two forms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoint {
    /// A folder in the shape of a mounted Service Binding; see [`crate::binding`].
    Binding(PathBuf),
    /// A URL. It holds a password: for development; in Kubernetes the binding is mounted.
    Url(String),
}

/// Bounds on what a client may ask and a node may hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Open WebSocket connections of the node.
    pub connections_max: usize,
    /// Time that a new connection has to say hello, in seconds.
    pub hello_seconds: u64,
    /// Time in which the header of an HTTP request has to be there, and then its body, in seconds.
    pub request_seconds: u64,
    /// Bytes of one frame from a client.
    pub frame_bytes_max: usize,
    /// Bytes of the text of one message.
    pub text_bytes_max: usize,
    /// Rooms that one user may be a member of.
    pub rooms_per_user_max: usize,
    /// Members of one room.
    pub members_per_room_max: usize,
    /// Requests of one connection that wait for the store; while so many wait, nothing more is read from it.
    pub requests_outstanding_max: usize,
    /// Frames that wait to be written to one connection. When full, the connection is closed and told to resume.
    pub queue_frames_max: usize,
    /// Bytes that wait to be written to one connection.
    pub queue_bytes_max: usize,
    /// Events of one room that a resume replays; beyond, the client pages through history.
    pub replay_events_max: usize,
    /// Events in one page of history.
    pub history_events_max: usize,
    /// Latest events of each resident room that are kept in memory for resumes.
    pub ring_events: usize,
    /// Sends that are committed together at most.
    pub append_batch_max: usize,
    /// Sends of the node that wait for a commit; beyond, a send is refused as retryable.
    pub append_queue_max: usize,
    /// Sends of the node's clients that are accepted and not yet in the database; beyond, a send is refused as retryable while the
    /// database is away.
    pub accepted_sends_max: usize,
    /// Latest results of an outbox that are kept to answer repeated sends.
    pub outbox_results_kept: i64,
    /// Messages of one user in a second, lasting, over all connections to the node. Beyond, a send is refused as retryable.
    pub sends_per_second_max: u32,
    /// Messages of one user at once, after a while without any.
    pub sends_burst_max: u32,
    /// Requests of one user in a second, lasting, over REST, and as many over connections; sends are apart.
    pub requests_per_second_max: u32,
    /// Requests of one user at once, after a while without any.
    pub requests_burst_max: u32,
    /// Silence after which the node sends a ping, in seconds.
    pub ping_seconds: u64,
    /// Silence after which a web client's connection is closed, in seconds.
    pub web_idle_seconds: u64,
    /// Silence after which a mobile client's connection is closed, in seconds.
    pub mobile_idle_seconds: u64,
}

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Retention {
    /// Age at which an event leaves a room's log, in days. The latest event of a room stays. Absent: never.
    pub history_days: Option<u32>,
    /// Time for which an outbox is kept after its last use, in days: so long a repeated send is known.
    pub outbox_days: u32,
}

/// How the node leaves: after SIGTERM it takes no new connection, waits, moves its clients, flushes and exits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DrainConfig {
    /// Time for load balancers to notice that the node is not ready, in seconds.
    pub settle_seconds: u64,
    /// Window over which the connections are told to move, in seconds.
    pub window_seconds: u64,
    /// Time to write what is queued after that, in seconds.
    pub flush_seconds: u64,
}

/// What the node logs. Message text is never logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as `info,chat_node::bus=debug`.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

impl Default for Listen {
    fn default() -> Self {
        Listen { client: SocketAddr::from(([127, 0, 0, 1], 8080)), admin: SocketAddr::from(([127, 0, 0, 1], 9090)) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Store::Sqlite { path: "chatcluster.db".into() }
    }
}

impl Default for Bus {
    fn default() -> Self {
        Bus::InProcess {}
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 10_000,
            hello_seconds: 10,
            request_seconds: 10,
            frame_bytes_max: 64 * 1024,
            text_bytes_max: 16 * 1024,
            rooms_per_user_max: 1_000,
            members_per_room_max: 10_000,
            requests_outstanding_max: 64,
            queue_frames_max: 1024,
            queue_bytes_max: 1024 * 1024,
            replay_events_max: 1_000,
            history_events_max: 200,
            ring_events: 128,
            append_batch_max: 500,
            append_queue_max: 10_000,
            accepted_sends_max: 100_000,
            outbox_results_kept: 256,
            sends_per_second_max: 100,
            sends_burst_max: 500,
            requests_per_second_max: 20,
            requests_burst_max: 100,
            ping_seconds: 25,
            web_idle_seconds: 60,
            mobile_idle_seconds: 120,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention { history_days: None, outbox_days: 90 }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        DrainConfig { settle_seconds: 5, window_seconds: 30, flush_seconds: 5 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".into(), format: LogFormat::Text }
    }
}

/// Connections to Postgres that a node keeps unless told otherwise.
pub const POOL_CONNECTIONS_MAX: u32 = 10;

fn default_pool_connections_max() -> u32 {
    POOL_CONNECTIONS_MAX
}

/// Why a configuration is refused. The text begins with the key where one is to blame.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not YAML, an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Yaml(#[from] serde_yaml::Error),
    /// A value that parses but makes no sense.
    #[error("{key}: {reason}")]
    Value {
        /// Path of the key.
        key: &'static str,
        /// What is wrong, and what to write instead.
        reason: String,
    },
}

impl NodeConfig {
    /// Parses and checks a configuration file's text. An empty text is the default configuration.
    ///
    /// # Errors
    /// Names the key and the reason.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        let config: NodeConfig =
            if text.trim().is_empty() { NodeConfig::default() } else { serde_yaml::from_str(text)? };
        config.check()?;
        Ok(config)
    }

    /// Writes what differs from the default, in a stable order.
    ///
    /// # Errors
    /// Never for a value of this type; the signature is the serializer's.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        let mut value = serde_yaml::to_value(self)?;
        prune(&mut value, &serde_yaml::to_value(NodeConfig::default())?);
        Ok(serde_yaml::to_string(&value)?)
    }

    /// Checks what its types alone do not refuse.
    ///
    /// # Errors
    /// Names the key and the reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.into() });
        let positive = [
            ("limits.connectionsMax", self.limits.connections_max),
            ("limits.textBytesMax", self.limits.text_bytes_max),
            ("limits.sendsPerSecondMax", self.limits.sends_per_second_max as usize),
            ("limits.sendsBurstMax", self.limits.sends_burst_max as usize),
            ("limits.requestsOutstandingMax", self.limits.requests_outstanding_max),
            ("limits.queueFramesMax", self.limits.queue_frames_max),
            ("limits.historyEventsMax", self.limits.history_events_max),
            ("limits.ringEvents", self.limits.ring_events),
            ("limits.appendBatchMax", self.limits.append_batch_max),
            ("limits.appendQueueMax", self.limits.append_queue_max),
            ("limits.acceptedSendsMax", self.limits.accepted_sends_max),
            ("retention.outboxDays", self.retention.outbox_days as usize),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return refuse(key, "must be at least 1");
        }
        if self.limits.frame_bytes_max < self.limits.text_bytes_max {
            return refuse(
                "limits.frameBytesMax",
                "must be at least limits.textBytesMax, a message travels in one frame",
            );
        }
        if self.limits.queue_bytes_max < 4 * self.limits.frame_bytes_max {
            return refuse("limits.queueBytesMax", "must be at least four times limits.frameBytesMax");
        }
        if self.limits.web_idle_seconds.min(self.limits.mobile_idle_seconds) <= self.limits.ping_seconds {
            return refuse("limits.pingSeconds", "must be below webIdleSeconds and mobileIdleSeconds");
        }
        if self.retention.history_days == Some(0) {
            return refuse("retention.historyDays", "must be at least 1; leave it out to keep everything");
        }
        let traces = self.traces.as_ref().and_then(Traces::nonsense);
        if let Some((key, reason)) = self.auth.nonsense().or(traces) {
            return refuse(key, reason);
        }
        match (&self.store, &self.bus) {
            (Store::Sqlite { .. }, Bus::Rabbitmq { .. }) => {
                refuse("bus.rabbitmq", "needs a store that nodes share: set store.postgres, or remove bus.rabbitmq")
            }
            (Store::Postgres { .. }, _) if self.auth.key_file.is_none() => {
                refuse("auth.keyFile", "is needed with store.postgres, because all nodes must verify the same tokens")
            }
            (Store::Sqlite { .. }, _) if self.redis.is_some() => {
                refuse("redis", "needs a store that nodes share: set store.postgres, or remove redis")
            }
            (_, Bus::InProcess {}) if self.persistence == Persistence::Queued => {
                refuse("persistence", "Queued needs bus.rabbitmq: set it, or write Direct")
            }
            _ => Ok(()),
        }
    }
}

/// Removes from `value` what is equal in `default`, and maps that become empty by it.
fn prune(value: &mut serde_yaml::Value, default: &serde_yaml::Value) {
    let (Some(map), Some(default)) = (value.as_mapping_mut(), default.as_mapping()) else {
        return;
    };
    map.retain(|key, value| {
        let Some(default) = default.get(key) else {
            return true;
        };
        if value == default {
            return false;
        }
        prune(value, default);
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such a file is refused, with these words.
    #[track_caller]
    pub(super) fn refused(yaml: &str, expected: &str) {
        let error = NodeConfig::from_yaml(yaml).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(NodeConfig::from_yaml("").unwrap(), NodeConfig::default());
        assert_eq!(NodeConfig::from_yaml("{}").unwrap(), NodeConfig::default());
    }

    #[test]
    fn what_is_written_is_read_back_and_holds_only_what_differs() {
        let mut config = NodeConfig {
            store: Store::Postgres {
                endpoint: Endpoint::Binding("/bindings/postgres".into()),
                pool_connections_max: POOL_CONNECTIONS_MAX,
            },
            bus: Bus::Rabbitmq { endpoint: Endpoint::Url("amqp://localhost".into()) },
            ..NodeConfig::default()
        };
        config.auth.key_file = Some("/auth/key".into());
        config.redis = Some(Redis { endpoint: Endpoint::Binding("/bindings/redis".into()) });
        config.limits.text_bytes_max = 100;
        let yaml = config.to_yaml().unwrap();
        assert_eq!(NodeConfig::from_yaml(&yaml).unwrap(), config);
        assert!(!yaml.contains("frameBytesMax"), "{yaml}");
        assert_eq!(NodeConfig::default().to_yaml().unwrap().trim(), "{}");
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        refused("limits: {frameBytes: 1}", "limits: unknown field `frameBytes`");
        refused("limits: {frameBytesMax: lots}", "limits.frameBytesMax: invalid type");
        refused("listen: {client: nowhere}", "listen.client: invalid socket address");
        refused("store: {postgres: {}}", "missing field `endpoint`");
        refused("store: {mysql: {}}", "unknown variant `mysql`");
        refused(
            "allowedOrigins: [chat.example.org]",
            "allowedOrigins: \"chat.example.org\" is no origin: write one such as",
        );
        refused("auth: {algorithm: none}", "auth.algorithm: unknown variant `none`");
        refused(
            "addresses: {trustedProxies: [10.0.0.0/8, 10.0.0.0/40]}",
            "addresses.trustedProxies: \"10.0.0.0/40\" is no range of addresses: write one such as",
        );
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        refused("limits: {queueFramesMax: 0}", "limits.queueFramesMax: must be at least 1");
        refused("limits: {textBytesMax: 100000}", "limits.frameBytesMax: must be at least limits.textBytesMax");
        refused("limits: {pingSeconds: 60}", "limits.pingSeconds");
        refused("bus: {rabbitmq: {endpoint: {url: 'amqp://h'}}}", "bus.rabbitmq: needs a store that nodes share");
        refused("store: {postgres: {endpoint: {url: 'postgres://h/d'}}}", "auth.keyFile: is needed");
        refused("redis: {endpoint: {url: 'redis://h'}}", "redis: needs a store that nodes share");
        refused("redis: {}", "redis: missing field `endpoint`");
        refused("persistence: Queued", "persistence: Queued needs bus.rabbitmq");
    }
}

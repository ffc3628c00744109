//! What the nodes read. Named by the hash of its content and immutable, so that a pod always finds the configuration that it was
//! made with, also when it restarts in the middle of a rollout.

use std::collections::BTreeMap;

use crds::{
    NodeConfig,
    chatcluster::{AuthKey, Limits, ServiceType},
    node_config::{
        Auth, Bus, Endpoint, Jwks, Key, LogFormat, POOL_CONNECTIONS_MAX, Redis, SAMPLE_RATIO, Store, Traces,
    },
};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use sha2::{Digest, Sha256};

use super::metadata;
use crate::{
    names,
    validate::{Backing, Cluster, Invalid, hex},
};

/// Where a pod finds what is mounted.
pub(super) const POSTGRES_FOLDER: &str = "/bindings/postgres";
pub(super) const RABBITMQ_FOLDER: &str = "/bindings/rabbitmq";
pub(super) const REDIS_FOLDER: &str = "/bindings/redis";
pub(super) const TOKEN_FOLDER: &str = "/auth";
pub(super) const DATA_FOLDER: &str = "/data";

pub(super) const CLIENT_PORT: u16 = 8080;
pub(super) const ADMIN_PORT: u16 = 9090;

/// Where a pod finds the further Secrets of `auth`, by their number.
pub(super) fn further_key_folder(number: usize) -> String {
    format!("/auth-keys/{number}")
}

/// Lets through a cluster whose nodes would start with what is written for them.
///
/// # Errors
/// What they would say of it, and end.
pub(crate) fn checked(cluster: Cluster) -> Result<Cluster, Invalid> {
    match config(&cluster).check() {
        Ok(()) => Ok(cluster),
        Err(why) => Err(Invalid { field: "spec", reason: format!("the nodes would not start with {why}") }),
    }
}

/// The ConfigMap of a cluster's present configuration.
pub(super) fn build(cluster: &Cluster, owner: &OwnerReference) -> ConfigMap {
    // A value of this type always encodes.
    let yaml = config(cluster).to_yaml().unwrap_or_default();
    let name = format!("{}-config-{}", cluster.name, hex(&Sha256::digest(&yaml)));
    ConfigMap {
        metadata: metadata(cluster, owner, name),
        immutable: Some(true),
        data: Some(BTreeMap::from([(names::CONFIG_FILE.to_owned(), yaml)])),
        ..ConfigMap::default()
    }
}

/// The configuration of a cluster's nodes.
pub(super) fn config(cluster: &Cluster) -> NodeConfig {
    let spec = &cluster.spec;
    let mut config = NodeConfig::default();
    config.listen.client = ([0, 0, 0, 0], CLIENT_PORT).into();
    config.listen.admin = ([0, 0, 0, 0], ADMIN_PORT).into();
    match cluster.backing {
        Backing::Embedded => {
            config.store = Store::Sqlite { path: format!("{DATA_FOLDER}/chatcluster.db").into() };
        }
        Backing::Bound => {
            let endpoint = |folder: &str| Endpoint::Binding(folder.into());
            let pool_connections_max = POOL_CONNECTIONS_MAX;
            config.store = Store::Postgres { endpoint: endpoint(POSTGRES_FOLDER), pool_connections_max };
            config.bus = Bus::Rabbitmq { endpoint: endpoint(RABBITMQ_FOLDER) };
            config.redis = spec.redis.as_ref().map(|_| Redis { endpoint: endpoint(REDIS_FOLDER) });
        }
    }
    config.persistence = spec.persistence.unwrap_or_default();
    config.auth = auth(cluster);
    config.addresses.trusted_proxies.clone_from(&cluster.trusted_proxies);
    config.addresses.forwarded_header = spec.service.forwarded_header;
    config.allowed_origins.clone_from(&cluster.allowed_origins);
    // Behind a ClusterIP every client has the address of an ingress or of the machine, unless the ingress says who it is.
    config.addresses.enforced = spec.service.type_ != ServiceType::ClusterIP || !cluster.trusted_proxies.is_empty();
    config.drain.window_seconds = u64::try_from(spec.update_strategy.drain_seconds).unwrap_or(0);
    config.log.format = LogFormat::Json;
    config.retention.history_days = spec.retention.as_ref().map(|retention| retention.history_days);
    if let Some(logging) = &spec.logging {
        config.log.filter = logging.filter.clone();
    }
    config.traces = spec.traces.as_ref().map(|traces| Traces {
        endpoint: traces.endpoint.clone(),
        sample_ratio: traces.sample_ratio.unwrap_or(SAMPLE_RATIO),
    });
    limit(&mut config, spec.limits.clone().unwrap_or_default());
    config
}

fn auth(cluster: &Cluster) -> Auth {
    let wanted = cluster.spec.auth.clone().unwrap_or_default();
    // In the order in which the pods mount them.
    let mut files = wanted
        .further_secrets()
        .enumerate()
        .map(|(number, secret)| format!("{}/{}", further_key_folder(number), secret.key).into())
        .collect::<Vec<std::path::PathBuf>>()
        .into_iter();
    let key = |(key, file): (AuthKey, _)| Key {
        algorithm: key.algorithm,
        file,
        id: key.id,
        issuer: key.issuer,
        audience: key.audience,
    };
    let defaults = Auth::default();
    Auth {
        key_file: Some(format!("{TOKEN_FOLDER}/{}", cluster.token.1).into()),
        algorithm: wanted.algorithm,
        issuer: wanted.issuer,
        audience: wanted.audience,
        keys: wanted.keys.into_iter().zip(files.by_ref()).map(key).collect(),
        jwks: wanted.jwks.map(|jwks| Jwks {
            url: jwks.url,
            issuer: jwks.issuer,
            audience: jwks.audience,
            user_claim: jwks.user_claim.unwrap_or_else(|| "sub".into()),
            ca_file: files.next(),
        }),
        roles_claim: wanted.roles_claim.unwrap_or(defaults.roles_claim),
        admins: wanted.admins,
        accounts: wanted.accounts,
        token_seconds: wanted.token_seconds.map_or(defaults.token_seconds, u64::from),
        refresh_seconds: wanted.refresh_seconds.map_or(defaults.refresh_seconds, u64::from),
        refresh_grace_seconds: wanted.refresh_grace_seconds.map_or(defaults.refresh_grace_seconds, u64::from),
        leeway_seconds: defaults.leeway_seconds,
    }
}

/// Sets those limits that are wanted.
fn limit(config: &mut NodeConfig, wanted: Limits) {
    fn set<T: TryFrom<u32>>(limit: &mut T, wanted: Option<u32>) {
        if let Some(wanted) = wanted.and_then(|wanted| wanted.try_into().ok()) {
            *limit = wanted;
        }
    }
    let limits = &mut config.limits;
    set(&mut limits.connections_max, wanted.connections_max);
    set(&mut limits.rooms_per_user_max, wanted.rooms_per_user_max);
    set(&mut limits.members_per_room_max, wanted.members_per_room_max);
    set(&mut limits.queue_frames_max, wanted.queue_frames_max);
    set(&mut limits.replay_events_max, wanted.replay_events_max);
    set(&mut limits.sends_per_second_max, wanted.sends_per_second_max);
    set(&mut limits.sends_burst_max, wanted.sends_burst_max);
    set(&mut limits.requests_per_second_max, wanted.requests_per_second_max);
    set(&mut limits.requests_burst_max, wanted.requests_burst_max);
    set(&mut limits.web_idle_seconds, wanted.web_idle_seconds);
    set(&mut limits.mobile_idle_seconds, wanted.mobile_idle_seconds);
    if let Some(text_bytes_max) = wanted.text_bytes_max {
        limits.text_bytes_max = text_bytes_max as usize;
        // A text may need six bytes for one when it is escaped; the usual need four at most.
        limits.frame_bytes_max = limits.frame_bytes_max.max(4 * limits.text_bytes_max);
        limits.queue_bytes_max = limits.queue_bytes_max.max(4 * limits.frame_bytes_max);
    }
    let (wanted, addresses) = (wanted.per_address.unwrap_or_default(), &mut config.addresses);
    set(&mut addresses.web_connections_max, wanted.web_connections_max);
    set(&mut addresses.mobile_connections_max, wanted.mobile_connections_max);
    set(&mut addresses.new_connections_max, wanted.new_connections_max);
    set(&mut addresses.window_seconds, wanted.window_seconds);
    set(&mut addresses.refusals_max, wanted.refusals_max);
    set(&mut addresses.shut_out_seconds, wanted.shut_out_seconds);
    set(&mut addresses.requests_per_second_max, wanted.requests_per_second_max);
    set(&mut addresses.requests_burst_max, wanted.requests_burst_max);
}

#[cfg(test)]
mod tests {
    use crds::{ChatCluster, ChatClusterSpec};

    use super::*;

    fn cluster(spec: serde_json::Value) -> Cluster {
        let spec: ChatClusterSpec = serde_json::from_value(spec).unwrap();
        Cluster::new(&ChatCluster::new("demo", spec), "chat-node:1").unwrap()
    }

    #[test]
    fn the_node_accepts_what_is_written() {
        for spec in [
            serde_json::json!({}),
            serde_json::json!({"limits": {"textBytesMax": 1_048_576}, "logging": {"filter": "debug"}, "retention": {"historyDays": 1}}),
            serde_json::json!({"replicas": 3, "postgres": {"secret": {"name": "pg"}}, "rabbitmq": {"cluster": {"name": "mq"}},
                "redis": {"secret": {"name": "rd"}}, "persistence": "Queued",
                "auth": {"algorithm": "HS256", "accounts": false}}),
            keys_and_a_key_set(),
            serde_json::json!({"auth": {"tokenSeconds": 600, "refreshSeconds": 3600, "refreshGraceSeconds": 0}}),
            every_limit(),
            serde_json::json!({"traces": {"endpoint": "http://collector:4318"}}),
            serde_json::json!({"traces": {"endpoint": "https://c/otlp", "sampleRatio": 1}}),
            serde_json::json!({"service": {"trustedProxies": ["10.0.0.0/8", "fd00::1"], "forwardedHeader": "Forwarded",
                "allowedOrigins": ["https://a.example.org:443", "*"]}}),
        ] {
            let cluster = cluster(spec);
            let yaml = build(&cluster, &OwnerReference::default()).data.unwrap().remove(names::CONFIG_FILE).unwrap();
            assert_eq!(NodeConfig::from_yaml(&yaml).unwrap(), config(&cluster), "{yaml}");
        }
    }

    fn every_limit() -> serde_json::Value {
        serde_json::json!({"limits": {
            "connectionsMax": 91, "textBytesMax": 92, "roomsPerUserMax": 93, "membersPerRoomMax": 94, "queueFramesMax": 95,
            "replayEventsMax": 96, "sendsPerSecondMax": 97, "sendsBurstMax": 98, "requestsPerSecondMax": 99, "requestsBurstMax": 101,
            "webIdleSeconds": 102, "mobileIdleSeconds": 103,
            "perAddress": {
                "webConnectionsMax": 104, "mobileConnectionsMax": 105, "newConnectionsMax": 106, "windowSeconds": 107,
                "refusalsMax": 108, "shutOutSeconds": 109, "requestsPerSecondMax": 111, "requestsBurstMax": 112,
            },
        }})
    }

    /// What the node is told under the same name; a limit that was forgotten would keep its default.
    #[test]
    fn every_limit_reaches_the_node() {
        let (wanted, told) = (every_limit(), serde_json::to_value(config(&cluster(every_limit()))).unwrap());
        for (name, value) in wanted["limits"].as_object().unwrap() {
            match value.as_object() {
                Some(of_addresses) => {
                    of_addresses.iter().for_each(|(name, value)| assert_eq!(&told["addresses"][name], value, "{name}"));
                }
                None => assert_eq!(&told["limits"][name], value, "{name}"),
            }
        }
        let crd = serde_json::to_value(<ChatCluster as kube::CustomResourceExt>::crd()).unwrap();
        let schema =
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["limits"];
        let names = |object: &serde_json::Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&schema["properties"]), names(&wanted["limits"]), "none is left out here");
        let of_addresses = &schema["properties"]["perAddress"]["properties"];
        assert_eq!(names(of_addresses), names(&wanted["limits"]["perAddress"]), "nor of these");
    }

    fn keys_and_a_key_set() -> serde_json::Value {
        serde_json::json!({"auth": {
            "keys": [
                {"algorithm": "HS512", "secret": {"name": "old"}},
                {"algorithm": "ES256", "secret": {"name": "theirs", "key": "pem"}, "id": "1", "issuer": "them"},
            ],
            "jwks": {"url": "https://login/keys", "issuer": "https://login", "audience": "chat", "ca": {"name": "ca"}},
            "admins": ["root"],
        }})
    }

    #[test]
    fn further_keys_are_where_the_pods_mount_them() {
        let auth = config(&cluster(keys_and_a_key_set())).auth;
        let files: Vec<_> = auth.keys.iter().map(|key| key.file.display().to_string()).collect();
        assert_eq!(files, ["/auth-keys/0/key", "/auth-keys/1/pem"]);
        let jwks = auth.jwks.unwrap();
        assert_eq!((jwks.user_claim.as_str(), jwks.ca_file), ("sub", Some("/auth-keys/2/key".into())));
        assert_eq!(auth.admins, ["root"]);
    }

    #[test]
    fn limits_per_address_hold_where_the_address_is_known() {
        for (service, enforced) in [
            (serde_json::json!({}), false),
            (serde_json::json!({"type": "LoadBalancer"}), true),
            (serde_json::json!({"trustedProxies": ["10.0.0.0/8"]}), true),
        ] {
            let addresses = config(&cluster(serde_json::json!({"service": service}))).addresses;
            assert_eq!(addresses.enforced, enforced, "{service}");
        }
    }

    #[test]
    fn another_content_has_another_name() {
        let name = |spec| build(&cluster(spec), &OwnerReference::default()).metadata.name.unwrap();
        let plain = name(serde_json::json!({}));
        assert_eq!(plain, name(serde_json::json!({"image": "chat-node:2"})));
        assert_ne!(plain, name(serde_json::json!({"logging": {"filter": "debug"}})));
    }
}

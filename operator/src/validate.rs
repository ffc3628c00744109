//! From a resource to a [`Cluster`] that cannot hold nonsense.
//!
//! Pure. The schema has refused most nonsense already; what is left (an older object) becomes an
//! [`Invalid`], which waits for a change and is never retried.

mod pod;

use std::{str::FromStr, time::Duration};

use crds::{
    ChatCluster, ChatClusterSpec,
    node_config::{Cidr, Origin, Persistence},
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use tracing_subscriber::EnvFilter;

use crate::{bindings::Read, names, rollout::Policy};

/// Characters of a name: that of a revision, at most 63, is made from it.
const NAME_MAX: usize = 52;

/// A cluster that can be built.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What the user wrote.
    pub spec: ChatClusterSpec,
    /// Image of the node.
    pub image: String,
    /// The numbers of the rollout.
    pub policy: Policy,
    /// Where messages are kept.
    pub backing: Backing,
    /// Secret and key that tokens are signed with.
    pub token: (String, String),
    /// Who may say for whom a connection is made.
    pub trusted_proxies: Vec<Cidr>,
    /// Whose pages may use the service.
    pub allowed_origins: Vec<Origin>,
}

/// Where messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// In a file of the only node.
    Embedded,
    /// In Postgres, with RabbitMQ between the nodes.
    Bound,
}

/// Why a spec cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field.
    pub field: &'static str,
    /// What to write instead.
    pub reason: String,
}

impl Cluster {
    /// Checks a resource.
    ///
    /// # Errors
    /// Names the field.
    pub fn new(cluster: &ChatCluster, default_image: &str) -> Result<Self, Invalid> {
        let spec = cluster.spec.clone();
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let image = spec.image.clone().unwrap_or_else(|| default_image.to_owned());
        let backing = match (&spec.postgres, &spec.rabbitmq) {
            (None, None) => Backing::Embedded,
            (Some(_), Some(_)) => Backing::Bound,
            _ => return Err(Invalid { field: "spec", reason: "set postgres and rabbitmq, or neither".into() }),
        };
        if backing == Backing::Embedded && spec.replicas > 1 {
            let reason = "more than one needs postgres and rabbitmq";
            return Err(Invalid { field: "spec.replicas", reason: reason.into() });
        }
        if backing == Backing::Embedded && spec.redis.is_some() {
            let reason = "keeps the sessions that nodes share: set postgres and rabbitmq, or remove redis";
            return Err(Invalid { field: "spec.redis", reason: reason.into() });
        }
        if backing == Backing::Embedded && spec.persistence == Some(Persistence::Queued) {
            let reason = "Queued needs postgres and rabbitmq: set them, or write Direct";
            return Err(Invalid { field: "spec.persistence", reason: reason.into() });
        }
        pod::check(&spec)?;
        let policy = policy(&spec, backing == Backing::Embedded)?;
        if name.len() > NAME_MAX {
            let reason = format!("is longer than {NAME_MAX} characters: choose a shorter one");
            return Err(Invalid { field: "metadata.name", reason });
        }
        let trusted_proxies = parsed(&spec.service.trusted_proxies, "spec.service.trustedProxies")?;
        let allowed_origins = parsed(&spec.service.allowed_origins, "spec.service.allowedOrigins")?;
        if let Some(logging) = &spec.logging {
            filter(&logging.filter)?;
        }
        let token = names::token(cluster);
        Ok(Cluster { name, namespace, spec, image, policy, backing, token, trusted_proxies, allowed_origins })
    }

    /// Whether the operator makes the signing Secret.
    pub fn owns_token(&self) -> bool {
        self.spec.auth.as_ref().is_none_or(|auth| auth.token_secret.is_none())
    }

    /// Whether the operator still has to make it.
    pub fn lacks_token(&self, read: &Read) -> bool {
        self.owns_token() && read.secrets.get(&self.token.0).is_none_or(Option::is_none)
    }
}

/// Reads a list of texts.
fn parsed<T: FromStr<Err: ToString>>(texts: &[String], field: &'static str) -> Result<Vec<T>, Invalid> {
    let read = texts.iter().map(|text| text.parse::<T>());
    read.collect::<Result<_, _>>().map_err(|bad| Invalid { field, reason: bad.to_string() })
}

/// Reads a filter of the log as the nodes do, which end when they cannot.
fn filter(text: &str) -> Result<(), Invalid> {
    let refused = |error| {
        let reason = format!(
            "{text:?}: {error}: write a level (error, warn, info, debug or trace), or a filter such as info,hyper=debug"
        );
        Invalid { field: "spec.logging.filter", reason }
    };
    EnvFilter::builder().parse(text).map(drop).map_err(refused)
}

/// Resolves the numbers of a rollout, with the rounding of a Deployment: surge up, unavailable down
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment>).
fn policy(spec: &ChatClusterSpec, in_place: bool) -> Result<Policy, Invalid> {
    let strategy = &spec.update_strategy;
    let replicas = spec.replicas;
    let surge = share(&strategy.max_surge, replicas, Rounding::Up, "spec.updateStrategy.maxSurge")?.min(replicas);
    let unavailable = share(&strategy.max_unavailable, replicas, Rounding::Down, "spec.updateStrategy.maxUnavailable")?;
    // Both zero by rounding would never come forward; Deployments then take one away.
    let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable }.min(replicas);
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok(Policy {
        replicas,
        surge,
        unavailable,
        soak: seconds(strategy.soak_seconds),
        progress_deadline: seconds(strategy.progress_deadline_seconds),
        on_failure: strategy.on_failure,
        on_inconclusive: strategy.on_inconclusive,
        paused: strategy.paused,
        in_place,
    })
}

#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

fn share(value: &IntOrString, of: i32, rounding: Rounding, field: &'static str) -> Result<i32, Invalid> {
    let invalid = || Invalid { field, reason: "write a number from 0, or a percentage from 0% to 100%".into() };
    match value {
        IntOrString::Int(number) => u32::try_from(*number).map(|_| *number).map_err(|_| invalid()),
        IntOrString::String(text) => {
            let percent: i32 = text.strip_suffix('%').and_then(|number| number.parse().ok()).ok_or_else(invalid)?;
            if !(0..=100).contains(&percent) {
                return Err(invalid());
            }
            let hundredths = of * percent;
            Ok(match rounding {
                Rounding::Up => (hundredths + 99) / 100,
                Rounding::Down => hundredths / 100,
            })
        }
    }
}

/// The first 16 hexadecimal digits: enough to tell contents apart.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(replicas: i32, surge: &str, unavailable: &str, expected: Result<(i32, i32), &str>) {
        let number = |text: &str| match text.parse() {
            Ok(number) => IntOrString::Int(number),
            Err(_) => IntOrString::String(text.into()),
        };
        let mut spec = ChatClusterSpec { replicas, ..ChatClusterSpec::default() };
        spec.update_strategy.max_surge = number(surge);
        spec.update_strategy.max_unavailable = number(unavailable);
        let resolved =
            policy(&spec, false).map(|policy| (policy.surge, policy.unavailable)).map_err(|error| error.field);
        assert_eq!(resolved, expected, "{replicas} {surge} {unavailable}");
    }

    #[test]
    fn what_needs_a_bus_is_refused_without_one() {
        let spec =
            ChatClusterSpec { persistence: Some(Persistence::Queued), replicas: 1, ..ChatClusterSpec::default() };
        let invalid = Cluster::new(&ChatCluster::new("demo", spec), "chat-node:1").unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "spec.persistence: Queued needs postgres and rabbitmq: set them, or write Direct"
        );
    }

    /// What is said of a spec that the nodes would refuse.
    #[track_caller]
    fn refused(spec: serde_json::Value, expected: &str) {
        let cluster = ChatCluster::new("demo", serde_json::from_value(spec).unwrap());
        let told = Cluster::new(&cluster, "chat-node:1").unwrap_err().to_string();
        assert!(told.contains(expected), "{told:?} does not say {expected:?}");
    }

    #[test]
    fn a_filter_of_the_log_is_one_that_the_nodes_read() {
        for filter in ["info", "warn,hyper::client=debug", "off", "info,hyper[send{room=a}]=trace"] {
            assert_eq!(super::filter(filter), Ok(()), "{filter}");
        }
        for filter in ["info,hyper=loud", "info,=", "hyper[=debug"] {
            refused(serde_json::json!({"logging": {"filter": filter}}), "spec.logging.filter: ");
        }
        refused(
            serde_json::json!({"logging": {"filter": "info,hyper=loud"}}),
            "write a level (error, warn, info, debug or trace), or a filter such as info,hyper=debug",
        );
    }

    #[test]
    fn shares_are_rounded_as_deployments_do() {
        check(3, "25%", "25%", Ok((1, 0)));
        check(10, "25%", "25%", Ok((3, 2)));
        check(5, "100%", "0", Ok((5, 0)));
        check(3, "7", "9", Ok((3, 3)));
        check(3, "0", "25%", Ok((0, 1)));
        check(0, "25%", "25%", Ok((0, 0)));
        check(3, "101%", "0", Err("spec.updateStrategy.maxSurge"));
        check(3, "1", "many", Err("spec.updateStrategy.maxUnavailable"));
        check(3, "1", "-1", Err("spec.updateStrategy.maxUnavailable"));
    }
}

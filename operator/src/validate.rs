//! From a resource to a [`Cluster`] that cannot hold nonsense.
//!
//! Pure. The schema has refused most nonsense already; what is left (an older object, a Secret's content) becomes an
//! [`Invalid`] or a [`BindingState`], which wait for a change and are never retried.

use std::{collections::BTreeMap, time::Duration};

use crds::{
    ChatCluster, ChatClusterSpec,
    binding::{self, Service},
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use crate::{names, rollout::Policy};

/// What is known of a referenced Secret: its entries, or `None` when it does not exist.
pub type SecretData = Option<BTreeMap<String, Vec<u8>>>;

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
}

/// Where messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// In a file of the only node.
    Embedded,
    /// In Postgres, with RabbitMQ between the nodes. The names of their Secrets.
    Bound {
        /// Secret of Postgres.
        postgres: String,
        /// Secret of RabbitMQ.
        rabbitmq: String,
    },
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

/// State of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingState {
    /// Whether it can be used.
    pub bound: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in words that name Secret and key.
    pub message: String,
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
        let secret = |binding: Option<String>, field| {
            let reason = "name the credentials: secret: {name: ...} or cluster: {name: ...}";
            binding.ok_or_else(|| Invalid { field, reason: reason.into() })
        };
        let backing = match (&spec.postgres, &spec.rabbitmq) {
            (None, None) => Backing::Embedded,
            (Some(postgres), Some(rabbitmq)) => Backing::Bound {
                postgres: secret(names::postgres_secret(postgres), "spec.postgres")?,
                rabbitmq: secret(names::rabbitmq_secret(rabbitmq), "spec.rabbitmq")?,
            },
            _ => return Err(Invalid { field: "spec", reason: "set postgres and rabbitmq, or neither".into() }),
        };
        if backing == Backing::Embedded && spec.replicas > 1 {
            let reason = "more than one needs postgres and rabbitmq";
            return Err(Invalid { field: "spec.replicas", reason: reason.into() });
        }
        let policy = policy(&spec, backing == Backing::Embedded)?;
        let token = spec.auth.as_ref().and_then(|auth| auth.token_secret.as_ref());
        let token = token.map(|token| (token.name.clone(), token.key.clone()));
        let token = token.unwrap_or_else(|| (names::auth_secret(&name), names::TOKEN_KEY.into()));
        Ok(Cluster { name, namespace, spec, image, policy, backing, token })
    }

    /// Whether the operator makes the signing Secret.
    pub fn owns_token(&self) -> bool {
        self.spec.auth.as_ref().is_none_or(|auth| auth.token_secret.is_none())
    }
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
    let seconds = u64::try_from(strategy.progress_deadline_seconds).unwrap_or(0);
    Ok(Policy { replicas, surge, unavailable, progress_deadline: Duration::from_secs(seconds), in_place })
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

/// Looks at a binding's Secret.
pub fn binding_state(service: Service, secret: &str, data: &SecretData) -> BindingState {
    let state = |bound, reason, message| BindingState { bound, reason, message };
    let Some(entries) = data else {
        return state(false, "SecretNotFound", format!("Secret {secret:?} does not exist: create it"));
    };
    match binding::connection(service, entries) {
        Ok(_) => state(true, "Bound", format!("Secret {secret:?} is complete")),
        Err(error @ binding::BindingError::MissingKey { .. }) => {
            state(false, "KeyMissing", format!("Secret {secret:?}: {error}"))
        }
        Err(error) => state(false, "Invalid", format!("Secret {secret:?}: {error}")),
    }
}

/// A hash of what pods read from Secrets, so that another content is another revision. `None` when one of them cannot be read: the
/// last hash then stays.
pub fn secrets_hash(cluster: &Cluster, secrets: &BTreeMap<String, SecretData>) -> Option<String> {
    let mut hash = Sha256::new();
    let mut add = |secret: &str, only: Option<&str>| {
        let entries = secrets.get(secret)?.as_ref()?;
        for (key, value) in entries.iter().filter(|(key, _)| only.is_none_or(|only| only == *key)) {
            hash.update(key);
            hash.update([0]);
            hash.update(value);
            hash.update([0]);
        }
        only.is_none_or(|only| entries.contains_key(only)).then_some(())
    };
    if let Backing::Bound { postgres, rabbitmq } = &cluster.backing {
        add(postgres, None)?;
        add(rabbitmq, None)?;
    }
    add(&cluster.token.0, Some(&cluster.token.1))?;
    Some(hex(&hash.finalize()))
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

    #[test]
    fn a_binding_tells_secret_and_key() {
        let state = |data| binding_state(Service::Postgres, "pg", &data);
        assert_eq!(state(None).reason, "SecretNotFound");
        let entries = BTreeMap::from([("host".to_owned(), b"db".to_vec())]);
        let missing = state(Some(entries));
        assert_eq!((missing.bound, missing.reason), (false, "KeyMissing"));
        assert!(missing.message.contains("\"pg\"") && missing.message.contains("\"username\""), "{}", missing.message);
        assert!(state(Some(BTreeMap::from([("uri".to_owned(), b"postgres://u:p@h/d".to_vec())]))).bound);
    }
}

//! Bindings: which Secrets a cluster reads, whether they are complete, and what of them its pods mount.
//!
//! Pure. [`foreign`] tells which objects of other operators are looked at, [`secrets`] which Secrets then, and [`Bindings::resolve`] what
//! came of it. A value of a Secret never leaves this room but as a hash.
//!
//! | file | what it owns |
//! |---|---|
//! | `wanted` | the four forms, reduced to one |
//! | `foreign` | objects of other operators, as data |
//! | `sources` | what pods mount, and the hash of it |

mod foreign;
mod sources;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use crds::{
    ChatCluster,
    binding::{self, BindingError, CA_KEY},
    chatcluster::{AuthSpec, CaReference},
};
use kube::{ResourceExt, api::DynamicObject};

use self::{
    foreign::text,
    wanted::{Form, Source, Wanted},
};
pub use self::{
    foreign::{Foreign, Found},
    sources::{Mount, Sources},
};
use crate::names;

/// What is known of a referenced Secret: its entries, or `None` when it does not exist.
pub type SecretData = Option<BTreeMap<String, Vec<u8>>>;

/// Bytes that a key of HMAC has at least: those of its hash, for HS256 (RFC 7518 §3.2).
pub const TOKEN_BYTES_MIN: usize = 32;

/// What was read for the bindings of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Objects of other operators.
    pub found: BTreeMap<Foreign, Found>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretData>,
    /// The Secret of the name under which the operator makes the signing key is not the cluster's own: somebody else may know the key.
    pub token_is_strange: bool,
}

impl Read {
    /// Whether the kind of an object may have come without a word: it could not be looked at, or made room for others.
    pub fn may_be_missed(&self) -> bool {
        self.found.values().any(|found| !matches!(found, Found::Absent | Found::Present(_)))
    }
}

/// State of a binding, or of the signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingState {
    /// Whether it can be used.
    pub bound: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in words that name object, Secret and key.
    pub message: String,
}

/// A binding as it is.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Whether it can be used.
    pub state: BindingState,
    /// What pods mount; absent while it cannot be used.
    mount: Option<Mount>,
    /// The Secret's entries, with the certificates under [`CA_KEY`].
    entries: BTreeMap<String, Vec<u8>>,
    /// Whether acknowledged messages survive the loss of a machine.
    pub durability: Durability,
}

/// What is known of how Postgres replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nobody can tell: a Secret has no word about it.
    Unknown,
    /// One instance.
    Single,
    /// Others follow, and a commit does not wait for them.
    Asynchronous,
    /// A commit waits for another instance.
    Synchronous,
}

/// Everything that a cluster is bound to.
#[derive(Clone, Debug)]
pub struct Bindings {
    /// The database; absent for a self-contained cluster.
    pub postgres: Option<Resolved>,
    /// The bus; absent for a self-contained cluster.
    pub rabbitmq: Option<Resolved>,
    /// Where sessions live; absent when that is the database.
    pub redis: Option<Resolved>,
    /// The signing key, and whatever else tokens are verified with.
    pub token: BindingState,
    /// The entries of these, in a stable order.
    auth_entries: Vec<(String, Vec<u8>)>,
}

/// The objects of other operators that concern a cluster: those that it refers to, and while it is being deleted those as well that an
/// earlier spec may have had made for it.
pub fn foreign(cluster: &ChatCluster) -> BTreeSet<Foreign> {
    let wanted = Wanted::of(cluster);
    let wanted = wanted.iter().flatten().filter_map(|wanted| wanted.foreign().cloned());
    let made = || {
        let name = cluster.name_any();
        [Foreign::postgres(&names::managed_postgres(&name)), Foreign::rabbitmq(&names::managed_rabbitmq(&name))]
    };
    wanted.chain(cluster.metadata.deletion_timestamp.iter().flat_map(|_| made())).collect()
}

/// Every Secret that a cluster refers to, as far as it is known by now.
pub fn secrets(cluster: &ChatCluster, found: &BTreeMap<Foreign, Found>) -> BTreeSet<String> {
    let sources = Wanted::of(cluster).into_iter().flatten().filter_map(|wanted| wanted.source(present(&wanted, found)));
    let bound = sources.flat_map(|source| [Some(source.secret), source.ca.map(|ca| ca.name)]).flatten();
    bound.chain(auth_keys(cluster).into_iter().map(|(secret, _)| secret)).collect()
}

/// Secret and key of everything that tokens are verified with; the signing key first.
fn auth_keys(cluster: &ChatCluster) -> Vec<(String, String)> {
    let further = cluster.spec.auth.iter().flat_map(AuthSpec::further_secrets);
    let further = further.map(|secret| (secret.name.clone(), secret.key.clone()));
    [names::token(cluster)].into_iter().chain(further).collect()
}

impl Bindings {
    /// Looks at what was read.
    pub fn resolve(cluster: &ChatCluster, read: &Read) -> Bindings {
        let [postgres, rabbitmq, redis] = Wanted::of(cluster).map(|wanted| wanted.map(|wanted| resolve(&wanted, read)));
        let entries = |secret: &str| read.secrets.get(secret).and_then(Option::as_ref);
        let keys = auth_keys(cluster);
        let states = keys.iter().enumerate().map(|(number, (secret, key))| {
            // Only the first is surely a secret; the node looks into the others.
            let bytes_min = if number == 0 { TOKEN_BYTES_MIN } else { 1 };
            key_state(secret, key, bytes_min, entries(secret))
        });
        let (usable, failed): (Vec<_>, Vec<_>) = states.partition(|state| state.bound);
        let strange = read.token_is_strange.then(|| not_owned(&keys[0].0));
        let token = strange.into_iter().chain(failed).chain(usable).next().expect("there is always a signing key");
        let entry = |(secret, key): (String, String)| Some((key.clone(), entries(&secret)?.get(&key)?.clone()));
        Bindings { postgres, rabbitmq, redis, token, auth_entries: keys.into_iter().filter_map(entry).collect() }
    }

    /// What pods mount, when everything can be used. `shape` is that of the pod template.
    pub fn sources(&self, shape: i32) -> Option<Sources> {
        let bound = [&self.postgres, &self.rabbitmq, &self.redis].into_iter().flatten();
        if !self.token.bound || bound.clone().any(|resolved| !resolved.state.bound) {
            return None;
        }
        let auth = self.auth_entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        let content = bound.flat_map(|resolved| resolved.content(shape)).chain(auth);
        let hash = sources::hash(content);
        let mount = |resolved: &Option<Resolved>| resolved.as_ref().and_then(|resolved| resolved.mount.clone());
        let (postgres, rabbitmq, redis) = (mount(&self.postgres), mount(&self.rabbitmq), mount(&self.redis));
        Some(Sources { postgres, rabbitmq, redis, hash })
    }

    /// What is missing, in words that name object, Secret and key.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let bound = [&self.postgres, &self.rabbitmq, &self.redis].into_iter().flatten().map(|resolved| &resolved.state);
        bound.chain([&self.token]).filter(|state| !state.bound).map(|state| state.message.as_str())
    }

    /// Where the certificate authorities are read, of each binding that has one: Secret and key.
    pub fn authorities(&self) -> impl Iterator<Item = &(String, String)> {
        let bound = [&self.postgres, &self.rabbitmq, &self.redis].into_iter().flatten();
        bound.filter_map(|resolved| resolved.mount.as_ref()?.ca.as_ref())
    }
}

impl Resolved {
    fn failed(reason: &'static str, message: String) -> Self {
        let state = BindingState { bound: false, reason, message };
        Resolved { state, mount: None, entries: BTreeMap::new(), durability: Durability::Unknown }
    }

    /// What pods read of it: in the first shape the whole Secret, from then on the keys that are used.
    fn content(&self, shape: i32) -> impl Iterator<Item = (&str, &[u8])> {
        let mount = self.mount.as_ref();
        let is_read = move |key: &str| {
            mount.is_some_and(|mount| {
                let authority = key == CA_KEY && mount.ca.is_some();
                if shape == 1 { !authority } else { authority || mount.keys.iter().any(|used| used == key) }
            })
        };
        let entries = self.entries.iter().filter(move |(key, _)| is_read(key));
        entries.map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

fn present<'a>(wanted: &Wanted, found: &'a BTreeMap<Foreign, Found>) -> Option<&'a DynamicObject> {
    match found.get(wanted.foreign()?) {
        Some(Found::Present(object)) => Some(object),
        _ => None,
    }
}

fn resolve(wanted: &Wanted, read: &Read) -> Resolved {
    if let Some(object) = wanted.foreign()
        && let Err((reason, message)) = look(object, read.found.get(object))
    {
        return Resolved::failed(reason, message);
    }
    let object = present(wanted, &read.found);
    let Some(source) = wanted.source(object) else {
        return match &wanted.form {
            Form::Provisioned(object) => {
                let message = format!(
                    "{object} has no status.binding.name: it is not provisioned yet, or no Provisioned Service"
                );
                Resolved::failed("NotProvisioned", message)
            }
            _ => Resolved::failed("Invalid", format!("{}: name the credentials in one of the four ways", wanted.field)),
        };
    };
    match connect(wanted, &source, read) {
        Ok((mount, entries)) => Resolved {
            state: BindingState {
                bound: true,
                reason: "Bound",
                message: format!("Secret {:?} is complete", source.secret),
            },
            mount: Some(mount),
            entries,
            durability: match (wanted.service, &wanted.form, object) {
                (binding::Service::Postgres, Form::Known(_), Some(object)) => durability(object),
                _ => Durability::Unknown,
            },
        },
        Err((reason, message)) => Resolved::failed(reason, message),
    }
}

/// Whether the object of another operator is there.
fn look(object: &Foreign, found: Option<&Found>) -> Result<(), (&'static str, String)> {
    let Foreign { api_version, kind, .. } = object;
    Err(match found {
        Some(Found::Present(_)) => return Ok(()),
        Some(Found::Absent) => ("ClusterNotFound", format!("{object} does not exist: create it")),
        Some(Found::NotInstalled) => {
            let message =
                format!("the kind {kind} of {api_version} is not installed: install its operator, or use a Secret");
            ("KindNotInstalled", message)
        }
        Some(Found::NotNamespaced) => {
            ("Invalid", format!("the kind {kind} of {api_version} belongs to no namespace: name one that does"))
        }
        Some(Found::Forbidden) => {
            let message = format!(
                "the operator may not list and watch the kind {kind} of {api_version}: grant it, in a ClusterRole with the label servicebinding.io/controller"
            );
            ("Forbidden", message)
        }
        Some(Found::Unknown) | None => ("Unknown", format!("{object} could not be looked up: it is tried again")),
    })
}

type Entries = BTreeMap<String, Vec<u8>>;

/// Makes of the Secrets what pods mount.
fn connect(wanted: &Wanted, source: &Source, read: &Read) -> Result<(Mount, Entries), (&'static str, String)> {
    let Source { secret, ca } = source;
    let entries = |secret: &String| read.secrets.get(secret).and_then(Option::as_ref);
    let mut content = entries(secret).cloned().ok_or_else(|| ("SecretNotFound", not_found(wanted, secret)))?;
    if let Some(CaReference { name, key }) = ca {
        let authority = entries(name).ok_or_else(|| ("SecretNotFound", not_found(wanted, name)))?;
        let certificates = authority.get(key).ok_or_else(|| {
            let field = wanted.field;
            (
                "KeyMissing",
                format!("Secret {name:?}: key {key:?} is missing: add it, or name another one in {field}.ca"),
            )
        })?;
        content.insert(CA_KEY.into(), certificates.clone());
    }
    match binding::connection(wanted.service, &content) {
        Ok(connection) => {
            let keys = connection.keys.iter().filter(|key| **key != CA_KEY || ca.is_none());
            let keys = keys.map(|key| (*key).to_owned()).collect();
            let ca = ca.as_ref().map(|ca| (ca.name.clone(), ca.key.clone()));
            Ok((Mount { secret: secret.clone(), keys, ca }, content))
        }
        Err(error @ BindingError::MissingKey { .. }) => Err(("KeyMissing", format!("Secret {secret:?}: {error}"))),
        Err(error) => Err(("Invalid", format!("Secret {secret:?}: {error}"))),
    }
}

fn not_found(wanted: &Wanted, secret: &str) -> String {
    match &wanted.form {
        Form::Known(object) | Form::Provisioned(object) => {
            format!("Secret {secret:?} does not exist: {object} has not written it yet")
        }
        Form::Secret(_) | Form::Missing => format!("Secret {secret:?} does not exist: create it"),
    }
}

/// A key that was there before the cluster is used when somebody who may write the spec says so, and never because of its name: whoever may
/// make Secrets could otherwise plant a key that they know, and sign tokens of anybody.
fn not_owned(secret: &str) -> BindingState {
    let message = format!(
        "Secret {secret:?} exists and was not made for this ChatCluster: to use its key write spec.auth.tokenSecret: {{name: {secret}, \
         key: {}}}; to have a new one made, upon which the tokens of before are refused, delete it",
        names::TOKEN_KEY
    );
    BindingState { bound: false, reason: "SecretNotOwned", message }
}

fn key_state(secret: &str, key: &str, bytes_min: usize, entries: Option<&Entries>) -> BindingState {
    let state = |bound, reason, message| BindingState { bound, reason, message };
    let Some(entries) = entries else {
        return state(false, "SecretNotFound", format!("Secret {secret:?} does not exist: create it"));
    };
    // As nodes read it: what an editor or `echo` leaves around it is no part of it.
    match entries.get(key).map(|content| content.trim_ascii().len()) {
        None => state(false, "KeyMissing", format!("Secret {secret:?}: key {key:?} is missing: add it")),
        Some(bytes) if bytes < bytes_min => {
            let message = format!("Secret {secret:?}: key {key:?} has {bytes} bytes: give at least {bytes_min}");
            state(false, "KeyTooShort", message)
        }
        Some(_) => state(true, "KeyUsable", format!("Secret {secret:?} has a key that is long enough")),
    }
}

/// What a CloudNativePG cluster says of its replication
/// (<https://cloudnative-pg.io/documentation/1.28/replication/#synchronous-replication>).
fn durability(object: &DynamicObject) -> Durability {
    let number = |pointer: &str| object.data.pointer(pointer).and_then(serde_json::Value::as_i64);
    let waits = number("/spec/postgresql/synchronous/number").unwrap_or(0) > 0;
    let always = text(object, "/spec/postgresql/synchronous/dataDurability").is_none_or(|word| word == "required");
    let older = number("/spec/minSyncReplicas").unwrap_or(0) > 0;
    match number("/spec/instances").unwrap_or(1) {
        ..=1 => Durability::Single,
        _ if (waits && always) || older => Durability::Synchronous,
        _ => Durability::Asynchronous,
    }
}

//! What pods mount of the bindings, and the hash of it, so that another content is another revision.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{KeyToPath, Volume},
};
use sha2::{Digest, Sha256};

use crate::{names, validate::hex};

/// What pods mount of one binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The Secret.
    pub secret: String,
    /// The keys that are used; empty: all.
    pub keys: Vec<String>,
    /// Secret and key of the certificate authority, when it is not in the same Secret.
    pub ca: Option<(String, String)>,
}

/// What pods mount of all bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Of Postgres.
    pub postgres: Option<Mount>,
    /// Of RabbitMQ.
    pub rabbitmq: Option<Mount>,
    /// Of Redis.
    pub redis: Option<Mount>,
    /// Hash of the content.
    pub hash: String,
}

impl Sources {
    /// What the pods of a StatefulSet mount: it stays while a Secret cannot be read.
    pub fn of(set: &StatefulSet) -> Option<Sources> {
        let template = &set.spec.as_ref()?.template;
        let hash = template.metadata.as_ref()?.annotations.as_ref()?.get(names::SECRETS)?.clone();
        let volumes = template.spec.as_ref()?.volumes.as_deref().unwrap_or_default();
        let mount = |name: &str| volumes.iter().find(|volume| volume.name == name).and_then(mount);
        Some(Sources { postgres: mount("postgres"), rabbitmq: mount("rabbitmq"), redis: mount("redis"), hash })
    }
}

fn mount(volume: &Volume) -> Option<Mount> {
    if let Some(secret) = &volume.secret {
        return Some(Mount { secret: secret.secret_name.clone()?, keys: Vec::new(), ca: None });
    }
    let mut secrets = volume.projected.as_ref()?.sources.iter().flatten().filter_map(|source| source.secret.as_ref());
    let (credentials, authority) = (secrets.next()?, secrets.next());
    let keys = |items: &Option<Vec<KeyToPath>>| items.iter().flatten().map(|item| item.key.clone()).collect::<Vec<_>>();
    let ca = authority.and_then(|secret| Some((secret.name.clone(), keys(&secret.items).into_iter().next()?)));
    Some(Mount { secret: credentials.name.clone(), keys: keys(&credentials.items), ca })
}

/// A hash of entries, in their order.
pub(super) fn hash<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (key, value) in entries {
        hash.update(key);
        hash.update([0]);
        hash.update(value);
        hash.update([0]);
    }
    hex(&hash.finalize())
}

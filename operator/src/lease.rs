//! Leader election by a Lease (<https://kubernetes.io/docs/concepts/architecture/leases/>).
//!
//! One process leads. It renews the Lease well before the Lease runs out; when it cannot, it ends, because another may lead by then.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, ResourceExt, api::PostParams};

use crate::metrics;

/// A Lease that was not renewed for so long may be taken.
const DURATION: Duration = Duration::from_secs(15);

/// A leader that could not renew for so long gives up, well before another may take the Lease.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Time between renewals.
const RENEW: Duration = Duration::from_secs(3);

/// Time between looks at another's Lease.
const LOOK: Duration = Duration::from_secs(2);

/// A claim to a Lease.
pub struct Claim {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The version of another's Lease, and since when it is the same: clocks of machines are not compared.
    seen: Option<(String, Instant)>,
}

impl Claim {
    /// A claim to a Lease under a name of our own.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Claim { api, name: name.to_owned(), identity: identity.to_owned(), seen: None }
    }

    /// Waits until the Lease is ours.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease cannot be looked at"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Renews until the Lease is lost, and returns then.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < GIVE_UP {
            tokio::time::sleep(RENEW).await;
            // The Lease counts from when it was asked for, not from the answer.
            let asked = Instant::now();
            match tokio::time::timeout(GIVE_UP.saturating_sub(renewed.elapsed()), self.attempt()).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the lease cannot be renewed"),
                Err(_) => return,
            }
        }
    }

    /// Gives the Lease back, so that the next one need not wait.
    pub async fn release(&mut self) {
        let release = async {
            let mut lease = self.api.get(&self.name).await?;
            if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
            {
                spec.holder_identity = None;
                spec.lease_duration_seconds = Some(1);
                metrics::write("leases", "update");
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Err(error) = release.await {
            tracing::warn!(%error, "the lease could not be given back");
        }
    }

    /// Takes or renews the Lease if it is free or ours. The resource's version decides between two that try at once.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let now = MicroTime(Timestamp::now());
        let written = match self.api.get_opt(&self.name).await? {
            None => {
                let spec = self.spec(now.clone(), now, 0);
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                metrics::write("leases", "create");
                self.api.create(&PostParams::default(), &lease).await
            }
            Some(mut lease) => {
                let held = lease.spec.clone().unwrap_or_default();
                let ours = held.holder_identity.as_deref() == Some(&self.identity);
                if !ours && !self.is_abandoned(&lease, &held) {
                    return Ok(false);
                }
                let transitions = held.lease_transitions.unwrap_or(0) + i32::from(!ours);
                let since = held.acquire_time.filter(|_| ours).unwrap_or(now.clone());
                lease.spec = Some(self.spec(since, now, transitions));
                metrics::write("leases", "update");
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, acquired: MicroTime, renewed: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(acquired),
            renew_time: Some(renewed),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Whether another's Lease has not changed for as long as it lasts.
    fn is_abandoned(&mut self, lease: &Lease, held: &LeaseSpec) -> bool {
        if held.holder_identity.as_deref().is_none_or(str::is_empty) {
            return true;
        }
        let version = lease.resource_version().unwrap_or_default();
        let lasts = held.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = lasts.map_or(DURATION, Duration::from_secs);
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() > lasts,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }
}

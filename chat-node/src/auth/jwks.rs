//! The keys that an OpenID provider publishes: fetched, kept, and fetched again when a token names one that is not there.
//!
//! However many tokens with unknown keys arrive, one request is under way at a time and the next waits a while. A provider that is
//! away costs nothing while its keys are at hand.

use std::{sync::Arc, time::Duration};

use axum::http::Uri;
use crds::node_config;
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    fetch::Fetcher,
    keys::{Trust, VerifyingKey},
};

/// Keys of a set that are looked at.
const KEYS_MAX: usize = 64;

/// Time between requests at least.
const PAUSE: Duration = Duration::from_secs(10);

/// Age at which keys are fetched again in the background, so that a withdrawn one goes.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// Age beyond which keys count no more.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A published key set.
pub(super) struct KeySet {
    uri: Uri,
    trust: Arc<Trust>,
    fetcher: Fetcher,
    cache: Mutex<Cache>,
    /// Held during a request.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Cache {
    keys: Arc<[VerifyingKey]>,
    /// When `keys` were asked for.
    fetched: Option<Instant>,
    /// When they were last asked for.
    tried: Option<Instant>,
}

impl Cache {
    /// Whether the set may be asked for.
    fn may_ask(&self, now: Instant) -> bool {
        self.tried.is_none_or(|tried| now.duration_since(tried) >= PAUSE)
    }

    /// Whether it should be, although nothing is missing.
    fn is_stale(&self, now: Instant) -> bool {
        self.may_ask(now) && self.fetched.is_none_or(|fetched| now.duration_since(fetched) >= FRESH)
    }

    /// The keys that count.
    fn keys(&self, now: Instant) -> Option<Arc<[VerifyingKey]>> {
        self.fetched.filter(|fetched| now.duration_since(*fetched) < AGE_MAX).map(|_| self.keys.clone())
    }
}

impl KeySet {
    /// A set that was not fetched yet.
    ///
    /// # Errors
    /// Names the key of the configuration and the reason.
    pub(super) fn new(config: &node_config::Jwks) -> Result<Self, (&'static str, String)> {
        let bad_url = || ("auth.jwks.url", format!("{:?} is no URL", config.url));
        Ok(KeySet {
            uri: config.url.parse::<Uri>().ok().filter(|uri| uri.host().is_some()).ok_or_else(bad_url)?,
            trust: Arc::new(Trust {
                issuer: Some(config.issuer.clone()),
                audience: Some(config.audience.clone()),
                user_claim: config.user_claim.clone(),
            }),
            fetcher: Fetcher::new(config.ca_file.as_deref()).map_err(|why| ("auth.jwks.caFile", why))?,
            cache: Mutex::default(),
            flight: tokio::sync::Mutex::default(),
        })
    }

    /// The keys, if they were ever fetched. When they are getting old, others are asked for in the background.
    pub(super) fn keys(self: &Arc<Self>) -> Option<Arc<[VerifyingKey]>> {
        let now = Instant::now();
        let cache = self.cache.lock();
        if cache.is_stale(now) {
            let set = self.clone();
            tokio::spawn(async move { set.refetch().await });
        }
        cache.keys(now)
    }

    /// Whether the keys were asked for then or later, and came: what is not among them, nobody has published before.
    pub(super) fn was_asked_for_since(&self, then: Instant) -> bool {
        self.cache.lock().fetched.is_some_and(|fetched| fetched >= then)
    }

    /// Asks for the keys, unless that was done just now. Returns when they are there, or cannot be had.
    pub(super) async fn refetch(&self) {
        let _flight = self.flight.lock().await;
        let now = Instant::now();
        {
            let mut cache = self.cache.lock();
            if !cache.may_ask(now) {
                return;
            }
            cache.tried = Some(now);
        }
        let keys = self.fetcher.get(&self.uri).await.and_then(|document| parse(&document, &self.trust));
        match keys {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "the key set was fetched");
                let mut cache = self.cache.lock();
                (cache.keys, cache.fetched) = (keys, Some(now));
            }
            Err(error) => tracing::warn!(uri = %self.uri, %error, "the key set cannot be fetched"),
        }
    }
}

/// Reads a key set (RFC 7517 §5). What is of no use is passed over, as the RFC asks.
fn parse(document: &[u8], trust: &Arc<Trust>) -> Result<Arc<[VerifyingKey]>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(document).map_err(|error| format!("it is no key set: {error}"))?;
    let keys = set.keys.into_iter().take(KEYS_MAX);
    let keys = keys.filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Ok(keys.filter_map(|key| VerifyingKey::published(&key, trust.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_asked_for_when_it_is_old_or_a_key_is_missing_but_never_in_a_hurry() {
        let start = Instant::now();
        let mut cache = Cache::default();
        assert!(cache.is_stale(start) && cache.keys(start).is_none());
        cache.tried = Some(start);
        assert!(!cache.may_ask(start + PAUSE / 2) && !cache.is_stale(start + PAUSE / 2));
        assert!(cache.is_stale(start + PAUSE));
        cache.fetched = Some(start);
        assert!(cache.may_ask(start + PAUSE) && !cache.is_stale(start + PAUSE));
        assert!(cache.is_stale(start + FRESH));
        assert!(cache.keys(start + FRESH).is_some(), "old keys do until there are others");
        assert!(cache.keys(start + AGE_MAX).is_none());
    }

    #[test]
    fn what_is_of_no_use_in_a_set_is_passed_over() {
        let trust = Arc::new(Trust { issuer: None, audience: None, user_claim: "sub".into() });
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let key = |fields: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{fields}}}"#);
        let count = |keys: &str| parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes(), &trust).map(|keys| keys.len());
        assert_eq!(count(&key("")), Ok(1));
        assert_eq!(count(&key(r#","use":"sig","alg":"EdDSA","kid":"a","x5t":"b""#)), Ok(1));
        assert_eq!(count(&key(r#","use":"enc""#)), Ok(0));
        assert_eq!(count(&key(r#","alg":"RS256""#)), Ok(0), "a key has the algorithms of its kind only");
        assert_eq!(count(&key(r#","alg":"HS256""#)), Ok(0));
        assert_eq!(count(r#"{"kty":"oct","k":"c2VjcmV0"}"#), Ok(0), "nobody publishes a secret");
        assert_eq!(count(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#), Ok(0), "too weak");
        assert_eq!(count(r#"{"kty":"EC","crv":"secp256k1","x":"a","y":"b"}"#), Ok(0));
        assert_eq!(count(&format!(r#"{{"kty":"new"}},7,{}"#, key(""))), Ok(1));
        assert_eq!(count(&vec![key(""); 65].join(",")), Ok(64));
        assert!(parse(b"<html>", &trust).is_err() && parse(b"[]", &trust).is_err());
    }
}

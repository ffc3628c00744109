//! Tokens: JSON Web Tokens (RFC 7519), signed with the cluster's own secret or by others whose keys are configured or published.

use std::{fs, sync::Arc};

use crds::node_config::{Auth, SignatureAlgorithm};
use jsonwebtoken::{AlgorithmFamily, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Rights,
    jwks::KeySet,
    keys::{Trust, VerifyingKey, algorithm, candidates, has},
};
use crate::event::{OWN_USERS, User};

/// Bytes of a user's name.
const USER_BYTES_MAX: usize = 128;

/// Bytes of a token: an OpenID provider's with many claims has some 2 KiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Why a token does not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It will never do.
    #[error("the token is missing, malformed, wrongly signed or not for this service")]
    Bad,
    /// It would have done earlier.
    #[error("the token has expired")]
    Expired,
    /// Nobody can tell now: the keys of its issuer cannot be fetched, or were not just now.
    #[error("the token cannot be checked now")]
    Unavailable,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: User,
    /// When the token expires, in seconds since 1970 UTC.
    pub expires: u64,
    /// What it allows.
    pub rights: Rights,
    /// The login that it was given to, which can be ended before the token expires. Tokens of others, and the node's own, have none.
    pub login: Option<Uuid>,
}

/// What a token is to say.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Whose it is.
    pub user: &'a str,
    /// The login that it is given to.
    pub login: Option<Uuid>,
    /// The scopes that it is narrowed to, in the form of the claim.
    pub scope: Option<&'a str>,
    /// How long it holds, in seconds.
    pub seconds: u64,
}

/// The claim that names the login. Not `sid`, which OpenID providers give to sessions of their own.
const LOGIN_CLAIM: &str = "chat_session";

/// The claim that says which start of which node a token of its own is of.
const START_CLAIM: &str = "chat_start";

/// What the tokens of built-in accounts say.
#[derive(Serialize)]
struct Payload<'a> {
    sub: &'a str,
    exp: u64,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    /// See [`LOGIN_CLAIM`].
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_session: Option<Uuid>,
    /// See [`START_CLAIM`].
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_start: Option<Uuid>,
}

/// Signs and verifies tokens.
pub struct Tokens {
    signing: EncodingKey,
    header: Header,
    /// The cluster's own secret, and the configured keys.
    keys: Vec<VerifyingKey>,
    published: Option<Arc<KeySet>>,
    auth: Auth,
    /// Stands for this start of this node. Nobody else knows it, so that nobody else has the nodes' own names, whoever signs tokens too.
    start: Uuid,
}

impl Tokens {
    /// Prepares for a secret and whatever keys the configuration names.
    ///
    /// # Errors
    /// Names the key of the configuration that is to blame, and what to do.
    pub fn new(secret: &[u8], auth: &Auth) -> Result<Self, (&'static str, String)> {
        let own = algorithm(SignatureAlgorithm::from(auth.algorithm));
        let trust = Trust { issuer: auth.issuer.clone(), audience: auth.audience.clone(), user_claim: "sub".into() };
        let own_key = VerifyingKey::secret(secret, own, Arc::new(trust)).map_err(|why| ("auth.keyFile", why))?;
        let mut keys = vec![own_key];
        for key in &auth.keys {
            let file = key.file.display();
            let refuse = |why: String| ("auth.keys", format!("{file}: {why}"));
            let content = fs::read(&key.file).map_err(|error| refuse(error.to_string()))?;
            keys.push(VerifyingKey::configured(key, content.trim_ascii()).map_err(refuse)?);
        }
        let published = auth.jwks.as_ref().map(KeySet::new).transpose()?.map(Arc::new);
        if let Some(set) = &published {
            // The first look sets off the first request, so that nobody has to wait for it.
            set.keys();
        }
        let (signing, header) = (EncodingKey::from_secret(secret), Header::new(own));
        Ok(Tokens { signing, header, keys, published, auth: auth.clone(), start: Uuid::new_v4() })
    }

    /// Checks a token at a time, in seconds since 1970 UTC. Waits only where a published key must be fetched.
    ///
    /// # Errors
    /// Tells only whether a newer token can help, so that nobody learns how to forge one.
    pub async fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Bad);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Bad)?;
        if let Some(signed) = opened(&self.keys, &header, token) {
            return self.claims(signed, now);
        }
        // Nobody publishes a secret.
        let published = self.published.as_ref().filter(|_| header.alg.family() != AlgorithmFamily::Hmac);
        let set = published.ok_or(TokenError::Bad)?;
        let shown = Instant::now();
        // Another key of the provider's would have another name.
        let known = set.keys();
        if let Some(keys) = &known {
            match opened(keys, &header, token) {
                Some(signed) => return self.claims(signed, now),
                None if has(keys, &header) => return Err(TokenError::Bad),
                None => {}
            }
        }
        set.refetch().await;
        let keys = set.keys().ok_or(TokenError::Unavailable)?;
        match opened(&keys, &header, token) {
            Some(signed) => self.claims(signed, now),
            None if has(&keys, &header) || set.was_asked_for_since(shown) => Err(TokenError::Bad),
            // The key may be newer than the set.
            None => Err(TokenError::Unavailable),
        }
    }

    /// Judges the payload of a token whose signature is good.
    fn claims(&self, (payload, user): (Map<String, Value>, String), now: u64) -> Result<Claims, TokenError> {
        let leeway = self.auth.leeway_seconds;
        let expires = seconds(&payload, "exp").ok_or(TokenError::Bad)?.saturating_add(leeway);
        let early = seconds(&payload, "nbf").is_some_and(|nbf| nbf > now + leeway);
        if early || user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
            return Err(TokenError::Bad);
        }
        let is_own = || payload.get(START_CLAIM).and_then(Value::as_str) == Some(&self.start.to_string());
        if user.starts_with(OWN_USERS) && !is_own() {
            return Err(TokenError::Bad);
        }
        if expires <= now {
            return Err(TokenError::Expired);
        }
        let rights = Rights::of(&payload, &self.auth.roles_claim, self.auth.admins.contains(&user));
        let login = match payload.get(LOGIN_CLAIM) {
            None => None,
            Some(login) => Some(login.as_str().and_then(|login| login.parse().ok()).ok_or(TokenError::Bad)?),
        };
        Ok(Claims { user: user.into(), expires, rights, login })
    }

    /// Signs a token of the node's own, for whatever name and the usual time; tells its life in seconds. It belongs to no login.
    ///
    /// # Errors
    /// When the signature fails, which it does not for a secret of any length.
    pub fn sign(&self, user: &str, now: u64) -> Result<(String, u64), jsonwebtoken::errors::Error> {
        let seconds = self.auth.token_seconds;
        let token = self.encode(&Grant { user, login: None, scope: None, seconds }, Some(self.start), now)?;
        Ok((token, seconds))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// As [`Tokens::sign`].
    pub fn grant(&self, grant: &Grant<'_>, now: u64) -> Result<String, jsonwebtoken::errors::Error> {
        self.encode(grant, None, now)
    }

    fn encode(
        &self,
        grant: &Grant<'_>,
        chat_start: Option<Uuid>,
        now: u64,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let Grant { user: sub, login: chat_session, scope, seconds } = *grant;
        let (iss, aud) = (self.auth.issuer.as_deref(), self.auth.audience.as_deref());
        let payload = Payload { sub, exp: now + seconds, iat: now, iss, aud, scope, chat_session, chat_start };
        jsonwebtoken::encode(&self.header, &payload, &self.signing)
    }
}

/// What a token says, if one of the keys signed it.
fn opened(keys: &[VerifyingKey], header: &Header, token: &str) -> Option<(Map<String, Value>, String)> {
    candidates(keys, header).find_map(|key| key.verify(token))
}

/// A time of a payload; a fraction (RFC 7519 §2 allows one) is dropped.
fn seconds(payload: &Map<String, Value>, claim: &str) -> Option<u64> {
    let value = payload.get(claim)?;
    value.as_u64().or_else(|| value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64))
}

#[cfg(test)]
mod tests;

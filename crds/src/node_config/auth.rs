//! Who may connect: the keys that tokens may be signed with, and what tokens must say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::web::is_address;

/// Further keys at most: a rotation needs two, and each may be tried for a token that names none.
const KEYS_MAX: usize = 16;

/// Longest grace for a refresh token that was followed.
const REFRESH_GRACE_SECONDS_MAX: u64 = 600;

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Auth {
    /// File with the secret that signs and verifies tokens, at least 32 bytes. When absent, a SQLite node makes one beside its
    /// database; a Postgres node refuses to start.
    pub key_file: Option<PathBuf>,
    /// The only signature algorithm that is taken with that secret.
    pub algorithm: HmacAlgorithm,
    /// When set, the `iss` claim must equal it. Written into the tokens of built-in accounts.
    pub issuer: Option<String>,
    /// When set, the `aud` claim must contain it. Written into the tokens of built-in accounts.
    pub audience: Option<String>,
    /// Further keys that tokens may be signed with: of before a rotation, or of other issuers.
    pub keys: Vec<Key>,
    /// The keys that an OpenID provider publishes.
    pub jwks: Option<Jwks>,
    /// The claim that lists a user's roles; dots lead into objects, such as `realm_access.roles`.
    pub roles_claim: String,
    /// Users who are administrators whatever their token says.
    pub admins: Vec<String>,
    /// Whether people can register and log in with a password here.
    pub accounts: bool,
    /// Life of a token that a login gives, in seconds.
    pub token_seconds: u64,
    /// Life of a refresh token, in seconds: who does not come back within it logs in again. Each refresh begins it anew.
    pub refresh_seconds: u64,
    /// Time after a refresh in which the former refresh token is given the same answer again, in seconds. 0: never.
    pub refresh_grace_seconds: u64,
    /// Tolerance for clocks that differ, in seconds.
    pub leeway_seconds: u64,
}

/// A key that tokens may be signed with. It has one algorithm, so that no token can choose another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Key {
    /// The only algorithm that is taken with it.
    pub algorithm: SignatureAlgorithm,
    /// File with the secret (HS), or with the public key in PEM (RS, ES, EdDSA).
    pub file: PathBuf,
    /// The `kid` of its tokens. Absent, it is tried for tokens that name no key or one that nothing else has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When set, the `iss` claim of its tokens must equal it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When set, the `aud` claim of its tokens must contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// A key set that is published at a URL (RFC 7517 §5), as OpenID providers do. Issuer and audience are required: without them
/// a token that the provider made for another service would open this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Jwks {
    /// Where the key set is: `https://...`, or `http://...` where nobody can come in between.
    pub url: String,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must contain.
    pub audience: String,
    /// The claim that names the user.
    #[serde(default = "default_user_claim")]
    pub user_claim: String,
    /// File with the certificates (PEM) of the authorities that are trusted for the URL. Absent: those that browsers trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Signature algorithms with a shared secret (RFC 7518 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum HmacAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

/// Signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum SignatureAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    RS256,
    /// RSA (PKCS #1 v1.5) with SHA-384.
    RS384,
    /// RSA (PKCS #1 v1.5) with SHA-512.
    RS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl From<HmacAlgorithm> for SignatureAlgorithm {
    fn from(algorithm: HmacAlgorithm) -> Self {
        match algorithm {
            HmacAlgorithm::HS256 => SignatureAlgorithm::HS256,
            HmacAlgorithm::HS384 => SignatureAlgorithm::HS384,
            HmacAlgorithm::HS512 => SignatureAlgorithm::HS512,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            key_file: None,
            algorithm: HmacAlgorithm::HS512,
            issuer: None,
            audience: None,
            keys: Vec::new(),
            jwks: None,
            roles_claim: "roles".into(),
            admins: Vec::new(),
            accounts: true,
            token_seconds: 24 * 60 * 60,
            refresh_seconds: 30 * 24 * 60 * 60,
            refresh_grace_seconds: 60,
            leeway_seconds: 30,
        }
    }
}

fn default_user_claim() -> String {
    "sub".into()
}

impl Auth {
    /// What makes no sense: the key, and what to write instead.
    pub(super) fn nonsense(&self) -> Option<(&'static str, &'static str)> {
        if self.token_seconds == 0 {
            return Some(("auth.tokenSeconds", "must be at least 1"));
        }
        if self.refresh_seconds < self.token_seconds {
            return Some(("auth.refreshSeconds", "must be at least auth.tokenSeconds"));
        }
        if self.refresh_grace_seconds > REFRESH_GRACE_SECONDS_MAX {
            return Some(("auth.refreshGraceSeconds", "must be at most 600: whoever stole a token would go unnoticed"));
        }
        if self.keys.len() > KEYS_MAX {
            return Some(("auth.keys", "has more than 16 keys: remove those that no token is signed with any more"));
        }
        if self.roles_claim.is_empty() {
            return Some(("auth.rolesClaim", "must name a claim, such as roles"));
        }
        let jwks = self.jwks.as_ref()?;
        if !["https://", "http://"].iter().any(|scheme| jwks.url.starts_with(scheme)) {
            return Some(("auth.jwks.url", "must begin with https:// (or http://)"));
        }
        if !is_address(&jwks.url) {
            return Some(("auth.jwks.url", "must be an address, such as https://login.example.org/keys"));
        }
        if jwks.issuer.is_empty() {
            return Some(("auth.jwks.issuer", "must name the provider as its tokens do in iss"));
        }
        if jwks.audience.is_empty() {
            return Some(("auth.jwks.audience", "must name this service as the provider's tokens do in aud"));
        }
        jwks.user_claim.is_empty().then_some(("auth.jwks.userClaim", "must name a claim, such as sub"))
    }
}

#[cfg(test)]
mod tests {
    use crate::{NodeConfig, node_config::tests::refused};

    #[test]
    fn what_makes_no_sense_is_named_with_what_to_write() {
        refused("auth: {algorithm: RS256}", "auth.algorithm: unknown variant `RS256`");
        refused("auth: {keys: [{algorithm: none, file: k}]}", "unknown variant `none`");
        refused("auth: {keys: [{algorithm: RS256}]}", "missing field `file`");
        refused("auth: {jwks: {url: 'https://a/b', issuer: a}}", "missing field `audience`");
        refused("auth: {jwks: {url: a, issuer: a, audience: c}}", "auth.jwks.url: must begin with https://");
        for bad in ["https://a b/keys", "https://login/the keys", "https:///keys", "https://[::1/keys"] {
            let jwks = format!("auth: {{jwks: {{url: '{bad}', issuer: a, audience: c}}}}");
            refused(&jwks, "auth.jwks.url: must be an address, such as https://login.example.org/keys");
        }
        refused("auth: {jwks: {url: 'https://a/b', issuer: '', audience: c}}", "auth.jwks.issuer");
        refused("auth: {jwks: {url: 'https://a/b', issuer: a, audience: ''}}", "auth.jwks.audience");
        refused("auth: {tokenSeconds: 0}", "auth.tokenSeconds: must be at least 1");
        refused("auth: {refreshSeconds: 3600}", "auth.refreshSeconds: must be at least auth.tokenSeconds");
        refused("auth: {refreshGraceSeconds: 601}", "auth.refreshGraceSeconds: must be at most 600");
        let many = "{algorithm: HS256, file: k},".repeat(17);
        refused(&format!("auth: {{keys: [{many}]}}"), "auth.keys: has more than 16");
    }

    #[test]
    fn keys_and_a_key_set_are_read_back() {
        let yaml = "auth:
  keys: [{algorithm: EdDSA, file: /keys/0/key, id: old, issuer: us}]
  jwks: {url: 'https://login/keys', issuer: 'https://login', audience: chat}";
        let config = NodeConfig::from_yaml(yaml).unwrap();
        assert_eq!(config.auth.jwks.as_ref().unwrap().user_claim, "sub");
        assert_eq!(NodeConfig::from_yaml(&config.to_yaml().unwrap()).unwrap(), config);
    }
}

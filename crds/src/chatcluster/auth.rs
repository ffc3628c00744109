//! Who may connect, as a user writes it. Keys come from Secrets.

#![allow(unreachable_pub, reason = "the derive repeats the structs inside of functions")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::node_config::{HmacAlgorithm, SignatureAlgorithm};

/// Who may connect.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new(
    "(has(self.refreshSeconds) ? self.refreshSeconds : 2592000) >= (has(self.tokenSeconds) ? self.tokenSeconds : 86400)"
).message(
    "refreshSeconds is shorter than tokenSeconds: a refresh token has to outlive the token that it replaces, give it more seconds"
))]
#[serde(rename_all = "camelCase")]
pub struct AuthSpec {
    /// The secret that signs and verifies tokens, at least 32 bytes. Absent, the operator makes one named `<cluster>-auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<SecretKeyReference>,

    /// The only signature algorithm that is taken with that secret.
    #[serde(default = "default_algorithm")]
    pub algorithm: HmacAlgorithm,

    /// When set, the `iss` claim of a token must equal it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,

    /// When set, the `aud` claim of a token must contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,

    /// Further keys that tokens may be signed with: of before a rotation, or of other issuers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub keys: Vec<AuthKey>,

    /// The keys that an OpenID provider publishes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<AuthJwks>,

    /// The claim that lists a user's roles, of which `admin` is known; dots lead into objects. Absent: `roles`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub roles_claim: Option<String>,

    /// Users who are administrators whatever their token says. Register such a name before it is listed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub admins: Vec<String>,

    /// Whether people can register and log in with a password.
    #[serde(default = "default_true")]
    pub accounts: bool,

    /// Life of a token that a login or a refresh gives, in seconds. Absent: a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub token_seconds: Option<u32>,

    /// Life of a refresh token, in seconds: who does not come back within it logs in again. Absent: 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 315_360_000))]
    pub refresh_seconds: Option<u32>,

    /// Time after a refresh in which the former refresh token is given the same answer again, for clients that did not hear it, in
    /// seconds. Absent: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 600))]
    pub refresh_grace_seconds: Option<u32>,
}

/// A key that tokens may be signed with. It has one algorithm, so that no token can choose another.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.audience) || has(self.issuer)").message(
    "audience without issuer trusts the key for everybody who can sign with it: name the issuer too"
))]
#[serde(rename_all = "camelCase")]
pub struct AuthKey {
    /// The only algorithm that is taken with it.
    pub algorithm: SignatureAlgorithm,

    /// Where it is: the secret (HS), or the public key in PEM (RS, ES, EdDSA).
    pub secret: SecretKeyReference,

    /// The `kid` of its tokens. Absent, it is tried for tokens that name no key or one that nothing else has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub id: Option<String>,

    /// When set, the `iss` claim of its tokens must equal it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,

    /// When set, the `aud` claim of its tokens must contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
}

/// A key set that an OpenID provider publishes. Issuer and audience are required: without them a token that the provider made for
/// another service would open this one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.url.matches('^https?://[^/]+/')").message(
    "url must be the whole address of the provider's key set, such as https://login.example.org/keys; its discovery document names it as jwks_uri"
))]
#[serde(rename_all = "camelCase")]
pub struct AuthJwks {
    /// Where the key set is: `https://...`, or `http://...` where nobody can come in between.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,

    /// What `iss` must be.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,

    /// What `aud` must contain.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,

    /// The claim that names the user. Absent: `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub user_claim: Option<String>,

    /// Certificates (PEM) of the authorities that are trusted for the URL. Absent: those that browsers trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKeyReference>,
}

/// One key of a Secret of the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within it.
    #[serde(default = "default_token_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl Default for AuthSpec {
    fn default() -> Self {
        AuthSpec {
            token_secret: None,
            algorithm: default_algorithm(),
            issuer: None,
            audience: None,
            keys: Vec::new(),
            jwks: None,
            roles_claim: None,
            admins: Vec::new(),
            accounts: true,
            token_seconds: None,
            refresh_seconds: None,
            refresh_grace_seconds: None,
        }
    }
}

impl AuthSpec {
    /// The Secrets that hold further keys and authorities, in a stable order: those of `keys`, then that of `jwks`.
    pub fn further_secrets(&self) -> impl Iterator<Item = &SecretKeyReference> {
        let keys = self.keys.iter().map(|key| &key.secret);
        keys.chain(self.jwks.as_ref().and_then(|jwks| jwks.ca.as_ref()))
    }
}

fn default_algorithm() -> HmacAlgorithm {
    HmacAlgorithm::HS512
}

fn default_token_key() -> String {
    "key".into()
}

fn default_true() -> bool {
    true
}

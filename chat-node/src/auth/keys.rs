//! Keys that tokens may be signed with. Each has one algorithm and knows what its tokens must say, so that neither a token's header nor
//! another key's trust can change what is checked (RFC 8725 §3.1).

use std::sync::Arc;

use crds::node_config::{self, SignatureAlgorithm};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Header, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde_json::{Map, Value};

/// Fewest bytes of a secret; RFC 7518 §3.2 asks for the size of the hash, of which the shortest has 32.
const SECRET_BYTES_MIN: usize = 32;

/// Fewest bytes of an RSA key's modulus: 2048 bits (RFC 7518 §3.3).
const RSA_BYTES_MIN: usize = 256;

/// What the tokens of a key must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    /// `iss`, when set.
    pub issuer: Option<String>,
    /// One of `aud`, when set.
    pub audience: Option<String>,
    /// The claim that names the user.
    pub user_claim: String,
}

/// A key, for verification.
pub(super) struct VerifyingKey {
    id: Option<String>,
    decoding: DecodingKey,
    validation: Validation,
    trust: Arc<Trust>,
}

impl VerifyingKey {
    /// A shared secret.
    ///
    /// # Errors
    /// When it is too short, with what to do.
    pub(super) fn secret(secret: &[u8], algorithm: Algorithm, trust: Arc<Trust>) -> Result<Self, String> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!("the secret has {} bytes: give at least {SECRET_BYTES_MIN} random ones", secret.len()));
        }
        Ok(Self::new(None, DecodingKey::from_secret(secret), algorithm, trust))
    }

    /// A configured key, with the content of its file.
    ///
    /// # Errors
    /// Says what the file should hold instead.
    pub(super) fn configured(key: &node_config::Key, content: &[u8]) -> Result<Self, String> {
        let algorithm = algorithm(key.algorithm);
        let trust =
            Arc::new(Trust { issuer: key.issuer.clone(), audience: key.audience.clone(), user_claim: "sub".into() });
        let pem = |what: &str, key: jsonwebtoken::errors::Result<DecodingKey>| {
            key.map_err(|_| format!("{:?} needs the public key of {what} in PEM", algorithm))
        };
        let decoding = match algorithm.family() {
            AlgorithmFamily::Hmac => {
                return Ok(VerifyingKey { id: key.id.clone(), ..Self::secret(content, algorithm, trust)? });
            }
            AlgorithmFamily::Rsa => pem("RSA", DecodingKey::from_rsa_pem(content))?,
            AlgorithmFamily::Ec => pem("an elliptic curve", DecodingKey::from_ec_pem(content))?,
            AlgorithmFamily::Ed => pem("Ed25519", DecodingKey::from_ed_pem(content))?,
        };
        let bytes = decoding.try_get_as_bytes().map_or(0, <[u8]>::len);
        if algorithm.family() == AlgorithmFamily::Rsa && bytes < RSA_BYTES_MIN {
            return Err("an RSA key needs at least 2048 bits: make another".into());
        }
        if let Some(wanted) = point_bytes(algorithm).filter(|wanted| *wanted != bytes) {
            let curve = if wanted == point_bytes(Algorithm::ES256).unwrap_or(0) { "P-256" } else { "P-384" };
            return Err(format!("{algorithm:?} needs a key on {curve}, this one is on another curve"));
        }
        Ok(Self::new(key.id.clone(), decoding, algorithm, trust))
    }

    /// A published key. `None` for what is of no use here: for encryption, of an unknown kind, too weak, or a shared secret, which
    /// nobody may publish.
    pub(super) fn published(jwk: &Jwk, trust: Arc<Trust>) -> Option<Self> {
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        let algorithm = published_algorithm(&jwk.algorithm, common.key_algorithm)?;
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let modulus = match decoding.kind() {
            jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => n.len(),
            jsonwebtoken::DecodingKeyKind::SecretOrDer(_) => RSA_BYTES_MIN,
        };
        (modulus >= RSA_BYTES_MIN).then(|| Self::new(common.key_id.clone(), decoding, algorithm, trust))
    }

    fn new(id: Option<String>, decoding: DecodingKey, algorithm: Algorithm, trust: Arc<Trust>) -> Self {
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp"];
        // Times are compared with the time that the caller gives.
        validation.validate_exp = false;
        match &trust.issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            None => validation.iss = None,
        }
        match &trust.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        VerifyingKey { id, decoding, validation, trust }
    }

    /// The payload and the name of the user, if this key signed the token and the token says what this key's tokens must.
    pub(super) fn verify(&self, token: &str) -> Option<(Map<String, Value>, String)> {
        let payload = jsonwebtoken::decode::<Map<String, Value>>(token, &self.decoding, &self.validation).ok()?.claims;
        let user = payload.get(&self.trust.user_claim)?.as_str()?.to_owned();
        Some((payload, user))
    }

    fn algorithm(&self) -> Algorithm {
        self.validation.algorithms[0]
    }
}

/// The keys that may have signed a token with this header: of its algorithm, and named by its `kid` where one is. A token that
/// names no key, or one that none has, may be of any key that has no name; a token without `kid` of any at all.
pub(super) fn candidates<'k>(
    keys: &'k [VerifyingKey],
    header: &'k Header,
) -> impl Iterator<Item = &'k VerifyingKey> + 'k {
    let named = has(keys, header);
    keys.iter().filter(move |key| {
        key.algorithm() == header.alg
            && if named { key.id == header.kid } else { header.kid.is_none() || key.id.is_none() }
    })
}

/// Whether one of the keys has the name that the token gives.
pub(super) fn has(keys: &[VerifyingKey], header: &Header) -> bool {
    header.kid.is_some() && keys.iter().any(|key| key.id == header.kid)
}

pub(super) fn algorithm(algorithm: SignatureAlgorithm) -> Algorithm {
    match algorithm {
        SignatureAlgorithm::HS256 => Algorithm::HS256,
        SignatureAlgorithm::HS384 => Algorithm::HS384,
        SignatureAlgorithm::HS512 => Algorithm::HS512,
        SignatureAlgorithm::RS256 => Algorithm::RS256,
        SignatureAlgorithm::RS384 => Algorithm::RS384,
        SignatureAlgorithm::RS512 => Algorithm::RS512,
        SignatureAlgorithm::ES256 => Algorithm::ES256,
        SignatureAlgorithm::ES384 => Algorithm::ES384,
        SignatureAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// Bytes of a public point, uncompressed (SEC 1 §2.3.3).
fn point_bytes(algorithm: Algorithm) -> Option<usize> {
    match algorithm {
        Algorithm::ES256 => Some(1 + 2 * 32),
        Algorithm::ES384 => Some(1 + 2 * 48),
        _ => None,
    }
}

/// The one algorithm of a published key: the one that it names, if its kind can do that, or the usual one of its kind.
fn published_algorithm(kind: &AlgorithmParameters, named: Option<KeyAlgorithm>) -> Option<Algorithm> {
    let possible: &[Algorithm] = match kind {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => &[],
    };
    match named {
        None => possible.first().copied(),
        Some(named) => possible.iter().copied().find(|algorithm| KeyAlgorithm::from(*algorithm) == named),
    }
}

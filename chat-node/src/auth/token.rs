//! Tokens: JSON Web Tokens (RFC 7519) signed with one secret and one algorithm.

use crds::node_config::{Algorithm, Auth};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::event::User;

/// Bytes of a user's name.
const USER_BYTES_MAX: usize = 128;

/// Fewest bytes of the secret; RFC 7518 §3.2 asks for the size of the hash, of which the shortest has 32.
const KEY_BYTES_MIN: usize = 32;

/// Why a token does not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It will never do.
    #[error("the token is missing, malformed, wrongly signed or not for this service")]
    Bad,
    /// It would have done earlier.
    #[error("the token has expired")]
    Expired,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: User,
    /// When the token expires, in seconds since 1970 UTC.
    pub expires: u64,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    sub: String,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    // Validated by the library, which takes one audience or a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<serde_json::Value>,
}

/// Signs and verifies tokens.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    header: Header,
    validation: Validation,
    issuer: Option<String>,
    audience: Option<String>,
    token_seconds: u64,
    leeway_seconds: u64,
}

impl Tokens {
    /// Prepares for a secret.
    ///
    /// # Errors
    /// When the secret is too short, with what to do.
    pub fn new(key: &[u8], auth: &Auth) -> Result<Self, String> {
        if key.len() < KEY_BYTES_MIN {
            return Err(format!("the secret has {} bytes: give at least {KEY_BYTES_MIN} random ones", key.len()));
        }
        let algorithm = match auth.algorithm {
            Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
            Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
        };
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp", "sub"];
        // Times are compared below with the time that the caller gives.
        validation.validate_exp = false;
        match &auth.issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            None => validation.iss = None,
        }
        match &auth.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        Ok(Tokens {
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            header: Header::new(algorithm),
            validation,
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            token_seconds: auth.token_seconds,
            leeway_seconds: auth.leeway_seconds,
        })
    }

    /// Checks a token at a time, in seconds since 1970 UTC.
    ///
    /// # Errors
    /// Tells only whether a newer token can help, so that nobody learns how to forge one.
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        let payload = jsonwebtoken::decode::<Payload>(token, &self.decoding, &self.validation)
            .map_err(|_| TokenError::Bad)?
            .claims;
        let user = payload.sub;
        let early = payload.nbf.is_some_and(|nbf| nbf > now + self.leeway_seconds);
        if early || user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
            return Err(TokenError::Bad);
        }
        let expires = payload.exp.saturating_add(self.leeway_seconds);
        if expires <= now {
            return Err(TokenError::Expired);
        }
        Ok(Claims { user: user.into(), expires })
    }

    /// Signs a token for a user of a built-in account; tells its life in seconds.
    ///
    /// # Errors
    /// When the signature fails, which it does not for a secret of any length.
    pub fn sign(&self, user: &str, now: u64) -> Result<(String, u64), jsonwebtoken::errors::Error> {
        let payload = Payload {
            sub: user.to_owned(),
            exp: now + self.token_seconds,
            nbf: None,
            iat: Some(now),
            iss: self.issuer.clone(),
            aud: self.audience.clone().map(serde_json::Value::String),
        };
        Ok((jsonwebtoken::encode(&self.header, &payload, &self.encoding)?, self.token_seconds))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KEY: &[u8] = b"an example of a secret, 32 bytes long";
    const NOW: u64 = 1_767_225_600;

    fn tokens(change: impl FnOnce(&mut Auth)) -> Tokens {
        let mut auth = Auth { leeway_seconds: 30, ..Auth::default() };
        change(&mut auth);
        Tokens::new(KEY, &auth).unwrap()
    }

    fn signed(algorithm: jsonwebtoken::Algorithm, key: &[u8], payload: Value) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), &payload, &EncodingKey::from_secret(key)).unwrap()
    }

    #[track_caller]
    fn check(tokens: &Tokens, payload: Value, expected: Result<&str, TokenError>) {
        let token = signed(jsonwebtoken::Algorithm::HS512, KEY, payload);
        assert_eq!(tokens.verify(&token, NOW).map(|claims| claims.user.to_string()), expected.map(str::to_owned));
    }

    #[test]
    fn a_token_of_ours_lets_in_until_it_expires() {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let tokens = tokens(|auth| {
                auth.algorithm = algorithm;
                auth.issuer = Some("us".into());
                auth.audience = Some("chat".into());
            });
            let (token, seconds) = tokens.sign("alice", NOW).unwrap();
            let claims = tokens.verify(&token, NOW).unwrap();
            assert_eq!((&*claims.user, claims.expires, seconds), ("alice", NOW + 86_400 + 30, 86_400));
            assert_eq!(tokens.verify(&token, NOW + 86_400 + 30), Err(TokenError::Expired));
        }
    }

    #[test]
    fn claims_are_held_to_what_is_configured() {
        let ours = tokens(|auth| {
            auth.issuer = Some("us".into());
            auth.audience = Some("chat".into());
        });
        let exp = NOW + 10;
        check(&ours, json!({"sub": "alice", "exp": exp, "iss": "us", "aud": ["mail", "chat"]}), Ok("alice"));
        check(&ours, json!({"sub": "alice", "exp": exp, "iss": "them", "aud": "chat"}), Err(TokenError::Bad));
        check(&ours, json!({"sub": "alice", "exp": exp, "iss": "us", "aud": "mail"}), Err(TokenError::Bad));
        check(&ours, json!({"sub": "alice", "exp": exp, "iss": "us"}), Err(TokenError::Bad));
        let any = tokens(|_| {});
        check(&any, json!({"sub": "alice", "exp": exp, "iss": "them", "aud": "mail"}), Ok("alice"));
        check(&any, json!({"sub": "alice", "exp": NOW - 29}), Ok("alice"));
        check(&any, json!({"sub": "alice", "exp": NOW - 30}), Err(TokenError::Expired));
        check(&any, json!({"sub": "alice", "exp": exp, "nbf": NOW + 31}), Err(TokenError::Bad));
        check(&any, json!({"sub": "alice"}), Err(TokenError::Bad));
        check(&any, json!({"exp": exp}), Err(TokenError::Bad));
        check(&any, json!({"sub": "", "exp": exp}), Err(TokenError::Bad));
        check(&any, json!({"sub": "a\nb", "exp": exp}), Err(TokenError::Bad));
    }

    #[test]
    fn other_keys_other_algorithms_and_no_signature_are_refused() {
        let tokens = tokens(|_| {});
        let payload = json!({"sub": "alice", "exp": NOW + 10});
        let other_key = signed(jsonwebtoken::Algorithm::HS512, b"another", payload.clone());
        let other_algorithm = signed(jsonwebtoken::Algorithm::HS256, KEY, payload);
        // {"alg":"none"}.{"sub":"alice","exp":99999999999}
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OTl9.";
        for token in [other_key.as_str(), &other_algorithm, none, "", "a.b.c"] {
            assert_eq!(tokens.verify(token, NOW), Err(TokenError::Bad));
        }
        assert!(Tokens::new(b"short", &Auth::default()).is_err());
    }
}

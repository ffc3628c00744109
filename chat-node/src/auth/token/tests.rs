//! Claims about tokens: each kind of key opens its own, and nothing else does.

use std::path::Path;

use crds::node_config::{HmacAlgorithm, Key};
use futures::FutureExt;
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::auth::Scope;

const SECRET: &[u8] = b"an example of a secret, 32 bytes long";
const NOW: u64 = 1_767_225_600;

fn tokens(change: impl FnOnce(&mut Auth)) -> Tokens {
    let mut auth = Auth { leeway_seconds: 30, ..Auth::default() };
    change(&mut auth);
    Tokens::new(SECRET, &auth).unwrap()
}

fn signed(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>, payload: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, payload, key).unwrap()
}

fn alice() -> Value {
    json!({"sub": "alice", "exp": NOW + 10})
}

/// Nothing is waited for where every key is at hand.
fn verified(tokens: &Tokens, token: &str, now: u64) -> Result<Claims, TokenError> {
    tokens.verify(token, now).now_or_never().expect("every key is at hand")
}

#[track_caller]
fn check(tokens: &Tokens, token: &str, expected: Result<&str, TokenError>) {
    let claims = verified(tokens, token, NOW);
    assert_eq!(claims.map(|claims| claims.user.to_string()), expected.map(str::to_owned), "{token}");
}

#[track_caller]
fn check_payload(tokens: &Tokens, payload: Value, expected: Result<&str, TokenError>) {
    check(tokens, &signed(Algorithm::HS512, &EncodingKey::from_secret(SECRET), None, &payload), expected);
}

#[test]
fn a_token_of_ours_lets_in_until_it_expires() {
    for algorithm in [HmacAlgorithm::HS256, HmacAlgorithm::HS384, HmacAlgorithm::HS512] {
        let tokens = tokens(|auth| {
            auth.algorithm = algorithm;
            auth.issuer = Some("us".into());
            auth.audience = Some("chat".into());
        });
        let (token, seconds) = tokens.sign("alice", NOW).unwrap();
        let verify = |now| verified(&tokens, &token, now);
        let claims = verify(NOW).unwrap();
        assert_eq!((&*claims.user, claims.expires, seconds), ("alice", NOW + 86_400 + 30, 86_400));
        assert_eq!(verify(NOW + 86_400 + 30), Err(TokenError::Expired));
    }
}

#[test]
fn a_token_says_which_login_it_was_given_to_and_what_it_is_narrowed_to() {
    let tokens = tokens(|_| {});
    let login = Some(Uuid::from_u128(7));
    let grant = Grant { user: "alice", login, scope: Some("chat:send"), seconds: 60 };
    let claims = verified(&tokens, &tokens.grant(&grant, NOW).unwrap(), NOW).unwrap();
    assert_eq!((claims.login, claims.expires), (login, NOW + 60 + 30));
    assert!(claims.rights.is_narrowed() && claims.rights.allows(Scope::Send) && !claims.rights.allows(Scope::Rooms));
    let plain = verified(&tokens, &tokens.sign("alice", NOW).unwrap().0, NOW).unwrap();
    assert!(plain.login.is_none() && !plain.rights.is_narrowed());
    let exp = NOW + 10;
    check_payload(&tokens, json!({"sub": "alice", "exp": exp, "sid": "of a provider"}), Ok("alice"));
    for bad in [json!("7"), json!(7), json!(null)] {
        check_payload(&tokens, json!({"sub": "alice", "exp": exp, "chat_session": bad}), Err(TokenError::Bad));
    }
}

#[test]
fn the_nodes_own_names_are_those_of_a_node_that_signs_for_itself() {
    let (ours, another) = (tokens(|_| {}), tokens(|_| {}));
    let own = ours.sign("self-test/sender", NOW).unwrap().0;
    check(&ours, &own, Ok("self-test/sender"));
    check(&another, &own, Err(TokenError::Bad));
    let grant = Grant { user: "self-test/sender", login: None, scope: None, seconds: 60 };
    check(&ours, &ours.grant(&grant, NOW).unwrap(), Err(TokenError::Bad));
    let exp = NOW + 10;
    check_payload(&ours, json!({"sub": "self-test/", "exp": exp}), Err(TokenError::Bad));
    check_payload(&ours, json!({"sub": "self-test/x", "exp": exp, "chat_start": Uuid::nil()}), Err(TokenError::Bad));
    check_payload(&ours, json!({"sub": "self-test", "exp": exp}), Ok("self-test"));
}

#[test]
fn claims_are_held_to_what_is_configured() {
    let ours = tokens(|auth| {
        auth.issuer = Some("us".into());
        auth.audience = Some("chat".into());
    });
    let exp = NOW + 10;
    check_payload(&ours, json!({"sub": "alice", "exp": exp, "iss": "us", "aud": ["mail", "chat"]}), Ok("alice"));
    check_payload(&ours, json!({"sub": "alice", "exp": exp, "iss": "them", "aud": "chat"}), Err(TokenError::Bad));
    check_payload(&ours, json!({"sub": "alice", "exp": exp, "iss": "us", "aud": "mail"}), Err(TokenError::Bad));
    check_payload(&ours, json!({"sub": "alice", "exp": exp, "iss": "us"}), Err(TokenError::Bad));
    check_payload(&ours, json!({"sub": "alice", "exp": exp, "aud": "chat"}), Err(TokenError::Bad));
    let any = tokens(|_| {});
    check_payload(&any, json!({"sub": "alice", "exp": exp, "iss": "them", "aud": "mail"}), Ok("alice"));
    check_payload(&any, json!({"sub": "alice", "exp": NOW - 29}), Ok("alice"));
    check_payload(&any, json!({"sub": "alice", "exp": NOW as f64 + 0.5}), Ok("alice"));
    check_payload(&any, json!({"sub": "alice", "exp": NOW - 30}), Err(TokenError::Expired));
    check_payload(&any, json!({"sub": "alice", "exp": exp, "nbf": NOW + 31}), Err(TokenError::Bad));
    check_payload(&any, json!({"sub": "alice", "exp": "soon"}), Err(TokenError::Bad));
    check_payload(&any, json!({"sub": "alice", "exp": -1}), Err(TokenError::Bad));
    check_payload(&any, json!({"sub": "alice"}), Err(TokenError::Bad));
    check_payload(&any, json!({"exp": exp}), Err(TokenError::Bad));
    check_payload(&any, json!({"sub": "", "exp": exp}), Err(TokenError::Bad));
    check_payload(&any, json!({"sub": 7, "exp": exp}), Err(TokenError::Bad));
    check_payload(&any, json!({"sub": "a\nb", "exp": exp}), Err(TokenError::Bad));
}

#[test]
fn other_keys_other_algorithms_and_no_signature_are_refused() {
    let tokens = tokens(|_| {});
    let ours = EncodingKey::from_secret(SECRET);
    check(
        &tokens,
        &signed(Algorithm::HS512, &EncodingKey::from_secret(b"another"), None, &alice()),
        Err(TokenError::Bad),
    );
    check(&tokens, &signed(Algorithm::HS256, &ours, None, &alice()), Err(TokenError::Bad));
    // {"alg":"none"}.{"sub":"alice","exp":99999999999}
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OTl9.";
    let long = format!("{}.b.c", "a".repeat(TOKEN_BYTES_MAX));
    for token in [none, "", "a.b.c", "...", &long] {
        check(&tokens, token, Err(TokenError::Bad));
    }
    assert!(Tokens::new(b"short", &Auth::default()).is_err());
}

/// A key pair: for signing, and the file for verifying.
struct Pair {
    algorithm: SignatureAlgorithm,
    signing: EncodingKey,
    public: String,
}

fn pairs() -> Vec<Pair> {
    use SignatureAlgorithm::{ES256, ES384, EdDSA, RS256, RS384, RS512};
    let made = |algorithm, kind, signing: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>| {
        let key = rcgen::KeyPair::generate_for(kind).unwrap();
        let signing = signing(key.serialize_pem().as_bytes()).unwrap();
        Pair { algorithm, signing, public: key.public_key_pem() }
    };
    let (private, public) = rsa();
    let rsa = [RS256, RS384, RS512].map(|algorithm| Pair {
        algorithm,
        signing: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(),
        public: public.clone(),
    });
    let curves = [
        made(ES256, &rcgen::PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem),
        made(ES384, &rcgen::PKCS_ECDSA_P384_SHA384, EncodingKey::from_ec_pem),
        made(EdDSA, &rcgen::PKCS_ED25519, EncodingKey::from_ed_pem),
    ];
    rsa.into_iter().chain(curves).collect()
}

/// An RSA key pair in PEM. Making one takes long without optimization, so that is left to openssl.
fn rsa() -> (String, String) {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let made = Command::new("openssl").args(["genrsa", "2048"]).stderr(Stdio::null()).output().unwrap();
    let mut public = Command::new("openssl")
        .args(["rsa", "-pubout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    public.stdin.take().unwrap().write_all(&made.stdout).unwrap();
    let public = public.wait_with_output().unwrap().stdout;
    (String::from_utf8(made.stdout).unwrap(), String::from_utf8(public).unwrap())
}

fn configured(folder: &Path, name: &str, algorithm: SignatureAlgorithm, content: &str, id: Option<&str>) -> Key {
    let file = folder.join(name);
    fs::write(&file, content).unwrap();
    Key { algorithm, file, id: id.map(str::to_owned), issuer: None, audience: None }
}

#[test]
fn each_kind_of_key_opens_its_own_tokens_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = pairs();
    // Signing with RSA takes long without optimization: once each.
    let sign = |pair: &Pair| signed(algorithm(pair.algorithm), &pair.signing, Some("any"), &alice());
    let signed_by: Vec<String> = pairs.iter().map(sign).collect();
    for (number, pair) in pairs.iter().enumerate() {
        let key = configured(folder.path(), &number.to_string(), pair.algorithm, &pair.public, None);
        let tokens = tokens(|auth| auth.keys = vec![key]);
        for (other, token) in pairs.iter().zip(&signed_by) {
            let same = other.algorithm == pair.algorithm;
            check(&tokens, token, if same { Ok("alice") } else { Err(TokenError::Bad) });
        }
        // The classic confusion: the public key taken for a secret.
        for hmac in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let forged = signed(hmac, &EncodingKey::from_secret(pair.public.as_bytes()), None, &alice());
            check(&tokens, &forged, Err(TokenError::Bad));
        }
    }
}

#[test]
fn during_a_rotation_both_keys_open_and_a_name_leads_to_its_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str, secret: &str, id| configured(folder.path(), name, SignatureAlgorithm::HS256, secret, id);
    let (old, other) = ("the secret of before, 32 bytes long", "the secret of another, 32 bytes long");
    let tokens = tokens(|auth| auth.keys = vec![key("old", old, Some("old")), key("other", other, Some("other"))]);
    let sign =
        |secret: &str, kid| signed(Algorithm::HS256, &EncodingKey::from_secret(secret.as_bytes()), kid, &alice());
    check(&tokens, &sign(old, Some("old")), Ok("alice"));
    check(&tokens, &sign(other, Some("other")), Ok("alice"));
    check(&tokens, &sign(old, None), Ok("alice"));
    check(&tokens, &sign(old, Some("other")), Err(TokenError::Bad));
    check(&tokens, &sign(old, Some("new")), Err(TokenError::Bad));
    check(&tokens, &tokens.sign("alice", NOW).unwrap().0, Ok("alice"));
}

#[test]
fn a_key_trusts_only_its_own_issuer() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = "the secret of theirs, 32 bytes long";
    let key = Key {
        issuer: Some("them".into()),
        audience: Some("chat".into()),
        ..configured(folder.path(), "theirs", SignatureAlgorithm::HS512, theirs, None)
    };
    let tokens = tokens(|auth| {
        auth.issuer = Some("us".into());
        auth.keys = vec![key];
    });
    let sign = |secret: &[u8], iss: &str| {
        let payload = json!({"sub": "alice", "exp": NOW + 10, "iss": iss, "aud": "chat"});
        signed(Algorithm::HS512, &EncodingKey::from_secret(secret), None, &payload)
    };
    check(&tokens, &sign(theirs.as_bytes(), "them"), Ok("alice"));
    check(&tokens, &sign(theirs.as_bytes(), "us"), Err(TokenError::Bad));
    check(&tokens, &sign(SECRET, "us"), Ok("alice"));
    check(&tokens, &sign(SECRET, "them"), Err(TokenError::Bad));
}

#[test]
fn a_file_that_holds_another_kind_of_key_is_refused_with_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |algorithm, content: &str| {
        let keys = vec![configured(folder.path(), "key", algorithm, content, None)];
        match Tokens::new(SECRET, &Auth { keys, ..Auth::default() }) {
            Ok(_) => panic!("{algorithm:?} takes {content}"),
            Err((key, why)) => format!("{key}: {why}"),
        }
    };
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().public_key_pem();
    assert!(refused(SignatureAlgorithm::HS256, "short").contains("give at least 32 random ones"));
    assert!(refused(SignatureAlgorithm::RS256, &p384).contains("needs the public key of RSA in PEM"));
    assert!(refused(SignatureAlgorithm::EdDSA, "nothing").contains("needs the public key of Ed25519 in PEM"));
    assert!(refused(SignatureAlgorithm::ES256, &p384).contains("needs a key on P-256"));
    let missing = Key {
        file: folder.path().join("missing"),
        ..configured(folder.path(), "key", SignatureAlgorithm::HS256, "", None)
    };
    let (key, why) = Tokens::new(SECRET, &Auth { keys: vec![missing], ..Auth::default() }).err().unwrap();
    assert!(key == "auth.keys" && why.contains("missing"), "{why}");
}

#[test]
fn administrators_are_those_of_the_configuration_and_of_the_roles_claim() {
    use crate::auth::Role;
    let tokens = tokens(|auth| {
        auth.admins = vec!["root".into()];
        auth.roles_claim = "access.roles".into();
    });
    let role = |payload: Value| {
        let token = signed(Algorithm::HS512, &EncodingKey::from_secret(SECRET), None, &payload);
        verified(&tokens, &token, NOW).unwrap().rights.role
    };
    assert_eq!(role(json!({"sub": "root", "exp": NOW})), Role::Admin);
    assert_eq!(role(json!({"sub": "alice", "exp": NOW})), Role::Member);
    assert_eq!(role(json!({"sub": "alice", "exp": NOW, "access": {"roles": ["dba", "admin"]}})), Role::Admin);
}

//! An OpenID provider as far as a node sees one: it publishes keys over HTTP, rotates them, counts who asks, and signs tokens.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

/// What the provider calls itself.
pub(crate) const ISSUER: &str = "https://login.example.org";
/// What it calls the chat.
pub(crate) const AUDIENCE: &str = "chat";

/// A key of the provider's.
pub(crate) struct Key {
    id: String,
    pair: KeyPair,
}

impl Key {
    pub(crate) fn new(id: &str) -> Self {
        Key { id: id.into(), pair: KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap() }
    }

    fn published(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.der_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.id, "x": x})
    }

    /// A good token for an hour, apart from what `changes` say otherwise.
    pub(crate) fn token(&self, user: &str, changes: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + 3_600});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

/// A server that publishes keys.
pub(crate) struct Provider {
    url: String,
    document: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    /// Listens on loopback for as long as the test runs.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (document, asked) = (Arc::new(Mutex::new(None::<String>)), Arc::new(AtomicUsize::new(0)));
        let provider = Provider { url, document: document.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let _ = head.count();
                asked.fetch_add(1, Ordering::SeqCst);
                let (status, body) = match &*document.lock() {
                    Some(document) => ("200 OK", document.clone()),
                    None => ("503 Service Unavailable", String::new()),
                };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        provider
    }

    pub(crate) fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
        *self.document.lock() = Some(json!({"keys": keys}).to_string());
    }

    /// Has no answer any more, until something is published.
    pub(crate) fn go_away(&self) {
        *self.document.lock() = None;
    }

    /// How often somebody has asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// What a node is told of it.
    pub(crate) fn config(&self) -> Value {
        json!({"jwks": {"url": self.url, "issuer": ISSUER, "audience": AUDIENCE}})
    }
}

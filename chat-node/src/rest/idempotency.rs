//! The header that names a request, so that it can be repeated until there is an answer.

use axum::http::HeaderMap;
use uuid::Uuid;

use super::problem::{Problem, Reason};

/// The header's name (draft-ietf-httpapi-idempotency-key-header).
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 128;

/// The space of names in which a key becomes an id.
const KEYS: Uuid = Uuid::from_u128(0x5d0c_3a0e_41f2_4f5b_9c80_2f4d_8a0b_61c7);

/// The id that a request's key stands for, if it has one: the same for the same key, whoever asks.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<Uuid>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let good =
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte));
    if !good {
        return Err(
            Problem::from(Reason::BadRequest).because("idempotency-key has 1 to 128 printable ASCII characters")
        );
    }
    Ok(Some(Uuid::new_v5(&KEYS, key.as_bytes())))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_stands_for_one_id() {
        let of = |text: &'static str| {
            key(&HeaderMap::from_iter([(IDEMPOTENCY_KEY.parse().unwrap(), HeaderValue::from_static(text))]))
        };
        assert_eq!(of("a").unwrap(), of("a").unwrap());
        assert_ne!(of("a").unwrap(), of("b").unwrap());
        assert!(of("").is_err() && of("tab\there").is_err());
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
    }
}

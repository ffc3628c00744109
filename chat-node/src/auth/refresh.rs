//! Refresh tokens: one follows the other, and one that was followed long ago tells of a theft (RFC 9700 §4.14.2, RFC 6819 §5.2.2.3).
//!
//! Pure, with the time and the randomness given. A token is a selector, which finds its login and never changes, and a secret, of which
//! only the hash is kept. The next secret is made of the present one and of a salt that is kept: so whoever did not hear the answer to a
//! refresh can ask again and is given the same successor, although the store never had it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    hmac,
};
use uuid::Uuid;

/// Bytes of a secret, a hash or a salt.
const BYTES: usize = 32;

/// 256 random bits, or a hash of that size.
pub type Bits = [u8; BYTES];

/// A refresh token.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    selector: Uuid,
    secret: Bits,
}

impl std::fmt::Debug for RefreshToken {
    /// Without the secret, so that no log can have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshToken").field("selector", &self.selector).finish_non_exhaustive()
    }
}

impl RefreshToken {
    /// The first token of a login, of random bits.
    pub fn new(selector: Uuid, secret: Bits) -> Self {
        RefreshToken { selector, secret }
    }

    /// Reads a token. `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 16 + BYTES] = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (selector, secret) = bytes.split_at(16);
        Some(RefreshToken { selector: Uuid::from_slice(selector).ok()?, secret: secret.try_into().ok()? })
    }

    /// Writes it, for its owner.
    pub fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode([self.selector.as_bytes(), &self.secret[..]].concat())
    }

    /// What finds its login.
    pub fn selector(&self) -> Uuid {
        self.selector
    }

    /// What is kept of its secret. The secret is random, so it needs no slow hash.
    pub fn hash(&self) -> Bits {
        bits(digest(&SHA256, &self.secret).as_ref())
    }

    /// The token that follows it, given a salt. Without this token nobody can tell it.
    fn successor(&self, salt: &Bits) -> RefreshToken {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), salt);
        RefreshToken { selector: self.selector, secret: bits(tag.as_ref()) }
    }
}

fn bits(bytes: &[u8]) -> Bits {
    let mut bits = Bits::default();
    bits.copy_from_slice(bytes);
    bits
}

/// What is kept of a login's refresh tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Hash of the present token.
    pub hash: Bits,
    /// Hash of the one before, and the salt that made the present one of it.
    pub former: Option<(Bits, Bits)>,
    /// When it was rotated last, in milliseconds since 1970 UTC.
    pub rotated_ms: i64,
    /// When the present one expires.
    pub expires_ms: i64,
}

/// How refresh tokens live.
#[derive(Clone, Copy, Debug)]
pub struct RefreshRules {
    /// Life of a token, in milliseconds. Each rotation begins it anew.
    pub life_ms: i64,
    /// Time after a rotation in which the former token is given the same successor, in milliseconds.
    pub grace_ms: i64,
}

/// What is to be done about a refresh token that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the present one: keep this, give that.
    Rotate(Kept, RefreshToken),
    /// It was rotated just now, and its owner perhaps did not hear so: give the same again.
    Repeat(RefreshToken),
    /// It was rotated a while ago. Either its owner or a thief has the successor, and nobody can tell who: end the login.
    Reused,
    /// It is too old.
    Expired,
}

/// Judges a token whose selector is that of what is kept; `salt` is new and random.
pub fn judge(kept: &Kept, shown: &RefreshToken, salt: Bits, now_ms: i64, rules: RefreshRules) -> Verdict {
    let hash = shown.hash();
    if now_ms >= kept.expires_ms {
        return Verdict::Expired;
    }
    if hash == kept.hash {
        let next = shown.successor(&salt);
        let expires_ms = now_ms.saturating_add(rules.life_ms);
        let kept = Kept { hash: next.hash(), former: Some((hash, salt)), rotated_ms: now_ms, expires_ms };
        return Verdict::Rotate(kept, next);
    }
    match &kept.former {
        Some((former, salt)) if hash == *former && now_ms - kept.rotated_ms < rules.grace_ms => {
            Verdict::Repeat(shown.successor(salt))
        }
        _ => Verdict::Reused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: RefreshRules = RefreshRules { life_ms: 1_000, grace_ms: 10 };

    fn first() -> (RefreshToken, Kept) {
        let token = RefreshToken::new(Uuid::from_u128(7), [1; BYTES]);
        let kept = Kept { hash: token.hash(), former: None, rotated_ms: 0, expires_ms: 1_000 };
        (token, kept)
    }

    #[track_caller]
    fn rotated(kept: &Kept, shown: &RefreshToken, salt: u8, now_ms: i64) -> (Kept, RefreshToken) {
        match judge(kept, shown, [salt; BYTES], now_ms, RULES) {
            Verdict::Rotate(kept, next) => (kept, next),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_is_read_back_and_nothing_else_is_one() {
        let (token, _) = first();
        let text = token.encode();
        assert_eq!((text.len(), RefreshToken::parse(&text)), (64, Some(token.clone())));
        for bad in ["", "x", &text[1..], &format!("{text}AAAA"), &text.replace('A', "+")] {
            assert_eq!(RefreshToken::parse(bad), None, "{bad}");
        }
        assert!(!format!("{token:?}").contains("1, 1"), "no log has the secret");
    }

    #[test]
    fn each_token_is_followed_by_another_and_lives_anew() {
        let (mut token, mut kept) = first();
        let mut seen = vec![token.clone()];
        for step in 1..=20 {
            let now_ms = step * 900;
            let (next_kept, next) = rotated(&kept, &token, 9, now_ms);
            assert_eq!((next_kept.hash, next_kept.expires_ms), (next.hash(), now_ms + 1_000));
            assert_eq!(next.selector(), token.selector());
            assert!(!seen.contains(&next), "the same salt gives another token all the same");
            seen.push(next.clone());
            (kept, token) = (next_kept, next);
        }
        assert_eq!(judge(&kept, &token, [0; BYTES], kept.expires_ms, RULES), Verdict::Expired);
    }

    #[test]
    fn an_answer_that_was_lost_is_given_again_for_a_moment() {
        let (token, kept) = first();
        let (kept, next) = rotated(&kept, &token, 2, 100);
        for (now_ms, again) in [(100, true), (109, true), (110, false), (500, false)] {
            let expected = if again { Verdict::Repeat(next.clone()) } else { Verdict::Reused };
            assert_eq!(judge(&kept, &token, [3; BYTES], now_ms, RULES), expected, "at {now_ms}");
        }
        // The repetition changed nothing: the successor is good once, as it would have been.
        rotated(&kept, &next, 4, 105);
    }

    #[test]
    fn whatever_token_of_a_chain_is_shown_at_whatever_time_only_the_last_two_are_not_reuse() {
        for length in 1..=6 {
            for pause in [1, 5, 10, 50] {
                let (token, mut kept) = first();
                let mut chain = vec![token];
                for step in 0..length {
                    let next;
                    (kept, next) = rotated(&kept, &chain[step], step as u8, (step as i64 + 1) * pause);
                    chain.push(next);
                }
                for after in [0, 9, 10, 11] {
                    for (index, shown) in chain.iter().enumerate() {
                        let verdict = judge(&kept, shown, [99; BYTES], kept.rotated_ms + after, RULES);
                        match length - index {
                            0 => assert!(matches!(verdict, Verdict::Rotate(..))),
                            1 if after < RULES.grace_ms => assert_eq!(verdict, Verdict::Repeat(chain[length].clone())),
                            _ => assert_eq!(verdict, Verdict::Reused),
                        }
                    }
                }
                let stranger = RefreshToken::new(chain[0].selector(), [200; BYTES]);
                assert_eq!(judge(&kept, &stranger, [99; BYTES], kept.rotated_ms, RULES), Verdict::Reused);
            }
        }
    }

    #[test]
    fn what_is_kept_makes_no_token() {
        let (token, kept) = first();
        let (kept, next) = rotated(&kept, &token, 2, 100);
        for stolen in [kept.hash, kept.former.unwrap().0, kept.former.unwrap().1] {
            let forged = RefreshToken::new(token.selector(), stolen);
            assert!(forged != next && judge(&kept, &forged, [3; BYTES], 101, RULES) == Verdict::Reused);
        }
    }
}

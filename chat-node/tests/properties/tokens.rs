//! Tokens: whatever is not signed by us lets nobody in.

use chat_node::auth::Tokens;
use crds::node_config::Auth;
use futures::FutureExt;
use proptest::prelude::*;

use crate::damage::damaged_text;

const KEY: &[u8] = b"an example of a secret, 32 bytes long";
const NOW: u64 = 1_767_225_600;

fn tokens() -> Tokens {
    Tokens::new(KEY, &Auth::default()).unwrap()
}

fn is_refused(tokens: &Tokens, token: &str) -> bool {
    tokens.verify(token, NOW).now_or_never().expect("every key is at hand").is_err()
}

fn headers() -> Vec<&'static str> {
    include_str!("corpus/headers.txt").lines().collect()
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|index| text.push(ALPHABET[(word >> (18 - 6 * index)) as usize & 63].into()));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_damaged_token_lets_in_nobody_else(at in any::<proptest::sample::Index>(), with in "[A-Za-z0-9._=+/-]{0,3}") {
        let tokens = tokens();
        let (token, _) = tokens.sign("alice", NOW).unwrap();
        let mut damaged = token.clone();
        let at = at.index(token.len());
        damaged.replace_range(at..=at, &with);
        if damaged != token {
            prop_assert!(is_refused(&tokens, &damaged), "{} was taken", damaged);
        }
    }

    #[test]
    fn another_header_lets_nobody_in(header in damaged_text(headers()), signed in any::<bool>()) {
        let tokens = tokens();
        let (token, _) = tokens.sign("alice", NOW).unwrap();
        let mut parts = token.split('.');
        let (own, payload, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let header = base64url(header.as_bytes());
        prop_assume!(header != own);
        let signature = if signed { signature } else { "" };
        let forged = [header.as_str(), payload, signature].join(".");
        prop_assert!(is_refused(&tokens, &forged));
    }

    #[test]
    fn any_text_is_no_token(text in ".{0,200}") {
        prop_assert!(is_refused(&tokens(), &text));
    }
}

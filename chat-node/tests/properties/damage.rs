//! Damage to texts of the corpus, as networks and people do it: cut, doubled, swapped, overwritten.

use proptest::{prelude::*, sample::Index};

/// One thing done to a text.
#[derive(Clone, Debug)]
enum Blow {
    Cut(Index),
    Double(Index, Index),
    Overwrite(Index, u8),
    Insert(Index, String),
}

fn blow() -> impl Strategy<Value = Blow> {
    let piece = prop_oneof![
        Just("\u{0}".to_owned()),
        Just("\\u0000".to_owned()),
        Just("\u{10ffff}".to_owned()),
        Just("null".to_owned()),
        Just("-1".to_owned()),
        Just("1e999".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("{{[[".to_owned()),
        "[\\[\\]{}\":,a-z0-9 ]{1,8}",
    ];
    prop_oneof![
        any::<Index>().prop_map(Blow::Cut),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Blow::Double(from, to)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Blow::Overwrite(at, byte)),
        (any::<Index>(), piece).prop_map(|(at, piece)| Blow::Insert(at, piece)),
    ]
}

impl Blow {
    fn strike(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Blow::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Blow::Double(from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(to..to, piece);
            }
            Blow::Overwrite(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Blow::Insert(at, piece) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, piece.bytes());
            }
        }
    }
}

/// A part of the corpus, whole or damaged.
pub(crate) fn damaged(corpus: Vec<&'static str>) -> impl Strategy<Value = Vec<u8>> {
    let blows = proptest::collection::vec(blow(), 0..4);
    (proptest::sample::select(corpus), blows).prop_map(|(text, blows)| {
        let mut bytes = text.as_bytes().to_vec();
        blows.iter().for_each(|blow| blow.strike(&mut bytes));
        bytes
    })
}

/// Likewise, as text.
pub(crate) fn damaged_text(corpus: Vec<&'static str>) -> impl Strategy<Value = String> {
    damaged(corpus).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

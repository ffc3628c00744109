//! WebSocket frames as they go over the wire (RFC 6455 §5.2), made once and shared by everybody who receives them.
//!
//! A server's frames carry no mask, so the same bytes serve every connection.

use bytes::{BufMut, Bytes, BytesMut};

/// A final text frame.
const TEXT: u8 = 0x81;

/// A final ping.
const PING: u8 = 0x89;

/// A final pong.
const PONG: u8 = 0x8a;

/// The longest header: two bytes and a length of eight.
const HEADER_BYTES_MAX: usize = 10;

/// Whole frames, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    bytes: Bytes,
    count: usize,
}

impl Frames {
    /// A text frame for each text, in order.
    pub fn texts<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Self {
        let capacity = texts.clone().map(|text| text.len() + HEADER_BYTES_MAX).sum();
        let (mut bytes, mut count) = (BytesMut::with_capacity(capacity), 0);
        for text in texts {
            put(&mut bytes, TEXT, text.as_bytes());
            count += 1;
        }
        Frames { bytes: bytes.freeze(), count }
    }

    /// One text frame.
    pub fn text(text: &str) -> Self {
        Self::texts(std::iter::once(text))
    }

    /// A ping without a payload.
    pub fn ping() -> Self {
        Frames { bytes: Bytes::from_static(&[PING, 0]), count: 1 }
    }

    /// One frame that somebody else has encoded.
    pub fn encoded(bytes: &[u8]) -> Self {
        Frames { bytes: Bytes::copy_from_slice(bytes), count: 1 }
    }

    /// Whether it begins with an answer to a ping.
    pub fn is_pong(&self) -> bool {
        self.bytes.first() == Some(&PONG)
    }

    /// The bytes of all.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

fn put(into: &mut BytesMut, first: u8, payload: &[u8]) {
    into.put_u8(first);
    match payload.len() {
        length @ 0..=125 => into.put_u8(length as u8),
        length @ 126..=0xffff => {
            into.put_u8(126);
            into.put_u16(length as u16);
        }
        length => {
            into.put_u8(127);
            into.put_u64(length as u64);
        }
    }
    into.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use axum_tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig, WebSocketContext},
    };

    use super::*;

    /// What a library reads from the bytes.
    fn read(frames: &Frames) -> Vec<Message> {
        let unmasked = WebSocketConfig::default().accept_unmasked_frames(true);
        let mut context = WebSocketContext::new(Role::Server, Some(unmasked));
        let mut stream = Cursor::new(frames.bytes().to_vec());
        std::iter::from_fn(|| context.read(&mut stream).ok()).collect()
    }

    #[test]
    fn frames_of_every_size_are_read_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(length);
            assert_eq!(read(&Frames::text(&text)), [Message::text(text)]);
        }
        let many = Frames::texts(["a", "", "c"].into_iter());
        assert_eq!((read(&many), many.count()), (["a", "", "c"].map(Message::text).to_vec(), 3));
    }
}

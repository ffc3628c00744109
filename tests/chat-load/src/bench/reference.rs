//! A plain WebSocket server for reference: whatever text one connection says goes to all, with one `write(2)` each. It knows no
//! users, no rooms and no database, and shows what the kernel alone costs.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    fd::OwnedFd,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Where it listens.
#[derive(clap::Args, Debug)]
pub(crate) struct Reference {
    /// Address, such as 127.0.0.1:9000
    address: SocketAddr,
}

const LISTENER: u64 = u64::MAX;

/// Serves until it is killed.
pub(crate) fn run(reference: &Reference) -> anyhow::Result<bool> {
    let listener = TcpListener::bind(reference.address)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut connections: HashMap<u64, TcpStream> = HashMap::new();
    let (mut next, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        let mut ready = Vec::with_capacity(256);
        epoll::wait(&epoll, spare_capacity(&mut ready), None)?;
        for event in ready {
            if event.data.u64() == LISTENER {
                // Whoever leaves before the upgrade is nobody's loss.
                if let Ok(stream) = accept(&listener, &epoll, next) {
                    connections.insert(next, stream);
                    next += 1;
                }
                continue;
            }
            let number = event.data.u64();
            let read = connections.get_mut(&number).map_or(Ok(0), |stream| stream.read(&mut buffer)).unwrap_or(0);
            if read == 0 {
                connections.remove(&number);
            }
            let mut bytes = &mut buffer[..read];
            while let Some((frame, rest)) = take_frame(bytes) {
                connections.retain(|_, stream| stream.write_all(&frame).is_ok());
                bytes = rest;
            }
        }
    }
}

fn accept(listener: &TcpListener, epoll: &OwnedFd, number: u64) -> io::Result<TcpStream> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
    // The key itself keeps its case in what was read, but the load does not check the answer to it.
    let key = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )?;
    epoll::add(epoll, &stream, EventData::new_u64(number), EventFlags::IN)?;
    Ok(stream)
}

/// Takes a client's text frame of 126 to 65,535 bytes, and makes the server's of it. Only the load's frames are understood.
fn take_frame(bytes: &mut [u8]) -> Option<(Vec<u8>, &mut [u8])> {
    const HEADER: usize = 8;
    let length = usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?));
    if bytes[0] != 0x81 || bytes[1] != 0x80 | 126 || bytes.len() < HEADER + length {
        return None;
    }
    let (frame, rest) = bytes.split_at_mut(HEADER + length);
    let mask: [u8; 4] = *frame[4..].first_chunk()?;
    let mut made = vec![0x81, 126, frame[2], frame[3]];
    made.extend(frame[HEADER..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Some((made, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_frame_goes_out_plain() {
        let payload = [7_u8; 300];
        let mut bytes = vec![0x81, 0x80 | 126, 1, 44, 1, 2, 3, 4];
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ [1, 2, 3, 4][at % 4]));
        bytes.push(0x81);
        let (frame, rest) = take_frame(&mut bytes).unwrap();
        assert_eq!((&frame[..4], &frame[4..], rest.len()), (&[0x81, 126, 1, 44][..], &payload[..], 1));
    }
}

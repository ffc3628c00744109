//! Thousands of WebSocket connections on one thread: an epoll, one shared read buffer, and no allocation for a frame that is read.
//!
//! Knows frames (RFC 6455 §5) and nothing of what they say. The load must cost less than the server that it measures, so this is not
//! the client library.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, Event, EventData, EventFlags},
    },
    fd::OwnedFd,
};

/// Bytes read from one socket at a time.
const READ_BYTES: usize = 256 * 1024;
/// Sockets that are looked at in one turn.
const READY_MAX: usize = 1024;
/// Bytes of an upgrade's answer.
const ANSWER_BYTES_MAX: usize = 4096;

/// What a connection brings.
#[derive(Debug, PartialEq)]
pub(super) enum Heard<'a> {
    /// The upgrade was accepted.
    Open,
    /// A text frame.
    Text(&'a [u8]),
    /// The connection is gone; with the close code if one was told.
    Gone(Option<u16>),
}

/// What is to be said: to which connection, and the text.
pub(super) type Said = VecDeque<(usize, String)>;

struct Link {
    stream: Option<TcpStream>,
    open: bool,
    close: Option<u16>,
    /// The beginning of a frame whose rest has not come.
    rest: Vec<u8>,
    /// What the socket had no room for.
    unsent: Vec<u8>,
}

/// The connections, by number.
pub(super) struct Links {
    epoll: OwnedFd,
    links: Vec<Link>,
    buffer: Vec<u8>,
    ready: Vec<Event>,
    said: Said,
}

impl Links {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (links, said) = (Vec::new(), Said::new());
        Ok(Links { epoll, links, buffer: vec![0; READ_BYTES], ready: Vec::with_capacity(READY_MAX), said })
    }

    /// Connects and asks for the upgrade; the number is told at once, [`Heard::Open`] later.
    pub(super) fn open(&mut self, address: SocketAddr) -> io::Result<usize> {
        let number = self.links.len();
        self.links.push(Link { stream: None, open: false, close: None, rest: Vec::new(), unsent: Vec::new() });
        self.reopen(number, address)?;
        Ok(number)
    }

    /// Connects a connection that is gone once more.
    pub(super) fn reopen(&mut self, number: usize, address: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&self.epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
        let link = &mut self.links[number];
        *link = Link { stream: Some(stream), open: false, close: None, rest: Vec::new(), unsent: Vec::new() };
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chatcluster.v1\r\n\r\n"
        );
        self.write(number, request.as_bytes())
    }

    /// How many there are, the gone ones too.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Says something on a connection; nothing when it is gone.
    pub(super) fn say(&mut self, number: usize, text: &str) -> io::Result<()> {
        let mut frame = Vec::with_capacity(text.len() + 14);
        put_frame(&mut frame, 0x1, text.as_bytes());
        self.write(number, &frame)
    }

    fn write(&mut self, number: usize, bytes: &[u8]) -> io::Result<()> {
        let link = &mut self.links[number];
        let Some(stream) = &mut link.stream else { return Ok(()) };
        if !link.unsent.is_empty() {
            link.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let written = match stream.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // Reading tells that it is gone.
            Err(_) => return Ok(()),
        };
        if written < bytes.len() {
            link.unsent.extend_from_slice(&bytes[written..]);
            watch(&self.epoll, stream, number, EventFlags::IN | EventFlags::OUT)?;
        }
        Ok(())
    }

    /// Waits for what comes, at most so long, and hands it over. What `hear` wants to say is said after each connection's turn.
    pub(super) fn turn(
        &mut self,
        wait: Duration,
        mut hear: impl FnMut(usize, Heard<'_>, &mut Said),
    ) -> anyhow::Result<()> {
        let wait = Timespec::try_from(wait)?;
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &ready {
            let (number, flags) = (usize::try_from(event.data.u64())?, event.flags);
            if flags.contains(EventFlags::OUT) {
                self.write_unsent(number)?;
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.read(number, &mut hear)?;
            }
            while let Some((number, text)) = self.said.pop_front() {
                self.say(number, &text)?;
            }
        }
        self.ready = ready;
        Ok(())
    }

    fn write_unsent(&mut self, number: usize) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.links[number].unsent);
        if let Some(stream) = &self.links[number].stream {
            watch(&self.epoll, stream, number, EventFlags::IN)?;
        }
        self.write(number, &unsent)
    }

    fn read(&mut self, number: usize, hear: &mut impl FnMut(usize, Heard<'_>, &mut Said)) -> anyhow::Result<()> {
        let link = &mut self.links[number];
        let Some(stream) = &mut link.stream else { return Ok(()) };
        let kept = link.rest.len();
        self.buffer[..kept].copy_from_slice(&link.rest);
        link.rest.clear();
        let read = match stream.read(&mut self.buffer[kept..]) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                link.rest.extend_from_slice(&self.buffer[..kept]);
                return Ok(());
            }
            Err(_) => 0,
        };
        if read == 0 {
            let close = link.close.take();
            // Closing the socket takes it out of the epoll.
            link.stream = None;
            hear(number, Heard::Gone(close), &mut self.said);
            return Ok(());
        }
        let mut bytes = &self.buffer[..kept + read];
        if !link.open {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                anyhow::ensure!(bytes.len() < ANSWER_BYTES_MAX, "the upgrade's answer has no end");
                link.rest.extend_from_slice(bytes);
                return Ok(());
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                link.stream = None;
                hear(number, Heard::Gone(None), &mut self.said);
                return Ok(());
            }
            link.open = true;
            hear(number, Heard::Open, &mut self.said);
            bytes = &bytes[end + 4..];
        }
        let mut pongs = Vec::new();
        while let Some((opcode, payload, length)) = next_frame(bytes) {
            match opcode {
                0x1 => hear(number, Heard::Text(payload), &mut self.said),
                0x8 => {
                    link.close = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    put_frame(&mut pongs, 0x8, payload);
                }
                0x9 => put_frame(&mut pongs, 0xA, payload),
                0xA => {}
                other => anyhow::bail!("a frame with opcode {other:#x} came"),
            }
            bytes = &bytes[length..];
        }
        anyhow::ensure!(bytes.len() < READ_BYTES / 2, "a frame is larger than the load can read");
        link.rest.extend_from_slice(bytes);
        if !pongs.is_empty() {
            self.write(number, &pongs)?;
        }
        Ok(())
    }
}

fn watch(epoll: &OwnedFd, stream: &TcpStream, number: usize, flags: EventFlags) -> io::Result<()> {
    Ok(epoll::modify(epoll, stream, EventData::new_u64(number as u64), flags)?)
}

/// The first whole frame of what a server sent: opcode, payload, and the bytes of all of it.
fn next_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (opcode, short) = (bytes.first()? & 0x0f, *bytes.get(1)?);
    let (length, at): (usize, usize) = match short {
        126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let end = at.checked_add(length)?;
    Some((opcode, bytes.get(at..end)?, end))
}

/// Adds a client's frame. Its mask is zero, which is a mask like any other and leaves the payload as it is.
fn put_frame(into: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    const MASKED: u8 = 0x80;
    into.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => into.push(MASKED | length as u8),
        length @ 126..=0xffff => {
            into.push(MASKED | 126);
            into.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            into.push(MASKED | 127);
            into.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_when_all_of_it_has_come() {
        for length in [0_usize, 125, 126, 65_535, 65_536] {
            let mut bytes = vec![0x81];
            match length {
                0..=125 => bytes.push(length as u8),
                126..=65_535 => bytes.extend([&[126], &(length as u16).to_be_bytes()[..]].concat()),
                _ => bytes.extend([&[127], &(length as u64).to_be_bytes()[..]].concat()),
            }
            bytes.extend(std::iter::repeat_n(b'x', length));
            let whole = bytes.len();
            assert!((0..whole).all(|part| next_frame(&bytes[..part]).is_none()));
            bytes.push(0x81);
            assert_eq!(
                next_frame(&bytes).map(|(opcode, payload, end)| (opcode, payload.len(), end)),
                Some((1, length, whole))
            );
        }
    }

    #[test]
    fn connections_talk_to_a_server_of_another_make() {
        use tokio_tungstenite::tungstenite::{self, Message};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
            for _ in 0..2 {
                let said = socket.read().unwrap();
                socket.send(said).unwrap();
            }
            socket.send(Message::Ping("still there?".into())).unwrap();
            assert_eq!(socket.read().unwrap(), Message::Pong("still there?".into()));
            socket.close(None).unwrap();
            while socket.read().is_ok() {}
        });
        let mut links = Links::new().unwrap();
        links.open(address).unwrap();
        let long = "x".repeat(70_000);
        let mut story = Vec::new();
        while story.last().is_none_or(|last| last != "gone") {
            links
                .turn(Duration::from_secs(5), |_, heard, said| {
                    story.push(match heard {
                        Heard::Open => {
                            said.extend([(0, "short".into()), (0, long.clone())]);
                            "open".into()
                        }
                        Heard::Text(text) => text.len().to_string(),
                        Heard::Gone(_) => "gone".into(),
                    });
                })
                .unwrap();
        }
        assert_eq!(story, ["open", "5", "70000", "gone"]);
        server.join().unwrap();
    }
}

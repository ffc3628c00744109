//! People in rooms, connected and at rest: where every scenario begins.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use uuid::Uuid;

use super::{
    links::{Heard, Links, Said},
    meter::{Cost, Meter},
    node::{Backends, Node, token},
};
use chat_load::frame::{Frame, Hello, Position, Request, RoomRef};

/// Connections that are being made at once.
const OPENING_MAX: usize = 64;
/// People who make rooms at once: a store that is asked by all at once refuses some.
const MAKING_MAX: usize = 64;
/// What thousands of arrivals, or of new rooms, leave behind is done by then: presence told, memberships looked at.
const CALM: Duration = Duration::from_secs(5);
/// Long enough for every connection to be pinged once.
const REST: Duration = Duration::from_secs(30);
/// Nothing happens for so long only when something is broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// Characters of a message, as in the peers' measurements.
pub(super) const TEXT_BYTES: usize = 128;

/// One of them: connection `n` is person `n`'s.
pub(super) struct Person {
    pub(super) token: String,
    pub(super) outbox: Uuid,
    /// The number of the next send.
    pub(super) next: u64,
    /// The rooms, and the last event seen of each.
    pub(super) rooms: Vec<Position>,
}

impl Person {
    /// The next send.
    pub(super) fn send(&mut self, room: usize, text: String) -> (u64, String) {
        let n = self.next;
        self.next += 1;
        (n, encode(&Request::Send { id: n, n, room: self.rooms[room].room, text }))
    }

    /// The first frame of a connection that goes on where the last one was.
    pub(super) fn hello(&self) -> String {
        encode(&Request::Hello(Hello {
            token: Some(self.token.clone()),
            client: Default::default(),
            outbox: Some(self.outbox),
            resume: self.rooms.clone(),
        }))
    }
}

/// All of them.
pub(super) struct People {
    pub(super) links: Links,
    pub(super) persons: Vec<Person>,
}

impl People {
    /// Nobody yet.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(People { links: Links::new()?, persons: Vec::new() })
    }

    /// Makes public rooms. Who made them is a member but not connected any more.
    pub(super) fn make_rooms(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Uuid>> {
        let mut host = People::new()?;
        host.enter(address, 1, |_| Vec::new())?;
        host.make_rooms_each(count)
    }

    /// Each makes so many public rooms, and is their only member.
    pub(super) fn make_rooms_each(&mut self, count: usize) -> anyhow::Result<Vec<Uuid>> {
        let unique = Uuid::new_v4().simple().to_string();
        let create = |number: usize, made: usize| {
            encode(&Request::CreateRoom { id: 0, name: format!("{unique}-{number}-{made}") })
        };
        let mut made = vec![0; self.persons.len()];
        let all = count * made.len();
        let mut begun = made.len().min(MAKING_MAX);
        for number in 0..begun {
            self.links.say(number, &create(number, 0))?;
        }
        let mut rooms: Vec<Uuid> = Vec::with_capacity(all);
        self.until(|number, frame, said| {
            match frame {
                Frame::Room { id: Some(_), room } => {
                    rooms.push(room.id);
                    made[number] += 1;
                    if made[number] < count {
                        said.push_back((number, create(number, made[number])));
                    } else if begun < made.len() {
                        said.push_back((begun, create(begun, 0)));
                        begun += 1;
                    }
                }
                Frame::Error(refusal) => bail!("refused: {} {}", refusal.code, refusal.message),
                _ => {}
            }
            Ok(rooms.len() == all)
        })?;
        Ok(rooms)
    }

    /// Connects `count` more people to a node; each joins the rooms that `rooms` tells for its number.
    pub(super) fn enter(
        &mut self,
        address: SocketAddr,
        count: usize,
        rooms: impl Fn(usize) -> Vec<Uuid>,
    ) -> anyhow::Result<()> {
        let first = self.persons.len();
        let unique = Uuid::new_v4().simple();
        for number in first..first + count {
            let token = token(&format!("load-{unique}-{number}"))?;
            let rooms =
                rooms(number).into_iter().map(|room| Position { room, epoch: 0, seq: 0, event: None }).collect();
            self.persons.push(Person { token, outbox: Uuid::new_v4(), next: 1, rooms });
        }
        let mut done = first;
        // How many rooms each has joined.
        let mut joined = vec![0; count];
        let mut heard = Instant::now();
        while done < first + count {
            while self.links.len() < first + count && self.links.len() - done < OPENING_MAX {
                self.links.open(address)?;
            }
            let persons = &mut self.persons;
            let mut broken = None;
            self.links.turn(Duration::from_millis(100), |number, what, said| {
                heard = Instant::now();
                let Some(joined) = number.checked_sub(first).map(|index| &mut joined[index]) else { return };
                match arrive(&mut persons[number], joined, what) {
                    Ok(Arriving::Says(text)) => said.push_back((number, text)),
                    Ok(Arriving::Done) => done += 1,
                    Ok(Arriving::Waits) => {}
                    Err(error) => broken = Some(error.context(format!("person {number}"))),
                }
            })?;
            broken.map_or(Ok(()), Err)?;
            ensure!(heard.elapsed() < PATIENCE, "{} of {count} are connected, and nothing happens", done - first);
        }
        self.settle()
    }

    /// What it costs that all are there and nobody says anything.
    pub(super) fn cost_at_rest(&mut self, node: &Node, backends: &Backends) -> anyhow::Result<Cost> {
        self.rest(CALM)?;
        let meter = Meter::start(vec![node.id()], backends.postgres_processes());
        self.rest(REST)?;
        Ok(meter.cost())
    }

    /// Answers pings and nothing else, for so long.
    fn rest(&mut self, how_long: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + how_long;
        while Instant::now() < end {
            self.links.turn(Duration::from_millis(100), |_, _, _| {})?;
        }
        Ok(())
    }

    /// Takes what is still on its way, and forgets it.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        const QUIET: Duration = Duration::from_millis(300);
        let mut heard = Instant::now();
        while heard.elapsed() < QUIET {
            self.links.turn(QUIET / 3, |_, _, _| heard = Instant::now())?;
        }
        Ok(())
    }

    /// Hears frames until `done` says so.
    fn until(&mut self, mut done: impl FnMut(usize, Frame, &mut Said) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let mut heard = Instant::now();
        let mut outcome = Ok(false);
        while !outcome? {
            ensure!(heard.elapsed() < PATIENCE, "nothing comes any more");
            outcome = Ok(false);
            self.links.turn(Duration::from_millis(100), |number, what, said| {
                heard = Instant::now();
                if let Heard::Text(text) = what
                    && matches!(outcome, Ok(false))
                {
                    outcome = decode(text).and_then(|frame| done(number, frame, said));
                }
            })?;
        }
        Ok(())
    }
}

enum Arriving {
    Says(String),
    Done,
    Waits,
}

/// The steps from a connection to a member of all its rooms.
fn arrive(person: &mut Person, joined: &mut usize, heard: Heard<'_>) -> anyhow::Result<Arriving> {
    let text = match heard {
        Heard::Open => {
            let hello = Hello {
                token: Some(person.token.clone()),
                client: Default::default(),
                outbox: Some(person.outbox),
                resume: Vec::new(),
            };
            return Ok(Arriving::Says(encode(&Request::Hello(hello))));
        }
        Heard::Text(text) => text,
        Heard::Gone(code) => bail!("the connection ended on arrival with {code:?}"),
    };
    match decode(text)? {
        Frame::Welcome(_) => {}
        Frame::Room { id: Some(_), room } => {
            person.rooms[*joined].epoch = room.epoch;
            *joined += 1;
        }
        Frame::Error(refusal) => bail!("refused: {} {}", refusal.code, refusal.message),
        _ => return Ok(Arriving::Waits),
    }
    Ok(match person.rooms.get(*joined) {
        Some(next) => Arriving::Says(encode(&Request::Join { id: 1, room: RoomRef::Room(next.room) })),
        None => Arriving::Done,
    })
}

pub(super) fn encode(request: &Request) -> String {
    // A request has string keys only and cannot fail.
    serde_json::to_string(request).expect("a request encodes")
}

pub(super) fn decode(text: &[u8]) -> anyhow::Result<Frame> {
    serde_json::from_slice(text)
        .with_context(|| format!("a frame is not understood: {}", String::from_utf8_lossy(text)))
}

/// A message of [`TEXT_BYTES`] that tells when it was due, in nanoseconds since the load began.
pub(super) fn stamped(due: Duration) -> String {
    format!("{MARK}{:016x}{}", due.as_nanos() as u64, "x".repeat(TEXT_BYTES - MARK.len() - 16))
}

/// When the message in an event's frame was due; `None` for any other frame.
pub(super) fn stamp(frame: &[u8]) -> Option<Duration> {
    let at = memchr::memmem::find(frame, MARK.as_bytes())? + MARK.len();
    let digits = std::str::from_utf8(frame.get(at..at + 16)?).ok()?;
    Some(Duration::from_nanos(u64::from_str_radix(digits, 16).ok()?))
}

const MARK: &str = "due=";

/// A number in a frame, by its key; cheaper than reading all of it.
pub(super) fn number(frame: &[u8], key: &str) -> Option<u64> {
    let at = memchr::memmem::find(frame, key.as_bytes())? + key.len();
    let digits = frame[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_when_it_was_due() {
        let due = Duration::from_nanos(1_234_567_890);
        let text = stamped(due);
        assert_eq!(text.len(), TEXT_BYTES);
        let frame = format!(r#"{{"type":"event","seq":4711,"text":"{text}"}}"#);
        assert_eq!(stamp(frame.as_bytes()), Some(due));
        assert_eq!(number(frame.as_bytes(), "\"seq\":"), Some(4711));
        assert_eq!((stamp(b"{}"), number(b"{}", "\"seq\":")), (None, None));
    }
}

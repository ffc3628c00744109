//! `storm`: a node is killed and started again under load. When everybody is back, and whether anything is missed or doubled.
//!
//! Everybody behaves as `docs/protocol.md` says: full jitter before each attempt, `resume` with the last position, and sends that were not
//! committed again under the same numbers.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::RngExt;

use super::{
    Bench,
    links::Heard,
    people::{People, number as field, stamped},
    report::Measured,
};

const CONNECTIONS: usize = 5_000;
const ROOMS: usize = 50;
/// Messages a second, by one sender in each room.
const RATE: u64 = 100;
/// The node is killed this long after the load began, and the load goes on this long.
const KILL_AT: Duration = Duration::from_secs(3);
const RUN: Duration = Duration::from_secs(12);
/// Everything has arrived by then.
const WITHIN: Duration = Duration::from_secs(40);
/// First bound of the wait before a connection is tried again; it doubles.
const BACKOFF: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What one connection went through.
#[derive(Clone, Default)]
struct Story {
    attempts: u32,
    online: bool,
    /// Sends that are not committed, by their numbers.
    uncommitted: VecDeque<(u64, String)>,
}

struct Storm {
    people: People,
    stories: Vec<Story>,
    /// Who tries again when.
    returning: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Where each room's log will end.
    heads: Vec<u64>,
    missed: u64,
    doubled: u64,
    /// When the last one came back.
    back_at: Option<Instant>,
}

pub(super) fn run(bench: &Bench) -> anyhow::Result<Vec<Measured>> {
    let backends = bench.backends(false)?;
    let mut node = bench.node("storm", &backends)?;
    let rooms = People::make_rooms(node.address, ROOMS)?;
    let mut people = People::new()?;
    people.enter(node.address, CONNECTIONS, |number| vec![rooms[number % ROOMS]])?;
    let heads = rooms.iter().map(|room| backends.number(&format!("SELECT head FROM rooms WHERE id = '{room}'")));
    let mut storm = Storm::new(people, heads.collect::<Result<_, _>>()?);
    let base = Instant::now();
    let (mut killed, mut sent, total) = (None, 0, RATE * RUN.as_secs());
    while sent < total || !storm.is_over() {
        anyhow::ensure!(base.elapsed() < RUN + WITHIN, "not everything is back: {}", storm.report());
        while sent < total && Duration::from_secs(1) * u32::try_from(sent)? / u32::try_from(RATE)? <= base.elapsed() {
            storm.send(usize::try_from(sent)? % ROOMS)?;
            sent += 1;
        }
        if killed.is_none() && base.elapsed() >= KILL_AT {
            killed = Some(Instant::now());
            node.kill_and_start_again()?;
        }
        storm.turn(node.address)?;
    }
    let back = storm.back_at.zip(killed).map_or(0.0, |(back, killed)| back.duration_since(killed).as_secs_f64());
    Ok(vec![
        Measured::new("storm, 5,000 connections")
            .figure("all back", back, "s")
            .figure("messages", total as f64, "")
            .figure("missed", storm.missed as f64, "")
            .figure("doubled", storm.doubled as f64, "")
            .figure("log reads each room", node.counter("chat_log_reads_total")? / ROOMS as f64, ""),
    ])
}

impl Storm {
    /// All are online and have seen their rooms up to these heads.
    fn new(mut people: People, heads: Vec<f64>) -> Self {
        let heads: Vec<u64> = heads.into_iter().map(|head| head as u64).collect();
        for (index, person) in people.persons.iter_mut().enumerate() {
            person.rooms[0].seq = heads[index % ROOMS];
        }
        let stories = vec![Story { online: true, ..Story::default() }; people.persons.len()];
        Storm { people, stories, returning: BinaryHeap::new(), heads, missed: 0, doubled: 0, back_at: None }
    }

    /// The sender of a room says something, at once or as soon as it is back.
    fn send(&mut self, room: usize) -> anyhow::Result<()> {
        let (n, frame) = self.people.persons[room].send(0, stamped(Duration::ZERO));
        if self.stories[room].online {
            self.people.links.say(room, &frame)?;
        }
        self.stories[room].uncommitted.push_back((n, frame));
        self.heads[room] += 1;
        Ok(())
    }

    /// Hears what comes, and tries again for those whose time has come.
    fn turn(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let now = Instant::now();
        while let Some(Reverse((due, number))) = self.returning.peek().copied()
            && due <= now
        {
            self.returning.pop();
            if self.people.links.reopen(number, address).is_err() {
                self.come_back_later(number);
            }
        }
        let (persons, stories) = (&mut self.people.persons, &mut self.stories);
        let (missed, doubled, back_at) = (&mut self.missed, &mut self.doubled, &mut self.back_at);
        let mut gone = Vec::new();
        self.people.links.turn(Duration::from_millis(2), |number, heard, said| match heard {
            Heard::Open => said.push_back((number, persons[number].hello())),
            Heard::Gone(_) => gone.push(number),
            Heard::Text(frame) if frame.starts_with(br#"{"type":"event""#) => {
                let Some(seq) = field(frame, "\"seq\":") else { return };
                let seen = &mut persons[number].rooms[0].seq;
                *doubled += u64::from(seq <= *seen);
                *missed += seq.saturating_sub(*seen + 1);
                *seen = seq.max(*seen);
            }
            Heard::Text(frame) if frame.starts_with(br#"{"type":"committed""#) => {
                let n = field(frame, "\"n\":");
                stories[number].uncommitted.retain(|(known, _)| Some(*known) != n);
            }
            Heard::Text(frame) if frame.starts_with(br#"{"type":"welcome""#) => {
                let story = &mut stories[number];
                *story = Story { online: true, attempts: 0, uncommitted: std::mem::take(&mut story.uncommitted) };
                said.extend(story.uncommitted.iter().map(|(_, frame)| (number, frame.clone())));
                *back_at = Some(Instant::now());
            }
            Heard::Text(_) => {}
        })?;
        for number in gone {
            self.come_back_later(number);
        }
        Ok(())
    }

    fn come_back_later(&mut self, number: usize) {
        let story = &mut self.stories[number];
        story.online = false;
        let most = (BACKOFF * 2_u32.saturating_pow(story.attempts)).min(BACKOFF_MAX);
        story.attempts += 1;
        self.returning.push(Reverse((Instant::now() + most.mul_f64(rand::rng().random()), number)));
    }

    fn is_over(&self) -> bool {
        let seen = |(index, story): (usize, &Story)| {
            story.online && self.people.persons[index].rooms[0].seq >= self.heads[index % ROOMS]
        };
        self.stories.iter().enumerate().all(seen)
    }

    fn report(&self) -> String {
        let online = self.stories.iter().filter(|story| story.online).count();
        format!(
            "{online} are online, {} sends are not committed",
            self.stories.iter().map(|story| story.uncommitted.len()).sum::<usize>()
        )
    }
}

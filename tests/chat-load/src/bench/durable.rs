//! `durable`: a hundred senders in fifty rooms, each with so many sends under way. How many are acknowledged after their commit.
//!
//! A closed loop on purpose: the number under way is given, and the rate is what is measured. The time of a send counts from when the
//! sender had room for it, so it includes what it waited for in the server.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    Bench,
    links::Heard,
    meter::{Meter, histogram, us_each},
    people::{People, number, stamped},
    report::Measured,
};

const SENDERS: usize = 100;
const ROOMS: usize = 50;
const WARM_UP: Duration = Duration::from_secs(3);
const RUN: Duration = Duration::from_secs(10);

pub(super) fn run(bench: &Bench) -> anyhow::Result<Vec<Measured>> {
    let backends = bench.backends(false)?;
    let node = bench.node("durable", &backends)?;
    let rooms = People::make_rooms(node.address, ROOMS)?;
    let mut people = People::new()?;
    people.enter(node.address, SENDERS, |number| vec![rooms[number % ROOMS]])?;
    let mut measured = Vec::new();
    for outstanding in [8, 1] {
        talk(&mut people, outstanding, WARM_UP)?;
        let before = backends.number("SELECT count(*) FROM events")?;
        let syncs = "SELECT coalesce(sum(wal_sync), 0) FROM pg_stat_wal";
        let commits = backends.number(syncs)?;
        let meter = Meter::start(vec![node.id()], backends.postgres_processes());
        let (acknowledged, latency) = talk(&mut people, outstanding, RUN)?;
        let cost = meter.cost();
        let stored = backends.number("SELECT count(*) FROM events")? - before;
        measured.push(
            Measured::new(format!("durable, {outstanding} outstanding"))
                .figure("acknowledged", acknowledged as f64 / cost.time.as_secs_f64(), "/s")
                .latency(&latency)
                .figure("node CPU each", us_each(cost.node, acknowledged), "us")
                .figure("database CPU each", us_each(cost.postgres, acknowledged), "us")
                .figure("load CPU", cost.percent(cost.load), "%")
                .figure("syncs", (backends.number(syncs)? - commits) / cost.time.as_secs_f64(), "/s")
                .figure("missing in the database", (acknowledged as f64 - stored).max(0.0), ""),
        );
    }
    Ok(measured)
}

/// Keeps so many sends of each sender under way for a while, then waits for the last ones. Gives how many were acknowledged.
fn talk(
    people: &mut People,
    outstanding: u64,
    how_long: Duration,
) -> anyhow::Result<(u64, hdrhistogram::Histogram<u64>)> {
    let mut latency = histogram()?;
    let mut under_way: Vec<HashMap<u64, Instant>> = vec![HashMap::new(); people.persons.len()];
    let (mut acknowledged, mut waiting) = (0_u64, 0_u64);
    let text = stamped(Duration::ZERO);
    for (sender, under_way) in under_way.iter_mut().enumerate() {
        for _ in 0..outstanding {
            let (n, frame) = people.persons[sender].send(0, text.clone());
            under_way.insert(n, Instant::now());
            people.links.say(sender, &frame)?;
            waiting += 1;
        }
    }
    let end = Instant::now() + how_long;
    let mut heard_at = Instant::now();
    while waiting > 0 {
        let persons = &mut people.persons;
        let mut refused = None;
        people.links.turn(Duration::from_millis(50), |sender, heard, said| match heard {
            Heard::Text(frame) if frame.starts_with(br#"{"type":"committed""#) => {
                let now = Instant::now();
                heard_at = now;
                let since = number(frame, "\"n\":").and_then(|n| under_way[sender].remove(&n));
                let Some(since) = since else { return };
                latency.saturating_record(since.elapsed().as_micros() as u64);
                acknowledged += 1;
                waiting -= 1;
                if now < end {
                    let (n, frame) = persons[sender].send(0, text.clone());
                    under_way[sender].insert(n, now);
                    said.push_back((sender, frame));
                    waiting += 1;
                }
            }
            Heard::Text(frame) if frame.starts_with(br#"{"type":"error""#) => {
                refused = Some(String::from_utf8_lossy(frame).into_owned());
            }
            Heard::Gone(code) => refused = Some(format!("sender {sender} was closed with {code:?}")),
            Heard::Text(_) | Heard::Open => {}
        })?;
        anyhow::ensure!(refused.is_none(), "{}", refused.unwrap_or_default());
        anyhow::ensure!(heard_at.elapsed() < Duration::from_secs(20), "{waiting} sends are not acknowledged");
    }
    Ok((acknowledged, latency))
}

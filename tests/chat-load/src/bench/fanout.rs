//! `fanout`: one room with a thousand members. At rest (what a delivery costs) and at the limit (how many a core makes).

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use super::{
    Bench,
    links::Heard,
    meter::Meter,
    node::{free_address, start_pinned},
    people::People,
    report::Measured,
    talk::{Outcome, Talk},
};

const MEMBERS: usize = 1_000;
/// Members who send, in turn: more than one, because each may only have so many sends under way.
const SENDERS: usize = 50;
const REST_RATE: u64 = 50;
const REST: Duration = Duration::from_secs(10);
/// Messages a second that are tried for the limit; the first that is too much ends the search.
const RATES: [u64; 12] = [60, 80, 100, 200, 400, 600, 700, 800, 900, 1_000, 1_200, 1_500];
const TRY: Duration = Duration::from_secs(5);
/// A rate is borne when everything came and its 99th percentile is below this.
const P99_US_MAX: u64 = 250_000;
/// The reference server listens by then.
const LISTENS_WITHIN: Duration = Duration::from_secs(3);

pub(super) fn run(bench: &Bench) -> anyhow::Result<Vec<Measured>> {
    let mut measured = reference(bench)?;
    let backends = bench.backends(false)?;
    let node = bench.node("fanout", &backends)?;
    let mut people = members(node.address)?;
    let meter = || Meter::start(vec![node.id()], backends.postgres_processes());
    measure(
        bench,
        "fanout",
        meter,
        &mut people,
        |people, sender, text| people.persons[sender].send(0, text).1,
        &mut measured,
    )?;
    Ok(measured)
}

/// At rest, then ever more until it is too much.
fn measure(
    bench: &Bench,
    name: &str,
    meter: impl Fn() -> Meter,
    people: &mut People,
    mut frame: impl FnMut(&mut People, usize, String) -> String,
    measured: &mut Vec<Measured>,
) -> anyhow::Result<()> {
    let mut talk = |rate, how_long, meter| {
        let talk = Talk { rate, how_long, senders: SENDERS, receivers: 0..MEMBERS, each: MEMBERS as u64 };
        talk.run(people, meter, &mut frame)
    };
    let rest = talk(REST_RATE, REST, meter())?;
    measured.push(rest.measured(&format!("{name} at rest")));
    let mut best = rest;
    for rate in RATES {
        let outcome = talk(rate, TRY, meter())?;
        bench.note(&outcome.measured(&format!("  {rate} messages/s")));
        if !is_borne(&outcome) {
            break;
        }
        best = outcome;
    }
    measured.push(best.measured(&format!("{name} at the limit")));
    Ok(())
}

fn is_borne(outcome: &Outcome) -> bool {
    outcome.broken == 0 && outcome.missing() == 0 && outcome.latency.value_at_quantile(0.99) <= P99_US_MAX
}

fn members(address: SocketAddr) -> anyhow::Result<People> {
    let rooms = People::make_rooms(address, 1)?;
    let mut people = People::new()?;
    people.enter(address, MEMBERS, |_| rooms.clone())?;
    Ok(people)
}

/// The same talk over the plain server.
fn reference(bench: &Bench) -> anyhow::Result<Vec<Measured>> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    let mut server = start_pinned(command.args(["reference", &address.to_string()]), bench.cores)?;
    let measured = talk_to_reference(bench, address, server.id().cast_signed());
    server.kill()?;
    server.wait()?;
    measured
}

fn talk_to_reference(bench: &Bench, address: SocketAddr, id: i32) -> anyhow::Result<Vec<Measured>> {
    let deadline = Instant::now() + LISTENS_WITHIN;
    while std::net::TcpStream::connect(address).is_err() {
        anyhow::ensure!(Instant::now() < deadline, "the reference server does not listen");
        std::thread::yield_now();
    }
    let mut people = People::new()?;
    let mut open = 0;
    while open < MEMBERS {
        if people.links.len() < MEMBERS {
            people.links.open(address)?;
        }
        people.links.turn(Duration::from_millis(1), |_, heard, _| open += usize::from(heard == Heard::Open))?;
    }
    let meter = || Meter::start(vec![id], Vec::new());
    let mut measured = Vec::new();
    measure(bench, "reference", meter, &mut people, |_, _, text| event_like(&text), &mut measured)?;
    Ok(measured)
}

/// As long as a node's frame with the same text.
fn event_like(text: &str) -> String {
    let id = uuid::Uuid::nil();
    format!(
        r#"{{"type":"event","room":"{id}","epoch":1,"seq":1000,"event":"{id}","kind":"message","sender":"load-{}-1","time":1767225600000,"text":"{text}"}}"#,
        id.simple()
    )
}

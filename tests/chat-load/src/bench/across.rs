//! `across`: messages that are sent on one node and received on the other, over RabbitMQ.

use std::time::Duration;

use super::{Bench, meter::Meter, people::People, report::Measured, talk::Talk};

/// Rooms with a sender on one node and a receiver on the other.
const ROOMS: usize = 50;
const RATE: u64 = 1_000;
const RUN: Duration = Duration::from_secs(10);

pub(super) fn run(bench: &Bench) -> anyhow::Result<Vec<Measured>> {
    let backends = bench.backends(true)?;
    let [here, there] = [bench.node("here", &backends)?, bench.node("there", &backends)?];
    let rooms = People::make_rooms(here.address, ROOMS)?;
    let mut people = People::new()?;
    for node in [&here, &there] {
        people.enter(node.address, ROOMS, |number| vec![rooms[number % ROOMS]])?;
    }
    let talk = Talk { rate: RATE, how_long: RUN, senders: ROOMS, receivers: ROOMS..2 * ROOMS, each: 1 };
    let meter = Meter::start(vec![here.id(), there.id()], backends.postgres_processes());
    let outcome = talk.run(&mut people, meter, |people, sender, text| people.persons[sender].send(0, text).1)?;
    Ok(vec![outcome.measured("across two nodes, 1,000/s")])
}

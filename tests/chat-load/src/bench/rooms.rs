//! `rooms`: many rooms in which nothing is said. What each keeps in memory, and what all cost at rest: time has to go into what is said,
//! however many rooms there are.

use super::{Bench, people::People, report::Measured};

const CONNECTIONS: usize = 1_000;
const ROOMS_EACH: usize = 100;

pub(super) fn run(bench: &Bench) -> anyhow::Result<Vec<Measured>> {
    let backends = bench.backends(true)?;
    let node = bench.node("rooms", &backends)?;
    let mut people = People::new()?;
    people.enter(node.address, CONNECTIONS, |_| Vec::new())?;
    // The connections to the database are all there once a room was made.
    people.make_rooms_each(1)?;
    let without = people.cost_at_rest(&node, &backends)?;
    let before = node.resident_bytes();
    let rooms = people.make_rooms_each(ROOMS_EACH)?.len();
    let after = node.resident_bytes();
    let with = people.cost_at_rest(&node, &backends)?;
    let each = after.saturating_sub(before) as f64 / rooms as f64 / 1024.0;
    Ok(vec![
        Measured::new("rooms, 100,000 at rest of 1,000 connections")
            .figure("memory each", each, "KiB")
            .figure("node CPU", with.percent(with.node), "%")
            .figure("node CPU without the rooms", without.percent(without.node), "%")
            .figure("database CPU", with.percent(with.postgres), "%")
            .figure("database CPU without the rooms", without.percent(without.postgres), "%"),
    ])
}

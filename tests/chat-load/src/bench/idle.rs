//! `idle`: connections that are authenticated, in a room, and silent. What each keeps in memory, and what all cost at rest.

use super::{Bench, people::People, report::Measured};

const CONNECTIONS: usize = 10_000;
/// Rooms, with a hundred members each.
const ROOMS: usize = 100;

pub(super) fn run(bench: &Bench) -> anyhow::Result<Vec<Measured>> {
    let backends = bench.backends(false)?;
    let node = bench.node("idle", &backends)?;
    let rooms = People::make_rooms(node.address, ROOMS)?;
    let mut people = People::new()?;
    // The first ones warm up what exists once.
    people.enter(node.address, ROOMS, |number| vec![rooms[number % ROOMS]])?;
    let before = node.resident_bytes();
    people.enter(node.address, CONNECTIONS, |number| vec![rooms[number % ROOMS]])?;
    let after = node.resident_bytes();
    let cost = people.cost_at_rest(&node, &backends)?;
    let each = after.saturating_sub(before) as f64 / CONNECTIONS as f64 / 1024.0;
    Ok(vec![
        Measured::new("idle, 10,000 connections")
            .figure("memory each", each, "KiB")
            .figure("node", node.resident_bytes() as f64 / 1024.0 / 1024.0, "MiB")
            .figure("node CPU", cost.percent(cost.node), "%")
            .figure("database CPU", cost.percent(cost.postgres), "%"),
    ])
}

//! A talk at a steady rate, and how long each delivery took.
//!
//! Open loop: messages are due at fixed times whatever the server does, and a delivery's time counts from when its message was due. So
//! a stall is counted by every message that it delays, and nothing needs to be corrected for coordinated omission.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{
    links::Heard,
    meter::{Cost, Meter, histogram, us_each},
    people::{People, stamp, stamped},
    report::Measured,
};

/// What is on its way after the last send comes within this time.
const TAIL: Duration = Duration::from_secs(3);
/// How long a turn may wait, so that the end is noticed.
const TURN: Duration = Duration::from_millis(50);

/// How much is said, and who hears it.
pub(super) struct Talk {
    /// Messages a second.
    pub(super) rate: u64,
    pub(super) how_long: Duration,
    /// The first so many send, in turn.
    pub(super) senders: usize,
    /// Whose deliveries count.
    pub(super) receivers: Range<usize>,
    /// Deliveries that count of each message.
    pub(super) each: u64,
}

/// What came of it.
pub(super) struct Outcome {
    sent: u64,
    each: u64,
    delivered: u64,
    /// Refusals, and connections that ended.
    pub(super) broken: u64,
    pub(super) latency: Histogram<u64>,
    cost: Cost,
}

impl Outcome {
    /// Deliveries that did not come, or came too often.
    pub(super) fn missing(&self) -> u64 {
        (self.sent * self.each).abs_diff(self.delivered)
    }

    pub(super) fn measured(&self, name: &str) -> Measured {
        Measured::new(name)
            .figure("deliveries", self.delivered as f64 / self.cost.time.as_secs_f64(), "/s")
            .figure("node CPU each", us_each(self.cost.node, self.delivered), "us")
            .figure("database CPU each", us_each(self.cost.postgres, self.delivered), "us")
            .latency(&self.latency)
            .figure("node CPU", self.cost.percent(self.cost.node), "%")
            .figure("load CPU", self.cost.percent(self.cost.load), "%")
            .figure("missing", self.missing() as f64, "")
            .figure("broken", self.broken as f64, "")
    }
}

impl Talk {
    /// Talks for a while, and waits for what is on its way. `frame` makes what a sender says of a text.
    pub(super) fn run(
        &self,
        people: &mut People,
        meter: Meter,
        mut frame: impl FnMut(&mut People, usize, String) -> String,
    ) -> anyhow::Result<Outcome> {
        let mut latency = histogram()?;
        let (mut sent, mut delivered, mut broken) = (0_u64, 0_u64, 0_u64);
        let total = self.rate * self.how_long.as_secs();
        let step = Duration::from_secs_f64(1.0 / self.rate as f64);
        let due = |number: u64| step * u32::try_from(number).unwrap_or(u32::MAX);
        let base = Instant::now();
        let mut last = base;
        while sent < total || delivered < total * self.each && last.elapsed() < TAIL && broken == 0 {
            while sent < total && due(sent) <= base.elapsed() {
                let sender = usize::try_from(sent)? % self.senders;
                let said = frame(people, sender, stamped(due(sent)));
                people.links.say(sender, &said)?;
                sent += 1;
            }
            let wait = if sent < total { due(sent).saturating_sub(base.elapsed()) } else { TURN };
            let mut read = None;
            people.links.turn(wait.min(TURN), |number, heard, _| match heard {
                Heard::Text(frame) => {
                    // One look at the clock for all frames of one read.
                    let now = match read {
                        Some((of, now)) if of == number => now,
                        _ => base.elapsed(),
                    };
                    read = Some((number, now));
                    if let (Some(due), true) = (stamp(frame), self.receivers.contains(&number)) {
                        latency.saturating_record(now.saturating_sub(due).as_micros() as u64);
                        delivered += 1;
                    } else if frame.starts_with(br#"{"type":"error""#) {
                        broken += 1;
                    }
                }
                Heard::Gone(_) => broken += 1,
                Heard::Open => {}
            })?;
            if read.is_some() {
                last = Instant::now();
            }
        }
        // The CPU of all of it, over the time until the last delivery.
        let cost = Cost { time: last.duration_since(base), ..meter.cost() };
        Ok(Outcome { sent, each: self.each, delivered, broken, latency, cost })
    }
}

//! What a stretch of a run cost: time, and the CPU of the node, of PostgreSQL and of the load itself.

use std::time::{Duration, Instant};

use daemon::cpu_time;

/// Processes that are watched.
pub(super) struct Meter {
    node: Vec<i32>,
    postgres: Vec<i32>,
    began: Instant,
    before: [Duration; 3],
}

/// What it cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) time: Duration,
    pub(super) node: Duration,
    pub(super) postgres: Duration,
    pub(super) load: Duration,
}

impl Meter {
    /// Begins now. The connections to PostgreSQL are there already, so its processes stay the same.
    pub(super) fn start(node: Vec<i32>, postgres: Vec<i32>) -> Self {
        let mut meter = Meter { node, postgres, began: Instant::now(), before: Default::default() };
        meter.before = meter.read();
        meter
    }

    pub(super) fn cost(&self) -> Cost {
        let now = self.read();
        let [node, postgres, load] = std::array::from_fn(|index| now[index].saturating_sub(self.before[index]));
        Cost { time: self.began.elapsed(), node, postgres, load }
    }

    fn read(&self) -> [Duration; 3] {
        // One that has ended counts no more.
        let of = |ids: &[i32]| ids.iter().filter_map(|id| cpu_time(*id)).sum();
        [of(&self.node), of(&self.postgres), of(&[std::process::id().cast_signed()])]
    }
}

impl Cost {
    /// A time as a share of one core, in percent.
    pub(super) fn percent(&self, used: Duration) -> f64 {
        100.0 * used.as_secs_f64() / self.time.as_secs_f64()
    }
}

/// Microseconds for each of so many things.
pub(super) fn us_each(used: Duration, count: u64) -> f64 {
    used.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// A histogram of microseconds: up to a minute, three digits.
pub(super) fn histogram() -> anyhow::Result<hdrhistogram::Histogram<u64>> {
    Ok(hdrhistogram::Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

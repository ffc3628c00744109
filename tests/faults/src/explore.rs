//! Every schedule of a kind: first each scenario without a fault, which tells what calls and changes there are, then with each
//! single fault at each of them, then with several.

use std::{
    fmt::{self, Display},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::Instant,
};

use parking_lot::{Mutex, MutexGuard};
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::SliceRandom};

use crate::{
    api::call::Verb,
    plan::{Fault, Mishap},
    run::{Outcome, run},
    scenario::Scenario,
};

/// Seconds after which a call that is under way for long arrives: before the next process works, and long after.
pub(crate) const LATE_SECONDS: [u16; 2] = [3, 40];

/// Schedules that run at once.
const THREADS: usize = 2;

/// Schedules between two words of how far it is.
const TOLD_EVERY: usize = 2_000;

/// Failures that are told; the others would say the same.
const FAILURES_MAX: usize = 20;

/// How much is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Schedules with one fault, chosen evenly over scenarios; `None`: every one there is.
    pub single: Option<usize>,
    /// Schedules with two or three faults, drawn by `seed`.
    pub several: usize,
    /// The seed.
    pub seed: u64,
    /// Whether the first failure is enough.
    pub stop_at_first: bool,
    /// Whether each failure, and how far it is, is told on standard error.
    pub is_told: bool,
}

/// A schedule that broke something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The scenario.
    pub scenario: String,
    /// The faults, as few as are needed.
    pub faults: Vec<Fault>,
    /// What was broken.
    pub breaches: Vec<String>,
}

/// What came of an exploration.
#[derive(Debug, Default)]
pub struct Report {
    /// Scenarios.
    pub scenarios: usize,
    /// Calls of the operator in these, without faults.
    pub calls: usize,
    /// Changes that it was told.
    pub told: usize,
    /// Objects that there were in the end.
    pub objects: usize,
    /// Schedules with one fault that there are.
    pub possible: usize,
    /// Schedules that were run, those without a fault included.
    pub schedules: usize,
    /// Schedules in which a planned fault came true.
    pub met: usize,
    /// Those that broke something.
    pub failures: Vec<Failure>,
}

/// Every single fault that can befall a run.
pub fn single_faults(reference: &Outcome) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, made) in reference.made.iter().enumerate() {
        let mut add = |mishap| faults.push(Fault::Call(number, mishap));
        for mishap in [Mishap::TooMany, Mishap::ServerError, Mishap::TimedOut] {
            add(mishap);
        }
        if !matches!(made.verb, Verb::List | Verb::Watch) {
            // Of watches only the connection knows, and what it takes for dead is not the operator's doing.
            add(Mishap::Silent);
        }
        if made.verb.writes() {
            for mishap in [Mishap::Conflict, Mishap::AnswerLost, Mishap::CrashBefore, Mishap::CrashAfter] {
                add(mishap);
            }
            for seconds in LATE_SECONDS {
                add(Mishap::Delayed(seconds));
                add(Mishap::CrashDelayed(seconds));
            }
        }
    }
    let mut watched: Vec<_> =
        reference.made.iter().filter(|made| made.verb == Verb::Watch).map(|made| made.plural).collect();
    watched.sort_unstable();
    watched.dedup();
    for versions in [1, 2] {
        faults.extend(watched.iter().map(|plural| Fault::Stale(plural, versions)));
        faults.extend(reference.told.keys().map(|version| Fault::Held(*version, versions)));
    }
    faults.extend(reference.told.keys().map(|version| Fault::Lost(*version)));
    faults
}

/// What a schedule broke, compared with the run without faults.
pub fn breaches(outcome: &Outcome, reference: &Outcome) -> Vec<String> {
    let mut breaches = outcome.breaches.clone();
    if !breaches.is_empty() || outcome.end == reference.end {
        return breaches;
    }
    for (cluster, end) in &reference.end {
        let other = outcome.end.get(cluster);
        let differs = end.iter().find(|(object, value)| other.and_then(|other| other.get(*object)) != Some(value));
        let more = other.and_then(|other| other.keys().find(|object| !end.contains_key(*object)));
        let words = match (differs, more) {
            (Some((object, value)), _) => {
                let is = other.and_then(|other| other.get(object));
                format!(
                    "end: {object} is {}, without the fault it is {value}",
                    is.map(ToString::to_string).unwrap_or_default()
                )
            }
            (None, Some(object)) => format!("end: {object} is there, without the fault it is not"),
            (None, None) => continue,
        };
        breaches.push(words);
    }
    breaches
}

/// Explores scenarios.
pub fn explore(scenarios: &[Scenario], bounds: Bounds) -> Report {
    let references = Mutex::new(Vec::new());
    let report = Mutex::new(Report { scenarios: scenarios.len(), ..Report::default() });
    in_parallel(scenarios, |scenario| {
        if bounds.stop_at_first && !report.lock().failures.is_empty() {
            return;
        }
        let outcome = run(scenario, &[]);
        let mut report = report.lock();
        report.schedules += 1;
        report.calls += outcome.made.len();
        report.told += outcome.told.len();
        report.objects += outcome.end.values().map(std::collections::BTreeMap::len).sum::<usize>();
        if outcome.breaches.is_empty() {
            references.lock().push((scenario.clone(), outcome));
        } else {
            report.failures.push(Failure {
                scenario: scenario.name.clone(),
                faults: Vec::new(),
                breaches: outcome.breaches,
            });
        }
    });
    let began = Instant::now();
    let mut references = references.into_inner();
    references.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let mut report = report.into_inner();
    let schedules = schedules(&references, bounds, &mut report);
    let report = Mutex::new(report);
    in_parallel(&schedules, |(at, faults)| {
        let (scenario, reference) = &references[*at];
        if bounds.stop_at_first && !report.lock().failures.is_empty() {
            return;
        }
        let report = try_out(scenario, reference, faults, bounds.is_told, &report);
        if bounds.is_told && report.schedules.is_multiple_of(TOLD_EVERY) {
            let (done, all) = (report.schedules, references.len() + schedules.len());
            eprintln!(
                "  {done} of {all} schedules, {} failed ({} s)",
                report.failures.len(),
                began.elapsed().as_secs()
            );
        }
    });
    let mut report = report.into_inner();
    report.failures.sort_by(|a, b| (&a.scenario, &a.faults).cmp(&(&b.scenario, &b.faults)));
    report
}

/// Runs pairs of scenarios that have to end alike.
pub fn twins(twins: &[(Scenario, Scenario)]) -> Report {
    let report = Mutex::new(Report { scenarios: twins.len() * 2, ..Report::default() });
    in_parallel(twins, |(one, other)| {
        let (reference, outcome) = (run(one, &[]), run(other, &[]));
        let mut found = reference.breaches.clone();
        found.extend(breaches(&outcome, &reference));
        let mut report = report.lock();
        report.schedules += 2;
        for outcome in [&reference, &outcome] {
            report.calls += outcome.made.len();
            report.told += outcome.told.len();
            report.objects += outcome.end.values().map(std::collections::BTreeMap::len).sum::<usize>();
        }
        if !found.is_empty() {
            report.failures.push(Failure { scenario: other.name.clone(), faults: Vec::new(), breaches: found });
        }
    });
    report.into_inner()
}

/// Runs a scenario with each of some faults.
pub(crate) fn each_of(scenario: &Scenario, reference: &Outcome, faults: &[Fault]) -> Report {
    let report = Mutex::new(Report { scenarios: 1, possible: faults.len(), ..Report::default() });
    in_parallel(faults, |fault| drop(try_out(scenario, reference, std::slice::from_ref(fault), false, &report)));
    report.into_inner()
}

/// Runs a schedule, and notes whether it met its faults and what it broke.
fn try_out<'a>(
    scenario: &Scenario,
    reference: &Outcome,
    faults: &[Fault],
    is_told: bool,
    report: &'a Mutex<Report>,
) -> MutexGuard<'a, Report> {
    let outcome = run(scenario, faults);
    let found = breaches(&outcome, reference);
    let failure = (!found.is_empty()).then(|| shrink(scenario, reference, faults.to_vec(), found));
    let mut report = report.lock();
    report.schedules += 1;
    report.met += usize::from(outcome.met);
    if let (Some(failure), true) = (&failure, is_told) {
        eprintln!("{failure}");
    }
    report.failures.extend(failure);
    report
}

/// The schedules within the bounds, by index of their scenario.
fn schedules(references: &[(Scenario, Outcome)], bounds: Bounds, report: &mut Report) -> Vec<(usize, Vec<Fault>)> {
    let mut random = SmallRng::seed_from_u64(bounds.seed);
    let faults: Vec<Vec<Fault>> = references.iter().map(|(_, outcome)| single_faults(outcome)).collect();
    report.possible += faults.iter().map(Vec::len).sum::<usize>();
    let mut schedules = Vec::new();
    let share = bounds.single.map_or(usize::MAX, |single| single.div_ceil(references.len().max(1)));
    for (at, faults) in faults.iter().enumerate() {
        let mut faults = faults.clone();
        if faults.len() > share {
            faults.shuffle(&mut random);
            faults.truncate(share);
        }
        schedules.extend(faults.into_iter().map(|fault| (at, vec![fault])));
    }
    for _ in 0..bounds.several {
        let at = random.random_range(0..references.len());
        let number = random.random_range(2..=3);
        let drawn = (0..number).map(|_| faults[at][random.random_range(0..faults[at].len())].clone());
        schedules.push((at, drawn.collect()));
    }
    schedules
}

/// Leaves out every fault without which it fails too.
fn shrink(scenario: &Scenario, reference: &Outcome, mut faults: Vec<Fault>, mut found: Vec<String>) -> Failure {
    let mut at = 0;
    while faults.len() > 1 && at < faults.len() {
        let mut fewer = faults.clone();
        fewer.remove(at);
        let still = breaches(&run(scenario, &fewer), reference);
        if still.is_empty() {
            at += 1;
        } else {
            (faults, found) = (fewer, still);
        }
    }
    Failure { scenario: scenario.name.clone(), faults, breaches: found }
}

fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for breach in &self.breaches {
            writeln!(f, "  {}", breach.chars().take(600).collect::<String>())?;
        }
        let faults: String = self.faults.iter().map(|fault| format!(" {fault}")).collect();
        write!(f, "  again by: cargo run -p faults -- replay {}{faults}", self.scenario)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in self.failures.iter().take(FAILURES_MAX) {
            writeln!(f, "{failure}")?;
        }
        let Report { scenarios, calls, told, objects, possible, schedules, met, failures } = self;
        write!(
            f,
            "{schedules} schedules explored ({possible} with one fault are possible), {met} of them met a fault, {} failed; \
             {scenarios} scenarios, {objects} objects, {calls} calls, {told} changes told",
            failures.len()
        )
    }
}

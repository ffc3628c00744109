//! Explores schedules, runs one again, or hunts mutants. See the usage below.

use std::{iter::once_with, path::Path, process::ExitCode, time::Instant};

use faults::{
    aim::aims,
    changes,
    explore::{Bounds, breaches, explore, twins},
    mutants::hunt,
    plan::Fault,
    run::run,
    scenario::{self, Scenario},
};

const USAGE: &str = "faults explore [SINGLE|all [SEVERAL [SEED [scenarios|fields|SCENARIO]]]] | faults aimed | faults replay SCENARIO FAULT... | faults list | faults mutants FOLDER [NAME]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["explore", ref bounds @ ..] => explored(bounds),
        ["replay", scenario, ref faults @ ..] => replayed(scenario, faults),
        ["mutants", copy] => hunt(Path::new(copy), ""),
        ["mutants", copy, filter] => hunt(Path::new(copy), filter),
        ["aimed"] => aimed(),
        ["hunted"] => hunted(),
        ["list"] => {
            scenarios().iter().for_each(|scenario| println!("{}", scenario.name));
            Ok(())
        }
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn scenarios() -> Vec<Scenario> {
    let changed = changes::twins().into_iter().flat_map(|(born, changed)| [born, changed]);
    scenario::all().into_iter().chain(scenario::unmarred()).chain(changed).collect()
}

fn named(name: &str) -> Result<Scenario, String> {
    let scenario = scenarios().into_iter().find(|scenario| scenario.name == name);
    scenario.ok_or_else(|| format!("no scenario {name:?}: see faults list"))
}

fn explored(bounds: &[&str]) -> Result<(), String> {
    let number = |at: usize, default: u64| match bounds.get(at) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("{text:?} is no number: {USAGE}")),
    };
    let single = match bounds.first() {
        Some(&"all") => None,
        _ => Some(usize::try_from(number(0, 400)?).unwrap_or(usize::MAX)),
    };
    let several = usize::try_from(number(1, 0)?).unwrap_or(usize::MAX);
    let changed = changes::twins().into_iter().map(|(_, changed)| changed);
    let all: Vec<_> = match bounds.get(3) {
        None => scenario::all().into_iter().chain(changed).collect(),
        Some(&"scenarios") => scenario::all(),
        Some(&"fields") => changed.collect(),
        Some(name) => vec![named(name)?],
    };
    let report = explore(&all, Bounds { single, several, seed: number(2, 1)?, stop_at_first: false, is_told: true });
    println!("{report}");
    if report.failures.is_empty() { Ok(()) } else { Err("some schedules failed".into()) }
}

/// What faults are aimed at, with the seconds that each takes.
fn aimed() -> Result<(), String> {
    let mut failures = 0;
    for aim in aims() {
        let began = Instant::now();
        let report = aim.explore();
        println!("{} ({} s): {report}", aim.claim, began.elapsed().as_secs());
        failures += report.failures.len();
    }
    if failures == 0 { Ok(()) } else { Err("some schedules failed".into()) }
}

/// What has to find a mutant: every scenario, then faults that are aimed, then the fields of the schema, then a sample of single faults, until the
/// first failure.
fn hunted() -> Result<(), String> {
    const SINGLE: usize = 1_500;
    let all = scenario::all();
    let bounds = |single| Bounds { single: Some(single), several: 0, seed: 1, stop_at_first: true, is_told: false };
    let unmarred = || explore(&[&all[..], &scenario::unmarred()].concat(), bounds(0));
    let mut reports = once_with(unmarred)
        .chain(aims().into_iter().map(|aim| aim.explore()))
        .chain(once_with(|| twins(&changes::twins())))
        .chain(once_with(|| explore(&all, bounds(SINGLE))));
    match reports.find(|report| !report.failures.is_empty()) {
        None => Ok(()),
        Some(report) => {
            println!("{report}");
            Err("a schedule failed".into())
        }
    }
}

fn replayed(name: &str, faults: &[&str]) -> Result<(), String> {
    let scenario = named(name)?;
    let faults: Vec<Fault> = faults.iter().map(|fault| fault.parse()).collect::<Result<_, _>>()?;
    let outcome = run(&scenario, &faults);
    for (number, made) in outcome.made.iter().enumerate() {
        println!("call {number:>4} {:?} {} {}", made.verb, made.plural, made.name);
    }
    outcome.log.iter().for_each(|line| println!("{line}"));
    let breaches = breaches(&outcome, &run(&scenario, &[]));
    if breaches.is_empty() { Ok(()) } else { Err(breaches.join("\n")) }
}

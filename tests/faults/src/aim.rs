//! Faults aimed at where they do the most harm: the rarest, and the ones that a sample misses.

use crate::{
    api::call::Verb,
    explore::{Report, each_of, single_faults},
    plan::{Fault, Made, Mishap},
    run::run,
    scenario::{self, Scenario},
};

/// Every fault of a sort in one scenario.
pub struct Aim {
    /// What is claimed.
    pub claim: &'static str,
    /// The scenario.
    pub scenario: Scenario,
    hits: fn(&Fault, &[Made]) -> bool,
}

/// Every aim.
pub fn aims() -> [Aim; 4] {
    [
        Aim {
            claim: "a StatefulSet that is written late is not left without the config that was changed back meanwhile",
            scenario: scenario::config_and_back(),
            hits: |fault, made| {
                of_call(fault, made).is_some_and(|(made, mishap)| is_late(mishap) && made.plural == "statefulsets")
            },
        },
        Aim {
            claim: "a status that is written late does not make forgotten that a spec has failed",
            scenario: scenario::never_proven(),
            hits: |fault, made| {
                of_call(fault, made).is_some_and(|(made, mishap)| is_late(mishap) && made.plural == "chatclusters")
            },
        },
        Aim {
            claim: "an answer that never comes holds a change up for seconds",
            scenario: scenario::in_time(),
            hits: |fault, made| {
                of_call(fault, made).is_some_and(|(made, mishap)| mishap == Mishap::Silent && made.verb.writes())
            },
        },
        Aim {
            claim: "clusters that wait for the same list all go on when it has come",
            scenario: scenario::restarted(),
            hits: |fault, made| {
                of_call(fault, made)
                    .is_some_and(|(made, mishap)| mishap == Mishap::ServerError && made.verb == Verb::List)
            },
        },
    ]
}

impl Aim {
    /// Explores what it hits.
    pub fn explore(&self) -> Report {
        let reference = run(&self.scenario, &[]);
        let faults = single_faults(&reference).into_iter().filter(|fault| (self.hits)(fault, &reference.made));
        each_of(&self.scenario, &reference, &faults.collect::<Vec<_>>())
    }
}

/// The call that a fault befalls, and how.
fn of_call<'a>(fault: &Fault, made: &'a [Made]) -> Option<(&'a Made, Mishap)> {
    match fault {
        Fault::Call(number, mishap) => Some((made.get(*number)?, *mishap)),
        _ => None,
    }
}

/// Given up, and carried out all the same.
fn is_late(mishap: Mishap) -> bool {
    matches!(mishap, Mishap::Delayed(_))
}

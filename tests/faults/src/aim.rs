//! Faults aimed at where they do the most harm: the rarest, and the ones that a sample misses.

use crate::{
    api::call::Verb,
    explore::{LATE_SECONDS, Report, each_of, single_faults},
    plan::{Fault, Made, Mishap},
    run::{Outcome, run},
    scenario::{self, Scenario},
};

/// Given up, and carried out all the same long after another has judged.
const LATEST: Mishap = Mishap::Delayed(LATE_SECONDS[1]);

/// Every fault of a sort in one scenario.
pub struct Aim {
    /// What is claimed.
    pub claim: &'static str,
    /// The scenario.
    pub scenario: Scenario,
    hits: fn(&Fault, &Outcome) -> bool,
}

/// Every aim.
pub fn aims() -> [Aim; 5] {
    let aim = |claim, scenario, hits| Aim { claim, scenario, hits };
    [
        aim(
            "a StatefulSet that is written late finds the config that was changed back meanwhile",
            scenario::config_and_back(),
            |fault, run| {
                of_call(fault, run).is_some_and(|(call, mishap)| is_late(mishap) && call.plural == "statefulsets")
            },
        ),
        aim(
            "a status that is written late does not make forgotten that a spec has failed",
            scenario::never_proven(),
            |fault, run| {
                of_call(fault, run).is_some_and(|(call, mishap)| mishap == LATEST && call.plural == "chatclusters")
            },
        ),
        aim(
            "a Service of which is told late is not taken to lead where it led",
            scenario::third_template(),
            |fault, run| matches!(fault, Fault::Held(version, 1) if run.told[version] == "services"),
        ),
        aim(
            "a refusal, or an answer that never comes, holds a change up for seconds",
            scenario::in_time(),
            |fault, run| {
                let holds_up = |mishap| matches!(mishap, Mishap::TooMany | Mishap::Silent);
                of_call(fault, run).is_some_and(|(call, mishap)| holds_up(mishap) && call.verb.writes())
            },
        ),
        aim("clusters that wait for the same list all go on when it has come", scenario::restarted(), |fault, run| {
            of_call(fault, run).is_some_and(|(call, mishap)| mishap == Mishap::ServerError && call.verb == Verb::List)
        }),
    ]
}

impl Aim {
    /// Explores what it hits.
    pub fn explore(&self) -> Report {
        let reference = run(&self.scenario, &[]);
        let faults = single_faults(&reference).into_iter().filter(|fault| (self.hits)(fault, &reference));
        each_of(&self.scenario, &reference, &faults.collect::<Vec<_>>())
    }
}

/// The call that a fault befalls, and how.
fn of_call<'a>(fault: &Fault, run: &'a Outcome) -> Option<(&'a Made, Mishap)> {
    match fault {
        Fault::Call(number, mishap) => Some((run.made.get(*number)?, *mishap)),
        _ => None,
    }
}

/// Given up, and carried out all the same.
fn is_late(mishap: Mishap) -> bool {
    matches!(mishap, Mishap::Delayed(_))
}

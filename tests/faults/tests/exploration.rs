//! The bounded part of the proof: every scenario with a sample of all single faults and some of several, and every field of the
//! schema. The long part is `make proof`.

use faults::{
    aim::aims,
    changes,
    explore::{Bounds, explore, twins},
    mutants::MUTANTS,
    plan::Fault,
    run::run,
    scenario,
};

/// Schedules with one fault, and with several.
const BOUNDS: Bounds = Bounds { single: Some(60), several: 8, seed: 1, stop_at_first: false, is_told: false };

/// Fewer schedules than these prove too little.
const SCHEDULES_MIN: usize = 80;

#[test]
fn the_operator_comes_to_rest_through_any_single_fault_and_through_several() {
    let report = explore(&scenario::all(), BOUNDS);
    println!("{report}");
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.schedules >= SCHEDULES_MIN, "only {} schedules were explored", report.schedules);
    // Each scenario is run once without a fault, to know its end.
    let with_faults = report.schedules - report.scenarios;
    assert!(report.met * 10 >= with_faults * 8, "only {} schedules met their faults", report.met);
}

#[test]
fn a_cluster_that_is_changed_ends_as_one_that_was_made_so() {
    let report = twins(&changes::twins());
    println!("every field of the schema: {report}");
    assert!(report.failures.is_empty(), "{report}");
    let fields = changes::fields().len();
    assert!(fields >= 30 && report.scenarios == 2 * fields, "{fields} fields are too few");
}

#[test]
fn what_faults_are_aimed_at_holds() {
    for aim in aims() {
        let report = aim.explore();
        println!("{}: {report}", aim.claim);
        assert!(report.failures.is_empty(), "{}: {report}", aim.claim);
        // What is aimed at a call meets it, as all is the same up to there.
        assert!(report.met >= 4 && report.met == report.possible, "{}: {report}", aim.claim);
    }
}

#[test]
fn no_old_node_leaves_while_another_is_lost() {
    let outcome = run(&scenario::lost_while_judged(), &[]);
    assert_eq!(outcome.breaches, [""; 0]);
}

#[test]
fn the_mutants_fit_the_operator() {
    let unfit: Vec<String> = MUTANTS.iter().filter_map(|mutant| mutant.fits().err()).collect();
    assert!(unfit.is_empty(), "{unfit:#?}");
    assert!(MUTANTS.len() >= 12, "{} mutants are too few", MUTANTS.len());
}

#[test]
fn the_same_schedule_is_the_same_run() {
    let rollout = scenario::all().into_iter().find(|scenario| scenario.name == "rollout").unwrap();
    for faults in ["call:30:crash-after", "stale:pods:2"] {
        let faults: Vec<Fault> = faults.split_terminator(' ').map(|fault| fault.parse().unwrap()).collect();
        let [a, b] = [(); 2].map(|()| run(&rollout, &faults));
        assert_eq!((a.log, a.made), (b.log, b.made), "{faults:?}");
    }
}

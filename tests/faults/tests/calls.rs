//! What a cluster costs the API server: the operator's calls besides its watches, counted.

use faults::{
    api::call::Verb,
    plan::Fault,
    run::{Outcome, run},
    scenario::{self, DEMO, Scenario, Step, bound},
};
use serde_json::json;

/// Calls for a whole creation.
const CREATION_MAX: usize = 12;

/// Calls for a creation and a rollout of two nodes.
const ROLLOUT_MAX: usize = 48;

/// The same while the operator sees one kind late all the time, for as long as a minute.
const STALE_ROLLOUT_MAX: usize = 125;

/// The calls of a schedule that came to its end, but those of the caches.
fn calls(scenario: &Scenario, faults: &[Fault]) -> (usize, Outcome) {
    let outcome = run(scenario, faults);
    assert_eq!(outcome.breaches, [""; 0], "{} {faults:?}", scenario.name);
    let counts = |verb| !matches!(verb, Verb::List | Verb::Watch);
    (outcome.made.iter().filter(|made| counts(made.verb)).count(), outcome)
}

#[test]
fn a_creation_is_a_dozen_calls_and_nothing_is_read_that_a_watch_tells() {
    let image = "chat-node:1";
    let specs = [json!({"image": image}), bound(1, image), bound(2, image), bound(5, image)];
    for spec in specs {
        let name = format!("create {spec}");
        let scenario = Scenario { name, steps: vec![Step::Want(DEMO, spec), Step::Settle] };
        let (calls, outcome) = calls(&scenario, &[]);
        println!("{calls} calls: {}", scenario.name);
        assert!(calls <= CREATION_MAX, "{calls} calls: {:#?}", outcome.made);
        let read = outcome.made.iter().filter(|made| made.verb == Verb::Get && made.plural != "secrets");
        assert_eq!(read.count(), 0, "{:#?}", outcome.made);
        let told = outcome.log.iter().filter(|line| line.contains("created events")).count();
        assert_eq!(told, 1, "a creation is one Event: Ready");
    }
}

#[test]
fn what_is_remembered_of_a_cluster_goes_with_it() {
    let spec = || Step::Want(DEMO, bound(1, "chat-node:1"));
    let between = vec![Step::Delete("chatclusters", DEMO), Step::Pass(5)];
    let steps = [vec![spec(), Step::Settle], between, vec![spec(), Step::Settle]].concat();
    let (_, outcome) = calls(&Scenario { name: "forgotten".into(), steps }, &[]);
    let read = outcome.made.iter().filter(|made| (made.verb, &*made.name) == (Verb::Get, "pg")).count();
    assert_eq!(read, 2, "the contents of a Secret that nobody referred to were kept: {:#?}", outcome.made);
}

#[test]
fn a_cache_that_is_late_is_waited_for_less_and_less_often() {
    let rollout = scenario::all().into_iter().find(|scenario| scenario.name == "rollout").unwrap();
    let (in_time, _) = calls(&rollout, &[]);
    println!("a rollout: {in_time} calls");
    assert!(in_time <= ROLLOUT_MAX, "{in_time} calls");
    for plural in ["chatclusters", "statefulsets", "services", "pods", "endpointslices"] {
        let (late, outcome) = calls(&rollout, &[Fault::Stale(plural, 2)]);
        println!("a rollout with {plural} told late: {late} calls");
        assert!(outcome.met && late <= STALE_ROLLOUT_MAX, "{late} calls: {:#?}", outcome.made);
    }
}

//! How long a deletion may take that Kubernetes waits in.

use faults::{
    run::{Outcome, run},
    scenario::{DEMO, Scenario, Step, bound, with},
};
use serde_json::{Value, json};

/// Seconds of the drain, and what the pods' grace is beyond it.
const DRAIN_SECONDS: u64 = 10;
const MARGIN_SECONDS: u64 = 15;

/// Seconds for which what does not go is waited for beyond the grace (docs/operations.md).
const WAIT_SECONDS: u64 = 60;

/// Time between two looks of the operator, and a second for Kubernetes.
const LOOK_SECONDS: u64 = 6;

/// A cluster that is deleted in the foreground and has to be gone in time, its StatefulSet held by these finalizers.
fn deleted(finalizers: Value, seconds: u64) -> Outcome {
    let spec = with(bound(2, "chat-node:1"), json!({"updateStrategy": {"drainSeconds": DRAIN_SECONDS}}));
    let steps = vec![
        Step::Want(DEMO, spec),
        Step::Settle,
        Step::Put("statefulsets", DEMO, json!({"metadata": {"finalizers": finalizers}})),
        Step::Foreground("chatclusters", DEMO),
        Step::Gone("chatclusters", DEMO, seconds),
    ];
    run(&Scenario { name: "deleted".into(), steps }, &[])
}

#[test]
fn a_deletion_that_nobody_holds_up_ends_with_its_pods() {
    assert_eq!(deleted(Value::Null, LOOK_SECONDS).breaches, [""; 0]);
}

#[test]
fn a_deletion_that_is_held_up_ends_in_time_and_not_before() {
    let held = || json!(["example.org/hold"]);
    let due = DRAIN_SECONDS + MARGIN_SECONDS + WAIT_SECONDS;
    let early = deleted(held(), due - 2);
    assert!(
        early.breaches.iter().any(|breach| breach.starts_with("gone: ")),
        "it was not waited for: {:?}",
        early.breaches
    );
    assert_eq!(deleted(held(), due + LOOK_SECONDS).breaches, [""; 0]);
}

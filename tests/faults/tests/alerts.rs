//! What alerts are told of, as long as it lasts. In a process of its own, and one test after the other: what an operator counts, it counts for all
//! of its process.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use faults::{
    api::call::Verb,
    plan::{Fault, Mishap},
    run::run,
    scenario::{DEMO, Scenario, Step, bound, with},
    world::BROKEN,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};

/// Seconds that a rollout has, and the next look of the operator after them.
const DEADLINE_SECONDS: u64 = 60;
const LOOK_SECONDS: u64 = 35;

/// Both tests have a cluster of the same name, and so would take each other's out of the count.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_rollout_that_is_stuck_is_told_as_long_as_it_is() {
    let _alone = alone();
    let recorder = PrometheusBuilder::new().build_recorder();
    let stuck_after = |steps: Vec<Step>| {
        let scenario = Scenario { name: "stuck".into(), steps };
        let outcome = metrics::with_local_recorder(&recorder, || run(&scenario, &[]));
        assert_eq!(outcome.breaches, [""; 0]);
        let page = recorder.handle().render();
        page.lines().find_map(|line| line.strip_prefix("chatcluster_rollouts_stuck ")?.parse::<u32>().ok())
    };
    let wants = |image: &str| -> Value {
        with(bound(2, image), json!({"updateStrategy": {"progressDeadlineSeconds": DEADLINE_SECONDS}}))
    };
    let breaks = || {
        let past = Step::Pass(DEADLINE_SECONDS + LOOK_SECONDS);
        vec![Step::Want(DEMO, wants("chat-node:1")), Step::Settle, Step::Want(DEMO, wants(BROKEN)), past]
    };
    let mended = [Step::Want(DEMO, wants("chat-node:2")), Step::Settle];
    assert_eq!(stuck_after(vec![Step::Want(DEMO, wants("chat-node:1")), Step::Settle]), Some(0));
    assert_eq!(stuck_after(breaks()), Some(1));
    assert_eq!(stuck_after(breaks().into_iter().chain(mended).collect()), Some(0));
}

/// An operator that may not watch reconciles nothing, and nothing else would tell.
#[test]
fn a_watch_that_is_refused_is_told() {
    let _alone = alone();
    let recorder = PrometheusBuilder::new().build_recorder();
    let scenario =
        Scenario { name: "watch".into(), steps: vec![Step::Want(DEMO, bound(2, "chat-node:1")), Step::Settle] };
    let told = |refused: &[Fault]| {
        let outcome = metrics::with_local_recorder(&recorder, || run(&scenario, refused));
        assert_eq!(outcome.breaches, [""; 0]);
        let page = recorder.handle().render();
        let told = page.lines().find_map(|line| line.strip_prefix("chatcluster_watch_failures_total ")?.parse().ok());
        (outcome.made, told.unwrap_or(0))
    };
    let (made, before) = told(&[]);
    assert_eq!(before, 0);
    let lists: Vec<usize> = (0..made.len()).filter(|call| made[*call].verb == Verb::List).collect();
    let kinds: BTreeSet<&str> = lists.iter().map(|call| made[*call].plural).collect();
    assert_eq!((lists.len(), kinds.len()), (10, 10), "{kinds:?}");
    for (before, call) in lists.into_iter().enumerate() {
        assert_eq!(told(&[Fault::Call(call, Mishap::ServerError)]).1, before + 1, "{}", made[call].plural);
    }
}

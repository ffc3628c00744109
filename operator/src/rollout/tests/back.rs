//! Rollouts that fail, and how they go back.

use crds::chatcluster::{OnFailure, RolloutPhase};
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    super::FAILURES_MAX,
    forward::walk,
    policies, policies_to, policy,
    world::{Fault, World, revision},
};

const FAULTS: [Fault; 4] = [Fault::Broken, Fault::Sick, Fault::Worse, Fault::Flapping];

#[test]
pub(super) fn a_template_that_fails_goes_back_whatever_the_policy() {
    for policy in policies() {
        for fault in FAULTS {
            // Where all nodes are replaced at once, nobody is left to compare them with.
            if policy.surge == 0 && policy.unavailable == policy.replicas && fault != Fault::Broken {
                continue;
            }
            let mut world = World::rolling(policy, Some(fault)).with_deadline(60);
            world.undisturbed = policy.surge > 0 && fault != Fault::Flapping;
            world.turns(400);
            world.settle_down();
            world.assert_back(1);
            if world.undisturbed {
                world.assert_moves(0);
            }
        }
    }
}

/// The operator is away for an hour after every number of turns.
#[test]
pub(super) fn a_rollout_that_nobody_looked_after_has_not_failed() {
    for policy in policies_to(3) {
        for turns in 0..40 {
            let mut world = World::rolling(policy, None).with_deadline(60);
            world.turns(turns);
            for _ in 0..10 {
                world.round();
            }
            world.tick(3_600);
            world.settle_down();
            world.assert_done();
            if policy.surge > 0 {
                world.assert_moves(1);
            }
        }
    }
}

#[test]
fn an_operator_that_crashes_again_and_again_goes_back_in_the_end() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Broken));
    let (limit, mut absences) = (615, 0);
    while world.status.as_ref().unwrap().failure.is_empty() {
        world.operator(None, usize::MAX);
        world.round();
        world.tick(300);
        absences += 1;
        assert!(absences <= limit / 60 + 7 + 3, "{:?}", world.status);
    }
    world.settle_down();
    world.assert_back(1);
}

#[test]
pub(super) fn nodes_that_are_stuck_leave_at_once() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Broken)).with_deadline(60);
    while world.status.as_ref().unwrap().failure.is_empty() {
        world.turns(1);
    }
    let failed = world.now;
    while world.pods.iter().any(|pod| pod.revision == revision(2)) {
        world.turns(1);
    }
    assert!(world.now.duration_since(failed).as_secs() <= 6, "they stayed until {}", world.now);
}

/// Aborts a good rollout after every number of turns.
#[test]
pub(super) fn an_abort_goes_back_from_anywhere() {
    for policy in policies_to(4) {
        for turns in 0..40 {
            let mut world = World::rolling(policy, None);
            world.turns(turns);
            if world.pods.iter().all(|pod| pod.revision == revision(2)) {
                break;
            }
            world.command = Some("abort".into());
            world.undisturbed = policy.surge > 0;
            world.settle_down();
            world.assert_back(1);
        }
    }
}

/// Returns how many schedules were walked.
pub(super) fn any_order(per_policy: usize) -> usize {
    let mut random = SmallRng::seed_from_u64(3);
    let mut schedules = 0;
    for policy in policies().filter(|policy| policy.surge > 0) {
        for (turns, _) in [3, 8, 12].into_iter().flat_map(|turns| (0..per_policy).map(move |again| (turns, again))) {
            let mut world = World::rolling(policy, None);
            world.turns(turns);
            let is_over = world.pods.iter().all(|pod| pod.revision == revision(2));
            world.command = Some("abort".into());
            walk(&mut world, &mut random, 300);
            world.settle_down();
            if !is_over {
                world.assert_back(1);
            }
            schedules += 1;
        }
    }
    schedules
}

#[test]
fn an_abort_goes_back_in_any_order_of_events() {
    let schedules = any_order(2);
    println!("{schedules} schedules");
    assert!(schedules > 400, "only {schedules} schedules");
}

#[test]
fn a_crash_after_any_write_on_the_way_back_resumes_where_it_was() {
    let mut schedules = 0;
    for policy in policies().filter(|policy| policy.replicas <= 3 && policy.surge > 0) {
        for crash in 0.. {
            let mut world = World::rolling(policy, None);
            world.turns(10);
            world.command = Some("abort".into());
            let mut writes = 0;
            for _ in 0..200 {
                let left = if (writes..writes + 4).contains(&crash) { crash - writes } else { usize::MAX };
                writes += world.operator(None, left).len();
                if left != usize::MAX {
                    writes += 4;
                }
                world.round();
                world.tick(2);
            }
            world.assert_rest_of(if world.status.clone().unwrap().failure.is_empty() { 2 } else { 1 });
            schedules += 1;
            if crash > writes {
                break;
            }
        }
    }
    println!("{schedules} schedules");
    assert!(schedules > 100, "only {schedules} schedules");
}

#[test]
pub(super) fn a_failed_spec_is_tried_again_only_when_somebody_says_so() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Sick));
    world.turns(200);
    world.settle_down();
    world.assert_back(1);
    // Scaling is no new spec of the pods.
    world.undisturbed = false;
    world.policy.replicas = 4;
    world.settle_down();
    world.assert_back(1);
    world.faults.clear();
    world.command = Some("resume".into());
    world.settle_down();
    world.assert_done();
}

#[test]
fn another_spec_is_tried_after_one_that_failed_and_the_old_one_restarts_nothing() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Worse));
    world.turns(200);
    let before = world.pods.clone();
    world.template = 1;
    world.settle_down();
    world.assert_done();
    assert_eq!(world.pods, before);
    world.template = 3;
    world.settle_down();
    world.assert_done();
    world.assert_moves(1);
}

#[test]
fn with_pause_a_failure_stops_where_it_is_and_a_person_decides() {
    for fault in [Fault::Sick, Fault::Worse] {
        let failed = || {
            let mut world = World::rolling(policy(3, 1, 0), Some(fault)).pausing();
            world.turns(400);
            let told = world.status.clone().unwrap();
            assert_eq!(told.phase, RolloutPhase::Paused);
            assert!(told.message.contains("promote, abort, resume"), "{}", told.message);
            world.assert_moves(0);
            assert_eq!(world.serving, Some(revision(1)), "new connections go to the nodes of before");
            world
        };
        let mut aborted = failed();
        aborted.command = Some("abort/1".into());
        aborted.settle_down();
        aborted.assert_back(1);
        aborted.assert_moves(0);

        let mut promoted = failed();
        promoted.command = Some("promote".into());
        promoted.settle_down();
        promoted.assert_done();

        let mut resumed = failed();
        resumed.faults.clear();
        resumed.command = Some("resume".into());
        resumed.settle_down();
        resumed.assert_done();

        let mut sick_still = failed();
        sick_still.command = Some("resume".into());
        sick_still.turns(200);
        let told = sick_still.status.clone().unwrap();
        let tested_anew = if fault == Fault::Sick { FAILURES_MAX } else { 0 };
        assert_eq!((told.phase, told.forgiven_self_tests), (RolloutPhase::Paused, tested_anew));
        assert!(!told.failure.is_empty());

        let mut changed = failed();
        changed.policy.on_failure = OnFailure::Rollback;
        changed.settle_down();
        changed.assert_back(1);
    }
}

#[test]
fn with_pause_a_late_node_is_reported_and_still_welcome() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Broken)).with_deadline(60).pausing();
    world.turns(100);
    let decision = super::super::decide(&world.scene(), world.now);
    assert!(decision.deadline_exceeded && decision.told.failure.is_empty());
    // And nothing more is told until something moves.
    let told = world.status.clone();
    world.turns(100);
    world.tick(100_000);
    world.turns(100);
    assert_eq!(world.status, told);
    world.faults.clear();
    world.settle_down();
    world.assert_done();
}

#[test]
fn a_command_acts_once() {
    let mut world = World::rolling(policy(3, 1, 0), None);
    world.turns(3);
    world.command = Some("abort".into());
    world.settle_down();
    world.assert_back(1);
    // The annotation is still there, and says nothing about another spec.
    world.template = 3;
    world.settle_down();
    world.assert_done();
}

#[test]
pub(super) fn whoever_is_ready_serves_even_unproven_when_nobody_else_is() {
    let mut world = World::rolling(policy(3, 1, 1), Some(Fault::Sick)).pausing();
    world.undisturbed = false;
    for pod in &mut world.pods {
        (pod.ready, pod.since) = (false, world.now);
    }
    world.faults.insert(1, Fault::Broken);
    world.turns(50);
    assert_eq!(world.serving, Some(revision(2)));
    assert!(!world.endpoints.is_empty());
}

/// A node in place, some time after its spec has failed.
fn lone_and_failed() -> World {
    let mut alone = policy(1, 1, 0);
    alone.in_place = true;
    let mut world = World::at_rest(alone).with_deadline(60);
    world.undisturbed = false;
    world.template = 2;
    world.faults.insert(2, Fault::Broken);
    world.turns(100);
    world
}

#[test]
fn a_lone_node_that_fails_to_restart_is_brought_back() {
    let world = lone_and_failed();
    let told = world.status.clone().unwrap();
    assert_eq!(told.failed_spec_hash, "spec-2", "{told:?} {:?} {:?}", world.set, world.pods);
    assert!(world.pods.iter().all(|pod| pod.ready && pod.revision == revision(1)), "{:?}", world.pods);
}

#[test]
fn a_lone_node_stays_while_rollouts_are_paused() {
    let mut alone = policy(1, 1, 0);
    (alone.in_place, alone.paused) = (true, true);
    let mut world = World::at_rest(alone);
    let before = world.pods.clone();
    world.template = 2;
    world.turns(50);
    assert_eq!(world.pods, before);
    assert_eq!(world.status.clone().unwrap().phase, RolloutPhase::Paused);
    world.undisturbed = false;
    world.policy.paused = false;
    world.turns(50);
    assert!(world.pods.iter().all(|pod| pod.ready && pod.revision == revision(2)), "{:?}", world.pods);
    assert_eq!(world.status.clone().unwrap().phase, RolloutPhase::Stable);
}

#[test]
fn a_lone_node_that_was_brought_back_is_not_restarted_by_an_edit_of_what_to_do_on_failure() {
    let world = lone_and_failed();
    let before = world.pods.clone();
    assert!(before.iter().all(|pod| pod.revision == revision(1)), "{before:?}");
    let mut world = world.pausing();
    world.turns(50);
    assert_eq!(world.pods, before);
}

#[test]
fn an_abort_outlives_the_status() {
    for policy in policies_to(3) {
        for turns in 0..60 {
            let mut world = World::rolling(policy, None);
            world.turns(4);
            if world.pods.iter().all(|pod| pod.revision == revision(2)) {
                break;
            }
            world.undisturbed = false;
            world.command = Some("abort".into());
            world.turns(turns);
            // The resource was restored from a backup, or left its children behind and was made again.
            world.status = None;
            world.settle_down();
            world.assert_back(1);
            // It is about that spec alone.
            world.template = 3;
            world.settle_down();
            world.assert_done();
        }
    }
}

#[test]
fn an_abort_of_long_ago_moves_nothing_at_rest_when_the_status_is_lost() {
    let mut world = World::rolling(policy(3, 1, 0), None);
    world.command = Some("abort".into());
    world.settle_down();
    world.template = 3;
    world.settle_down();
    world.assert_done();
    let before = (world.set.clone(), world.pods.clone());
    world.status = None;
    world.settle_down();
    world.assert_done();
    assert_eq!((world.set, world.pods), before);
}

#[test]
fn a_lone_node_stays_brought_back_when_the_status_is_lost() {
    let mut alone = policy(1, 1, 0);
    alone.in_place = true;
    for turns in 1..20 {
        let mut world = World::at_rest(alone);
        world.undisturbed = false;
        (world.template, world.command) = (2, Some("abort".into()));
        world.turns(turns);
        world.status = None;
        world.turns(50);
        let told = world.status.clone().unwrap();
        assert_eq!(told.failed_spec_hash, "spec-2", "after {turns} turns: {told:?}");
        assert!(world.pods.iter().all(|pod| pod.ready && pod.revision == revision(1)), "{:?}", world.pods);
    }
}

#[test]
fn an_abort_counts_from_the_first_write_on() {
    for writes in 0..=3 {
        let mut world = World::rolling(policy(3, 1, 0), None);
        world.operator(None, writes);
        world.command = Some("abort".into());
        world.settle_down();
        world.assert_back(1);
    }
}

#[test]
fn what_begins_has_its_whole_deadline() {
    let mut in_place = policy(1, 1, 0);
    in_place.in_place = true;
    for policy in [policy(3, 0, 1), in_place] {
        let mut world = World::at_rest(policy).with_deadline(60);
        world.operator(None, usize::MAX);
        world.tick(100_000);
        world.undisturbed = false;
        world.template = 2;
        for _ in 0..5 {
            let decision = super::super::decide(&world.scene(), world.now);
            assert!(!decision.deadline_exceeded, "{:?}", decision.told);
            world.operator(None, usize::MAX);
        }
    }
}

#[test]
fn an_order_waits_for_the_change_that_it_is_about() {
    let mut world = World::at_rest(policy(3, 1, 0));
    world.operator(None, usize::MAX);
    world.command = Some("abort".into());
    assert_eq!(world.scene().without_new_orders().command, None);
    world.status = None;
    assert_eq!(world.scene().without_new_orders().command, None);
    // In the middle of a rollout it is about that one.
    let mut world = World::rolling(policy(3, 1, 0), None);
    world.turns(3);
    world.command = Some("abort".into());
    assert_eq!(world.scene().without_new_orders().command, world.command);
}

#[test]
fn what_failed_under_a_hash_of_before_has_failed() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Sick));
    world.turns(200);
    world.settle_down();
    let told = world.status.clone().unwrap();
    assert_eq!((&*told.spec_hash, &*told.failed_spec_hash), ("spec-2", "spec-2"));
    let scene = || super::super::Scene { spec_hash: "known-anew".into(), ..world.scene() };
    let decided = |scene| super::super::decide(&scene, world.now).told;
    assert_eq!(decided(scene().known_as(Some("spec-2".into()))).failed_spec_hash, "known-anew");
    assert_eq!(decided(scene().known_as(Some("spec-1".into()))).failed_spec_hash, "");
}

#[test]
fn what_nodes_did_before_a_resume_counts_no_more() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Worse)).pausing();
    world.turns(400);
    assert_eq!(world.status.clone().unwrap().phase, RolloutPhase::Paused);
    world.undisturbed = false;
    world.command = Some("resume".into());
    // Nodes tell of the latest minute or two.
    for second in 0..120 {
        world.operator(None, usize::MAX);
        world.round();
        world.tick(1);
        let told = world.status.clone().unwrap();
        assert!(told.failure.is_empty(), "after {second} s: {told:?}");
    }
    let mended = {
        let mut mended = world.clone();
        mended.faults.clear();
        mended
    };
    for (mut world, goes_on) in [(world, false), (mended, true)] {
        world.turns(200);
        assert_eq!(world.status.clone().unwrap().failure.is_empty(), goes_on);
    }
}

//! Rollouts that succeed.

use crds::chatcluster::{LiveGate, OnInconclusive, RolloutPhase, Window};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    policies, policy,
    world::{Fault, World, revision},
};
use crate::rollout::{PodView, Policy};

/// The windows that a rollout goes through.
fn windows(policy: Policy) -> Vec<(i32, i32, i32)> {
    let mut world = World::rolling(policy, None);
    let mut windows: Vec<(i32, i32, i32)> = Vec::new();
    for _ in 0..200 {
        world.operator(None, usize::MAX);
        let Window { start, replicas, partition } = world.set.as_ref().unwrap().window;
        if windows.last() != Some(&(start, replicas, partition)) {
            windows.push((start, replicas, partition));
        }
        world.round();
        world.tick(3);
    }
    world.assert_done();
    windows
}

#[test]
fn the_window_slides_by_the_surge_and_begins_in_one_write() {
    assert_eq!(windows(policy(3, 1, 0)), [(0, 4, 3), (1, 3, 2), (1, 4, 2), (2, 3, 1), (2, 4, 1), (3, 3, 0), (3, 3, 3)]);
    assert_eq!(windows(policy(3, 2, 0)), [(0, 5, 3), (2, 3, 1), (2, 4, 1), (3, 3, 0), (3, 3, 3)]);
    assert_eq!(windows(policy(3, 3, 0)), [(0, 6, 3), (3, 3, 0), (3, 3, 3)]);
    assert_eq!(windows(policy(1, 1, 0)), [(0, 2, 1), (1, 1, 0), (1, 1, 1)]);
}

#[test]
fn without_surge_it_slides_within_what_may_be_missing() {
    assert_eq!(windows(policy(3, 0, 1)), [(0, 3, 3), (1, 3, 2), (2, 3, 1), (3, 3, 0), (3, 3, 3)]);
    assert_eq!(windows(policy(3, 0, 2)), [(0, 3, 3), (2, 3, 1), (3, 3, 0), (3, 3, 3)]);
}

#[test]
pub(super) fn every_policy_comes_to_rest_and_moves_each_client_once() {
    for policy in policies() {
        let mut world = World::rolling(policy, None);
        world.settle_down();
        world.assert_done();
        if policy.surge > 0 {
            world.assert_moves(1);
        }
    }
}

#[test]
fn a_crash_after_any_write_resumes_where_it_was() {
    let mut schedules = 0;
    for policy in policies().filter(|policy| policy.replicas <= 3) {
        for crash in 0.. {
            let mut world = World::rolling(policy, None);
            let mut writes = 0;
            for _ in 0..400 {
                let left = if (writes..writes + 4).contains(&crash) { crash - writes } else { usize::MAX };
                writes += world.operator(None, left).len();
                if left != usize::MAX {
                    writes += 4;
                }
                world.round();
                world.tick(2);
            }
            world.assert_done();
            schedules += 1;
            if crash > writes {
                break;
            }
        }
    }
    println!("{schedules} schedules");
    assert!(schedules > 500, "only {schedules} schedules");
}

/// Actors in any order, the operator crashing now and then.
pub(super) fn walk(world: &mut World, random: &mut SmallRng, steps: usize) {
    for _ in 0..steps {
        match random.random_range(0..10) {
            0..3 => {
                let writes_max = if random.random_bool(0.2) { random.random_range(0..4) } else { usize::MAX };
                world.operator(None, writes_max);
            }
            3 | 4 => world.controller(),
            5 | 6 => world.kubelet(random.random_range(0..=world.pods.len())),
            7 | 8 => world.endpoints(random.random_range(0..2)),
            _ => world.tick(random.random_range(0..5)),
        }
        world.check();
    }
}

/// Returns how many schedules were walked.
pub(super) fn any_order(per_policy: usize) -> usize {
    let mut random = SmallRng::seed_from_u64(1);
    let mut schedules = 0;
    for policy in policies() {
        for schedule in 0..per_policy {
            let mut world = World::rolling(policy, None);
            // Every other one is not judged, so that steering stands by itself.
            world.command = (schedule % 2 == 1).then(|| "promote".into());
            walk(&mut world, &mut random, 200);
            world.settle_down();
            world.assert_done();
            schedules += 1;
        }
    }
    schedules
}

#[test]
fn any_order_of_events_keeps_the_invariants() {
    let schedules = any_order(10);
    println!("{schedules} schedules");
    assert!(schedules > 800, "only {schedules} schedules");
}

#[test]
pub(super) fn too_few_samples_wait_where_the_spec_says_so() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Quiet));
    world.policy.on_inconclusive = OnInconclusive::Wait;
    world.turns(400);
    let told = world.status.clone().unwrap();
    assert_eq!((told.phase, told.live_gate), (RolloutPhase::Judging, Some(LiveGate::Inconclusive)));
    assert!(told.message.contains("too few"), "{}", told.message);
    world.assert_moves(0);
    world.command = Some("promote".into());
    world.settle_down();
    world.assert_rest_of(2);
    world.assert_moves(1);
}

#[test]
fn too_few_samples_are_told_and_passed_over_by_default() {
    let mut world = World::rolling(policy(3, 1, 0), Some(Fault::Quiet));
    world.settle_down();
    world.assert_done();
    assert_eq!(world.status.unwrap().live_gate, Some(LiveGate::Inconclusive));
}

#[test]
pub(super) fn a_paused_rollout_stands_still_until_it_is_resumed() {
    for turns in 0..25 {
        let mut world = World::rolling(policy(3, 1, 0), None);
        world.turns(turns);
        if world.scene().set.is_some_and(|set| set.current_revision == revision(2)) {
            continue;
        }
        world.policy.paused = true;
        world.turns(2);
        let window = world.set.clone().unwrap().window;
        world.turns(400);
        assert_eq!(world.set.clone().unwrap().window, window, "paused after {turns} turns");
        world.policy.paused = false;
        world.settle_down();
        world.assert_done();
        world.assert_moves(1);
    }
}

#[test]
fn a_paused_cluster_scales_at_the_old_revision() {
    let mut world = World::at_rest(policy(3, 1, 0));
    world.policy.paused = true;
    world.template = 2;
    world.turns(5);
    world.undisturbed = false;
    world.policy.replicas = 5;
    world.turns(5);
    assert_eq!(world.pods.iter().filter(|pod| pod.revision == revision(1) && pod.ready).count(), 5);
    world.policy.paused = false;
    world.settle_down();
    world.assert_done();
}

#[test]
pub(super) fn nodes_that_wake_while_rollouts_are_paused_are_of_the_spec_that_ran() {
    let mut in_place = policy(1, 1, 0);
    in_place.in_place = true;
    let scale = |world: &mut World, to: Policy, replicas: i32| {
        (world.policy.replicas, world.policy.surge) = (replicas, to.surge.min(replicas));
    };
    for policy in [policy(3, 1, 0), policy(3, 0, 1), policy(2, 2, 1), in_place] {
        // How many turns the change, the pause and the sleep take, and which of them comes first.
        for (asleep_first, turns) in (0..12).map(|number| (number % 2 == 1, number / 2)) {
            let mut world = World::at_rest(policy);
            world.undisturbed = false;
            if asleep_first {
                scale(&mut world, policy, 0);
                world.turns(turns);
            }
            (world.policy.paused, world.template) = (true, 2);
            world.turns(turns);
            scale(&mut world, policy, 0);
            world.turns(10);
            assert_eq!(world.pods, []);
            assert_eq!(world.status.clone().unwrap().phase, RolloutPhase::Paused);
            scale(&mut world, policy, policy.replicas);
            world.turns(10);
            let is_before = |pod: &&PodView| pod.serves() && pod.revision == revision(1);
            let woken = world.pods.iter().filter(is_before).count();
            assert_eq!(woken, usize::try_from(policy.replicas).unwrap(), "{turns} {:?}", world.pods);
            let (status, written) = (world.status.clone(), world.operator(None, usize::MAX));
            assert_eq!((&world.status, written), (&status, vec![]), "it writes on and on");
            world.policy.paused = false;
            world.turns(100);
            let is_new = |pod: &PodView| pod.serves() && pod.revision == revision(2);
            assert!(world.pods.iter().all(is_new), "{:?}", world.pods);
            assert_eq!(world.status.clone().unwrap().phase, RolloutPhase::Stable);
        }
    }
}

#[test]
fn a_template_that_was_written_before_the_pause_is_taken_back_for_the_sleep() {
    let mut world = World::at_rest(policy(3, 0, 1));
    world.template = 2;
    world.operator(None, usize::MAX);
    world.controller();
    assert_eq!((world.set.clone().unwrap().update, world.set.clone().unwrap().current), (2, 1));
    world.undisturbed = false;
    world.policy.paused = true;
    world.turns(3);
    world.policy.replicas = 0;
    world.turns(10);
    assert_eq!((world.pods.len(), world.set.clone().unwrap().current), (0, 1));
    world.policy.replicas = 3;
    world.turns(10);
    assert!(world.pods.len() == 3 && world.pods.iter().all(|pod| pod.revision == revision(1)), "{:?}", world.pods);
    // And when it was not meant, nothing is restarted.
    let before = world.pods.clone();
    (world.policy.paused, world.template) = (false, 1);
    world.settle_down();
    world.assert_done();
    assert_eq!(world.pods, before);
}

#[test]
fn a_change_that_is_taken_back_in_a_pause_leaves_no_trace() {
    let mut world = World::at_rest(policy(3, 1, 0));
    let before = (world.set.clone(), world.pods.clone());
    world.policy.paused = true;
    world.template = 2;
    world.turns(5);
    assert_eq!(world.status.clone().unwrap().phase, RolloutPhase::Paused);
    world.template = 1;
    world.turns(5);
    world.assert_done();
    assert_eq!((world.set, world.pods), before);
}

#[test]
fn an_abort_of_a_change_that_waits_in_a_pause_holds_after_it() {
    let mut world = World::at_rest(policy(3, 1, 0));
    let before = world.pods.clone();
    world.policy.paused = true;
    world.template = 2;
    world.turns(5);
    world.command = Some("abort".into());
    world.turns(5);
    world.assert_back(1);
    world.policy.paused = false;
    world.settle_down();
    world.assert_back(1);
    assert_eq!(world.pods, before);
}

#[test]
pub(super) fn a_stray_template_restarts_nothing() {
    let mut world = World::at_rest(policy(3, 1, 0));
    let before = world.pods.clone();
    world.undisturbed = false;
    let set = world.set.as_mut().unwrap();
    (set.template, set.version) = (77, set.version + 1000);
    world.controller();
    world.turns(20);
    world.settle_down();
    world.assert_done();
    assert_eq!(world.pods, before);
}

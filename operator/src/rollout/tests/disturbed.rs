//! Rollouts during which something else happens.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    NODES_MAX, policies, policies_to, policy,
    world::{Fault, World, revision},
};
use crate::rollout::{PATIENCE, Policy, decide};

/// Actors in any order, the operator on a stale view now and then, and something happens now and then. Returns how many schedules.
pub(super) fn anything(per_policy: usize) -> usize {
    let mut random = SmallRng::seed_from_u64(2);
    let mut schedules = 0;
    for policy in policies() {
        for _ in 0..per_policy {
            let mut world = World::rolling(policy, None).with_deadline(120);
            world.undisturbed = false;
            let mut past = world.clone();
            for _ in 0..200 {
                match random.random_range(0..11) {
                    0..3 => {
                        let writes_max = if random.random_bool(0.2) { random.random_range(0..4) } else { usize::MAX };
                        let view = random.random_bool(0.3).then(|| past.wishing(&world));
                        world.operator(view.as_ref(), writes_max);
                    }
                    3 | 4 => world.controller(),
                    5 | 6 => world.kubelet(random.random_range(0..=world.pods.len())),
                    7 | 8 => world.endpoints(random.random_range(0..2)),
                    9 => world.tick(random.random_range(0..5)),
                    _ => past = world.clone(),
                }
                disturb(&mut world, &mut random, policy);
            }
            calm(&mut world);
            schedules += 1;
        }
    }
    schedules
}

fn disturb(world: &mut World, random: &mut SmallRng, policy: Policy) {
    let any = random.random_range(0..=world.pods.len());
    match random.random_range(0..120) {
        // A machine is lost with a pod, a node stumbles, or a machine dies and holds its pod.
        0 if any < world.pods.len() => drop(world.pods.remove(any)),
        1 if any < world.pods.len() => (world.pods[any].ready, world.pods[any].since) = (false, world.now),
        2 if any < world.pods.len() => {
            (world.pods[any].lost, world.pods[any].terminating, world.pods[any].ready) = (true, true, false);
        }
        // The user scales, sends another template (perhaps a bad one), or goes back to the first.
        3 => {
            world.policy.replicas = random.random_range(0..=NODES_MAX);
            world.policy.surge = policy.surge.min(world.policy.replicas);
        }
        4 => {
            world.template += 1;
            let faults = [None, None, Some(Fault::Broken), Some(Fault::Sick), Some(Fault::Worse)];
            if let Some(fault) = faults[random.random_range(0..faults.len())] {
                world.faults.insert(world.template, fault);
            }
        }
        5 => world.template = 1,
        6 => {
            let words = ["promote", "abort", "resume"];
            let word = words[random.random_range(0..words.len())];
            world.command = Some(format!("{word}/{}", random.random_range(0..1000)));
        }
        7 => world.policy.paused = !world.policy.paused,
        // The StatefulSet is deleted and leaves its pods behind.
        8 if random.random_bool(0.3) => world.set = None,
        _ => (),
    }
}

/// Nothing happens any more: it comes to what the user last wanted, or back from it.
fn calm(world: &mut World) {
    world.policy.paused = false;
    world.faults.clear();
    world.turns(100);
    world.settle_down();
    if world.status.clone().unwrap().failure.is_empty() {
        world.assert_done();
    } else {
        let template = world.set.clone().unwrap().template;
        world.assert_back(template);
    }
}

#[test]
fn disturbed_rollouts_come_to_what_the_user_last_wanted_or_back() {
    let schedules = anything(10);
    println!("{schedules} schedules");
    assert!(schedules > 800, "only {schedules} schedules");
}

#[test]
pub(super) fn a_third_template_in_the_middle_restarts_nothing_in_place() {
    for policy in policies_to(3) {
        for turns in 1..20 {
            let mut world = World::rolling(policy, None);
            world.turns(turns);
            world.undisturbed = false;
            world.template = 3;
            world.settle_down();
            world.assert_done();
        }
    }
}

#[test]
pub(super) fn fewer_or_more_nodes_in_the_middle_keep_the_new_ones() {
    for policy in policies_to(3) {
        for (turns, replicas) in (1..20).flat_map(|turns| [(turns, 0), (turns, 1), (turns, NODES_MAX)]) {
            let mut world = World::rolling(policy, None);
            world.turns(turns);
            world.undisturbed = false;
            world.policy.replicas = replicas;
            world.policy.surge = policy.surge.min(replicas);
            world.policy.unavailable = if policy.surge == 0 { policy.unavailable.max(1).min(replicas) } else { 0 };
            world.settle_down();
            world.assert_done();
        }
    }
}

#[test]
pub(super) fn a_node_lost_in_the_middle_is_made_again() {
    for policy in policies_to(3) {
        for turns in 1..15 {
            for lost in 0..policy.replicas + policy.surge {
                let mut world = World::rolling(policy, None);
                world.turns(turns);
                world.undisturbed = false;
                let lost = usize::try_from(lost).unwrap();
                if lost < world.pods.len() {
                    world.pods.remove(lost);
                    world.operator(None, usize::MAX);
                }
                world.settle_down();
                world.assert_done();
            }
        }
    }
}

/// On the way back as well.
#[test]
pub(super) fn a_lost_statefulset_is_made_again_around_what_runs() {
    for policy in policies_to(3) {
        for (turns, aborted) in (0..20).flat_map(|turns| [(turns, false), (turns, true)]) {
            let mut world = World::rolling(policy, None);
            world.turns(turns);
            let over = world.pods.iter().all(|pod| pod.revision == revision(2));
            world.undisturbed = policy.surge > 0;
            if aborted && !over && turns > 0 {
                world.command = Some("abort".into());
                world.turns(2);
            }
            world.undisturbed = false;
            world.set = None;
            world.operator(None, usize::MAX);
            let running = world.pods.iter().filter(|pod| pod.serves()).count();
            world.controller();
            let staying = world.pods.iter().filter(|pod| pod.serves()).count();
            assert_eq!(staying, running, "adoption stopped running nodes");
            world.settle_down();
            if world.status.clone().unwrap().failure.is_empty() {
                world.assert_done();
            } else {
                world.assert_back(1);
            }
        }
    }
}

/// Whoever is born after that is of what ran, though the change was there to be written.
#[test]
fn a_statefulset_that_is_lost_in_a_pause_comes_back_without_the_change_that_waits() {
    for in_place in [false, true] {
        let policy = Policy { in_place, ..if in_place { policy(1, 0, 1) } else { policy(3, 1, 0) } };
        let mut world = World::at_rest(policy);
        world.undisturbed = false;
        (world.policy.paused, world.template) = (true, 2);
        world.turns(3);
        world.set = None;
        world.turns(1);
        world.pods.clear();
        world.turns(10);
        assert!(world.pods.len() == usize::try_from(policy.replicas).unwrap(), "{:?}", world.pods);
        assert!(world.pods.iter().all(|pod| pod.revision == revision(1)), "{:?}", world.pods);
        world.policy.paused = false;
        world.settle_down();
        assert!(world.pods.iter().all(|pod| pod.revision == revision(2)), "{:?}", world.pods);
    }
}

#[test]
pub(super) fn clients_are_led_back_when_a_new_node_stumbles() {
    let mut world = World::rolling(policy(3, 2, 0), None);
    while world.serving != Some(revision(2)) {
        world.turns(1);
    }
    world.undisturbed = false;
    let now = world.now;
    let new = world.pods.iter_mut().find(|pod| pod.revision == revision(2)).unwrap();
    (new.ready, new.since) = (false, now);
    world.operator(None, usize::MAX);
    assert_eq!(world.serving, Some(revision(1)));
    world.settle_down();
    world.assert_done();
}

#[test]
pub(super) fn an_old_node_that_is_broken_does_not_hold_up_its_replacement() {
    for policy in policies_to(3) {
        let mut world = World::rolling(policy, None);
        world.undisturbed = false;
        world.faults.insert(1, Fault::Broken);
        let now = world.now;
        let last = world.pods.last_mut().unwrap();
        (last.ready, last.since) = (false, now);
        world.tick(i64::try_from(PATIENCE.as_secs()).unwrap());
        world.settle_down();
        world.assert_done();
    }
}

#[test]
pub(super) fn a_pod_of_a_dead_machine_is_deleted_by_force_but_not_one_with_a_volume() {
    let dies = |world: &mut World| {
        world.undisturbed = false;
        let pod = &mut world.pods[0];
        (pod.ready, pod.terminating, pod.lost) = (false, true, true);
    };
    let mut bound = World::at_rest(policy(3, 1, 0));
    dies(&mut bound);
    bound.settle_down();
    bound.assert_done();

    let mut alone = policy(1, 1, 0);
    alone.in_place = true;
    let mut alone = World::at_rest(alone);
    dies(&mut alone);
    assert_eq!(decide(&alone.scene(), alone.now).lost, Vec::<String>::new());
}

//! Claims about rollouts, walked in the simulated world.

use std::time::Duration;

use crds::chatcluster::Window;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{Policy, simulation::World};

const NODES_MAX: i32 = 6;

fn policy(replicas: i32, surge: i32, unavailable: i32) -> Policy {
    Policy { replicas, surge, unavailable, progress_deadline: Duration::from_secs(600), in_place: false }
}

/// Every policy up to [`NODES_MAX`] nodes.
fn policies() -> impl Iterator<Item = Policy> {
    (1..=NODES_MAX).flat_map(|replicas| {
        (0..=replicas).flat_map(move |surge| {
            (0..=replicas)
                .filter(move |unavailable| surge + unavailable > 0)
                .map(move |unavailable| policy(replicas, surge, unavailable))
        })
    })
}

/// The windows that a rollout goes through.
fn windows(policy: Policy) -> Vec<(i32, i32, i32)> {
    let mut world = World::at_rest(policy);
    world.template = 2;
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
fn the_window_slides_by_the_surge() {
    assert_eq!(
        windows(policy(3, 1, 0)),
        [(0, 3, 3), (0, 4, 3), (1, 3, 2), (1, 4, 2), (2, 3, 1), (2, 4, 1), (3, 3, 0), (3, 3, 3)]
    );
    assert_eq!(windows(policy(3, 2, 0)), [(0, 3, 3), (0, 5, 3), (2, 3, 1), (2, 4, 1), (3, 3, 0), (3, 3, 3)]);
    assert_eq!(windows(policy(3, 3, 0)), [(0, 3, 3), (0, 6, 3), (3, 3, 0), (3, 3, 3)]);
    assert_eq!(windows(policy(1, 1, 0)), [(0, 1, 1), (0, 2, 1), (1, 1, 0), (1, 1, 1)]);
}

#[test]
fn without_surge_it_slides_within_what_may_be_missing() {
    assert_eq!(windows(policy(3, 0, 1)), [(0, 3, 3), (1, 3, 2), (2, 3, 1), (3, 3, 0), (3, 3, 3)]);
    assert_eq!(windows(policy(3, 0, 2)), [(0, 3, 3), (2, 3, 1), (3, 3, 0), (3, 3, 3)]);
}

#[test]
fn every_policy_comes_to_rest_in_turns() {
    for policy in policies() {
        let mut world = World::at_rest(policy);
        world.template = 2;
        world.settle_down();
        world.assert_done();
    }
}

#[test]
fn a_crash_after_any_write_resumes_where_it_was() {
    let mut schedules = 0;
    for policy in policies().filter(|policy| policy.replicas <= 4) {
        for crash in 0.. {
            let mut world = World::at_rest(policy);
            world.template = 2;
            let mut writes = 0;
            for _ in 0..400 {
                let left = if (writes..writes + 3).contains(&crash) { crash - writes } else { usize::MAX };
                writes += world.operator(None, left).len();
                if left != usize::MAX {
                    writes += 3;
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
    assert!(schedules > 500, "only {schedules} schedules");
}

/// Actors in any order, the operator on a stale view now and then, crashing now and then.
fn walk(
    world: &mut World,
    random: &mut SmallRng,
    steps: usize,
    stale: bool,
    mut disturb: impl FnMut(&mut World, &mut SmallRng),
) {
    let mut past = world.clone();
    for _ in 0..steps {
        match random.random_range(0..10) {
            0..3 => {
                let writes_max = if random.random_bool(0.2) { random.random_range(0..3) } else { usize::MAX };
                let view = (stale && random.random_bool(0.3)).then(|| past.wishing(world));
                world.operator(view.as_ref(), writes_max);
            }
            3 | 4 => world.controller(),
            5 | 6 => world.kubelet(random.random_range(0..=world.pods.len())),
            7 => world.endpoints(),
            8 => world.tick(random.random_range(0..5)),
            _ => past = world.clone(),
        }
        world.check();
        disturb(world, random);
    }
    world.broken.remove(&world.template);
    world.settle_down();
    world.assert_done();
}

#[test]
fn any_order_of_events_keeps_the_invariants() {
    let mut random = SmallRng::seed_from_u64(1);
    let mut schedules = 0;
    for policy in policies() {
        for _ in 0..40 {
            let mut world = World::at_rest(policy);
            world.template = 2;
            walk(&mut world, &mut random, 150, false, |_, _| ());
            schedules += 1;
        }
    }
    assert!(schedules > 5000, "only {schedules} schedules");
}

#[test]
fn disturbed_rollouts_come_to_what_the_user_last_wanted() {
    let mut random = SmallRng::seed_from_u64(2);
    let mut schedules = 0;
    for policy in policies() {
        for _ in 0..40 {
            let mut world = World::at_rest(policy);
            world.template = 2;
            world.undisturbed = false;
            walk(&mut world, &mut random, 150, true, |world, random| match random.random_range(0..100) {
                // A machine is lost with a pod, or a node stumbles.
                0 => {
                    let lost = random.random_range(0..=world.pods.len());
                    if lost < world.pods.len() {
                        world.pods.remove(lost);
                    }
                }
                1 => {
                    let stumbles = random.random_range(0..=world.pods.len());
                    if let Some(pod) = world.pods.get_mut(stumbles) {
                        (pod.ready, pod.since) = (false, world.now);
                    }
                }
                // The user scales, sends another template (perhaps a broken one, then its repair), or goes back to the first.
                2 => {
                    world.policy.replicas = random.random_range(1..=NODES_MAX);
                    world.policy.surge = policy.surge.min(world.policy.replicas);
                }
                3 => {
                    world.template += 1;
                    if random.random_bool(0.5) {
                        world.broken.insert(world.template);
                    }
                }
                4 => world.template = 1,
                // The StatefulSet is deleted and leaves its pods behind.
                5 if random.random_bool(0.3) => world.set = None,
                _ => (),
            });
            schedules += 1;
        }
    }
    assert!(schedules > 5000, "only {schedules} schedules");
}

//! Claims about rollouts, walked in a simulated world.
//!
//! | file | what it holds |
//! |---|---|
//! | `world` | a small Kubernetes: each actor as one function that takes one step |
//! | `oracles` | what must be true at every step and of every write |
//! | `forward`, `back`, `disturbed` | scenarios, each a claim |
//! | `mutants` | each rule is broken once, and a scenario must notice |

mod back;
mod disturbed;
mod forward;
mod mutants;
mod oracles;
mod world;

use std::time::Duration;

use crds::chatcluster::{OnFailure, OnInconclusive};

use super::Policy;

const NODES_MAX: i32 = 5;

fn policy(replicas: i32, surge: i32, unavailable: i32) -> Policy {
    Policy {
        replicas,
        surge,
        unavailable,
        soak: Duration::from_secs(10),
        progress_deadline: Duration::from_secs(600),
        on_failure: OnFailure::Rollback,
        on_inconclusive: OnInconclusive::Proceed,
        paused: false,
        in_place: false,
    }
}

/// Every policy up to [`NODES_MAX`] nodes.
fn policies() -> impl Iterator<Item = Policy> {
    policies_to(NODES_MAX)
}

/// Every policy up to so many nodes.
fn policies_to(nodes: i32) -> impl Iterator<Item = Policy> {
    (1..=nodes).flat_map(|replicas| {
        (0..=replicas).flat_map(move |surge| {
            (0..=replicas)
                .filter(move |unavailable| surge + unavailable > 0)
                .map(move |unavailable| policy(replicas, surge, unavailable))
        })
    })
}

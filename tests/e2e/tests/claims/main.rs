//! The claims, in the order of a cluster's life. Each is told by name and ends with what it saw.
//!
//! Without `CHATCLUSTER_E2E` they are skipped: they need a cluster, which `make e2e` brings.

mod admission;
mod bindings;
mod judged;
mod life;
mod lifecycle;
mod reach;
mod redis;
mod rights;
mod rollout;
mod steady;
mod tls;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Result, anyhow};
use e2e::stage::Stage;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::Mutex;
use tokio::{runtime::Runtime, sync::watch};

use self::Lane::{Alone, Bound, Small};

type Claim = for<'a> fn(&'a Stage) -> BoxFuture<'a, Result<String>>;

/// What a claim has the cluster under test to itself with. Most of a claim is waiting, so two lanes share the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Clusters of its own, most of them of one node.
    Small,
    /// The bound cluster of three nodes, as the claim before has left it.
    Bound,
    /// Everything: the operator is changed, or looked at as a whole.
    Alone,
}

impl Lane {
    /// Whether claims of both may run at once.
    fn is_apart_from(self, other: Lane) -> bool {
        self != other && self != Alone && other != Alone
    }
}

/// Each lane in this order: later claims find what earlier ones left, and the last one cleans up.
const CLAIMS: [(Lane, &str, Claim); 28] = [
    (Small, "a_bad_spec_is_refused_with_a_sentence", |stage| Box::pin(admission::bad_specs(stage))),
    (Small, "a_self_contained_cluster_serves_a_conversation", |stage| Box::pin(life::self_contained(stage))),
    (Small, "a_self_contained_cluster_keeps_its_history_on_its_volume", |stage| Box::pin(life::keeps_history(stage))),
    (Small, "a_missing_secret_or_key_is_named_and_waited_for", |stage| Box::pin(life::missing_secret(stage))),
    (Small, "a_cluster_of_another_operator_is_waited_for_kind_object_and_secret", |stage| {
        Box::pin(bindings::clusters_of_other_operators(stage))
    }),
    (Small, "a_managed_binding_is_made_owned_and_goes_with_its_cluster", |stage| Box::pin(bindings::managed(stage))),
    (Small, "a_provisioned_service_of_any_kind_gives_its_secret", |stage| {
        Box::pin(bindings::provisioned_service(stage))
    }),
    (Small, "sessions_are_in_the_redis_that_is_bound_and_nowhere_else", |stage| Box::pin(redis::sessions(stage))),
    (Small, "bindings_under_tls_are_verified_from_a_pod", |stage| Box::pin(tls::bindings(stage))),
    (Small, "a_paused_cluster_is_left_alone_and_a_sleeping_one_keeps_its_history", |stage| {
        Box::pin(lifecycle::paused_and_asleep(stage))
    }),
    (Small, "a_deletion_that_is_held_up_says_by_whom_and_ends_in_time", |stage| Box::pin(lifecycle::held_up(stage))),
    (Small, "orphans_are_taken_up_again", |stage| Box::pin(lifecycle::orphans(stage))),
    (Small, "a_taken_name_is_left_alone_and_twins_live_apart", |stage| Box::pin(lifecycle::names(stage))),
    (Bound, "three_bound_nodes_talk_across_pods_and_the_rows_are_in_postgres", |stage| {
        Box::pin(life::across_pods(stage))
    }),
    (Bound, "a_deleted_child_comes_back", |stage| Box::pin(steady::deleted_children(stage))),
    (Bound, "kubectl_scale_reaches_five_and_two", |stage| Box::pin(life::scale(stage))),
    (Bound, "a_change_slides_and_moves_each_of_fifty_clients_once", |stage| Box::pin(rollout::slides(stage))),
    (Bound, "a_node_that_fails_its_self_test_costs_nobody_a_connection", |stage| Box::pin(judged::sick(stage))),
    (Bound, "an_image_that_is_not_there_goes_back", |stage| Box::pin(judged::bad_image(stage))),
    (Bound, "an_abort_in_the_middle_slides_back", |stage| Box::pin(judged::abort(stage))),
    (Bound, "a_killed_pod_loses_nothing_and_its_clients_resume", |stage| Box::pin(rollout::killed_pod(stage))),
    (Bound, "a_rotated_secret_rolls_the_pods", |stage| Box::pin(rollout::rotated_secret(stage))),
    (Alone, "an_operator_of_another_shape_restarts_no_pod", |stage| Box::pin(lifecycle::another_shape(stage))),
    (Alone, "a_field_of_the_future_survives", |stage| Box::pin(lifecycle::future_fields(stage))),
    (Alone, "an_operator_of_all_namespaces_serves_any", |stage| Box::pin(reach::everywhere(stage))),
    (Alone, "applying_again_and_an_idle_minute_write_nothing", |stage| Box::pin(steady::idle(stage))),
    (Alone, "the_operator_uses_every_right_and_is_refused_nothing", |stage| Box::pin(rights::used(stage))),
    (Alone, "uninstalling_leaves_nothing_but_the_crd", |stage| Box::pin(steady::uninstall(stage))),
];

/// What takes too long for every day: `make proof` runs it, on the cluster that the others would find.
const LONG: [(Lane, &str, Claim); 2] = [
    (Alone, "a_change_slides_and_moves_each_of_five_hundred_clients_once", |stage| {
        Box::pin(rollout::slides_with_many(stage))
    }),
    (Alone, "a_pod_of_a_dead_machine_is_made_again", |stage| Box::pin(reach::dead_machine(stage))),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if std::env::var_os("CHATCLUSTER_E2E").is_none() {
        let all = CLAIMS.iter().chain(&LONG);
        arguments.include_ignored = false;
        arguments.ignored = false;
        let skipped = all.map(|(_, name, _)| Trial::test(*name, || Ok(())).with_ignored_flag(true));
        return libtest_mimic::run(&arguments, skipped.collect()).exit_code();
    }
    let runtime = Arc::new(Runtime::new().expect("a runtime starts"));
    let stage = match runtime.block_on(Stage::new()).and_then(|stage| stage.install(&[]).map(|()| stage)) {
        Ok(stage) => Arc::new(stage),
        Err(error) => {
            eprintln!("e2e: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let long = LONG.map(|claim| (claim, true));
    let all = CLAIMS.map(|claim| (claim, false)).into_iter().chain(long);
    let chosen: Vec<_> = all
        .filter(|((_, name, _), long)| {
            !arguments.is_filtered_out(&Trial::test(*name, || Ok(())).with_ignored_flag(*long))
                && (!long || arguments.ignored || arguments.include_ignored)
        })
        .collect();
    // Each has a thread, which waits for its turn.
    arguments.test_threads = Some(chosen.len().max(1));
    let ended = watch::Sender::new(BTreeSet::new());
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let lanes: Vec<Lane> = chosen.iter().map(|((lane, ..), _)| *lane).collect();
    let trial = |(index, ((lane, name, claim), long)): (usize, ((Lane, &'static str, Claim), bool))| {
        let (runtime, stage, ended, failures) = (runtime.clone(), stage.clone(), ended.clone(), failures.clone());
        let before: BTreeSet<usize> = (0..index).filter(|earlier| !lanes[*earlier].is_apart_from(lane)).collect();
        let run = move || {
            // Those that wait for this one wait in vain if a panic gets past it.
            let guarded = AssertUnwindSafe(|| runtime.block_on(run(claim, &stage, &before, &ended)));
            let outcome = catch_unwind(guarded).unwrap_or_else(|_| Err(anyhow!("it panicked, as told above")));
            let failed = outcome.map_err(|error| {
                failures.lock().push(format!("{name}: {error:#}"));
                Failed::from(format!("{error:#}\n\n{}", stage.diagnosis()))
            });
            ended.send_modify(|ended| ended.extend([index]));
            failed
        };
        Trial::test(name, run).with_ignored_flag(long)
    };
    let trials = chosen.into_iter().enumerate().map(trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The diagnoses are long, and what failed first is often why the rest did.
    let reasons = failures.lock().join("\n    ");
    if !reasons.is_empty() {
        println!("The reasons, the first to fail first:\n    {reasons}");
    }
    conclusion.exit_code()
}

/// Runs a claim when those of `before` have ended, however they did.
async fn run(
    claim: Claim,
    stage: &Stage,
    before: &BTreeSet<usize>,
    ended: &watch::Sender<BTreeSet<usize>>,
) -> Result<()> {
    let turn = ended.subscribe().wait_for(|ended| ended.is_superset(before)).await.map(drop);
    turn.expect("the sender is held");
    let began = Instant::now();
    let seen = claim(stage).await?;
    println!("    {seen} ({} s)", began.elapsed().as_secs());
    Ok(())
}

//! The claims, in the order of a cluster's life. Each is told by name and ends with what it saw.
//!
//! Without `CHATCLUSTER_E2E` they are skipped: they need a cluster, which `make e2e` brings.

mod admission;
mod bindings;
mod judged;
mod life;
mod lifecycle;
mod rights;
mod rollout;
mod steady;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use e2e::stage::Stage;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

type Claim = for<'a> fn(&'a Stage) -> BoxFuture<'a, Result<String>>;

/// In this order: later claims find what earlier ones left, and the last one cleans up.
const CLAIMS: [(&str, Claim); 24] = [
    ("a_bad_spec_is_refused_with_a_sentence", |stage| Box::pin(admission::bad_specs(stage))),
    ("a_self_contained_cluster_serves_a_conversation", |stage| Box::pin(life::self_contained(stage))),
    ("a_self_contained_cluster_keeps_its_history_on_its_volume", |stage| Box::pin(life::keeps_history(stage))),
    ("a_missing_secret_or_key_is_named_and_waited_for", |stage| Box::pin(life::missing_secret(stage))),
    ("a_cluster_of_another_operator_is_waited_for_kind_object_and_secret", |stage| {
        Box::pin(bindings::clusters_of_other_operators(stage))
    }),
    ("a_managed_binding_is_made_owned_and_goes_with_its_cluster", |stage| Box::pin(bindings::managed(stage))),
    ("a_provisioned_service_of_any_kind_gives_its_secret", |stage| Box::pin(bindings::provisioned_service(stage))),
    ("an_operator_of_another_shape_restarts_no_pod", |stage| Box::pin(lifecycle::another_shape(stage))),
    ("a_paused_cluster_is_left_alone_and_a_sleeping_one_keeps_its_history", |stage| {
        Box::pin(lifecycle::paused_and_asleep(stage))
    }),
    ("orphans_are_taken_up_again", |stage| Box::pin(lifecycle::orphans(stage))),
    ("a_taken_name_is_left_alone_and_twins_live_apart", |stage| Box::pin(lifecycle::names(stage))),
    ("a_field_of_the_future_survives", |stage| Box::pin(lifecycle::future_fields(stage))),
    ("three_bound_nodes_talk_across_pods_and_the_rows_are_in_postgres", |stage| Box::pin(life::across_pods(stage))),
    ("a_deleted_child_comes_back", |stage| Box::pin(steady::deleted_children(stage))),
    ("kubectl_scale_reaches_five_and_two", |stage| Box::pin(life::scale(stage))),
    ("a_change_slides_and_moves_each_of_fifty_clients_once", |stage| Box::pin(rollout::slides(stage))),
    ("a_node_that_fails_its_self_test_costs_nobody_a_connection", |stage| Box::pin(judged::sick(stage))),
    ("an_image_that_is_not_there_goes_back", |stage| Box::pin(judged::bad_image(stage))),
    ("an_abort_in_the_middle_slides_back", |stage| Box::pin(judged::abort(stage))),
    ("a_killed_pod_loses_nothing_and_its_clients_resume", |stage| Box::pin(rollout::killed_pod(stage))),
    ("a_rotated_secret_rolls_the_pods", |stage| Box::pin(rollout::rotated_secret(stage))),
    ("applying_again_and_an_idle_minute_write_nothing", |stage| Box::pin(steady::idle(stage))),
    ("the_operator_uses_every_right_and_is_refused_nothing", |stage| Box::pin(rights::used(stage))),
    ("uninstalling_leaves_nothing_but_the_crd", |stage| Box::pin(steady::uninstall(stage))),
];

/// What takes too long for every day: `make proof` runs it, on the cluster that the others would find.
const LONG: [(&str, Claim); 1] = [("a_change_slides_and_moves_each_of_five_hundred_clients_once", |stage| {
    Box::pin(rollout::slides_with_many(stage))
})];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share one cluster.
    arguments.test_threads = Some(1);
    if std::env::var_os("CHATCLUSTER_E2E").is_none() {
        let skipped = CLAIMS.iter().chain(&LONG).map(|(name, _)| Trial::test(*name, || Ok(())).with_ignored_flag(true));
        arguments.include_ignored = false;
        arguments.ignored = false;
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
    let trial = |(name, claim): (&'static str, Claim)| {
        let (runtime, stage) = (runtime.clone(), stage.clone());
        Trial::test(name, move || match runtime.block_on(claim(&stage)) {
            Ok(seen) => {
                println!("    {seen}");
                Ok(())
            }
            Err(error) => Err(Failed::from(format!("{error:#}\n\n{}", stage.diagnosis()))),
        })
    };
    let long = LONG.map(|claim| trial(claim).with_ignored_flag(true));
    let trials = CLAIMS.map(trial).into_iter().chain(long).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

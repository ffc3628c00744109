//! The model is like the real thing: the same requests to the API server in memory and to a real one, and the same answers.
//!
//! Without `CHATCLUSTER_E2E` it is skipped: it needs a cluster, which `make e2e` brings. It works in a namespace of its own.

mod controllers;
mod requests;
mod side;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share one namespace.
    arguments.test_threads = Some(1);
    let skipped = std::env::var_os("CHATCLUSTER_E2E").is_none();
    let runtime = Arc::new(Runtime::new().expect("a runtime starts"));
    let trial = |name, claim: fn() -> futures::future::BoxFuture<'static, Result<String, String>>| {
        let runtime = runtime.clone();
        let run = move || {
            println!("    {}", runtime.block_on(claim()).map_err(Failed::from)?);
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(skipped)
    };
    let trials = vec![
        trial("both_api_servers_answer_alike", || Box::pin(requests::alike())),
        trial("both_controllers_of_stateful_sets_do_alike", || Box::pin(controllers::alike())),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

//! Starts the ChatCluster operator.

use std::process::ExitCode;

use clap::Parser;
use operator::{run::run, settings::Settings};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Settings::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator ends");
            eprintln!("chat-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

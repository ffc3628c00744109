//! `chat-load`: talks to chat nodes over the protocol and says whether the promise was kept.

mod steady;
mod talk;

use std::process::ExitCode;

use clap::Parser;

/// Talks to chat nodes, and proves from what the clients saw that nothing was lost, nothing came twice, and every room
/// has one order
#[derive(Parser, Debug)]
#[command(name = "chat-load", version)]
enum Command {
    /// Shows a conversation of two people, each on a node of their own
    Talk(talk::Talk),
    /// Sends at a steady rate for a while
    Steady(steady::Steady),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Talk(talk) => talk::run(&talk).await,
        Command::Steady(steady) => steady::run(&steady).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chat-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

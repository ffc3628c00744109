//! `chat-load`: talks to chat nodes over the protocol and says whether the promise was kept.

mod bench;
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
    /// Measures a chat node
    Bench(bench::Arguments),
    /// Serves plain WebSockets, to compare with
    Reference(bench::reference::Reference),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Talk(talk) => talk::run(&talk).await,
        Command::Steady(steady) => steady::run(&steady).await,
        // These two have threads of their own to wait in, and nothing else runs beside them.
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Reference(reference) => bench::reference::run(&reference),
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

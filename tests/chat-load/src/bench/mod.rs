//! `chat-load bench`: what a chat node costs, next to a plain WebSocket server in the same run.
//!
//! Starts all that it measures: the servers on one core, the load on another. Each result is one line for people and one for machines; a
//! table of all, for a page, comes last.

mod across;
mod durable;
mod fanout;
mod idle;
mod links;
mod machine;
mod meter;
mod node;
mod people;
pub(crate) mod reference;
mod report;
mod rooms;
mod storm;
mod talk;

use std::path::PathBuf;

use self::{
    machine::Cores,
    node::{Backends, Node},
    report::Measured,
};

/// What to measure.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Scenarios; all when none is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// The chat-node to measure: built for release
    #[arg(long, env = "CHATCLUSTER_STANDALONE")]
    program: PathBuf,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// Memory and CPU of 10,000 silent connections
    Idle,
    /// Memory and CPU of 100,000 rooms in which nothing is said
    Rooms,
    /// One room of 1,000 members, at rest and at the limit
    Fanout,
    /// Acknowledged after the commit, with 8 and with 1 send under way for each sender
    Durable,
    /// 5,000 connections, and a node that is killed under load
    Storm,
    /// From one node to another, over RabbitMQ
    Across,
}

/// What all scenarios share.
struct Bench {
    program: PathBuf,
    cores: Cores,
}

impl Bench {
    fn backends(&self, with_rabbitmq: bool) -> anyhow::Result<Backends> {
        Backends::start(self.cores, with_rabbitmq)
    }

    fn node(&self, name: &str, backends: &Backends) -> anyhow::Result<Node> {
        Node::start(&self.program, name, self.cores, backends)
    }

    /// A step of a search: told, but no result.
    fn note(&self, measured: &Measured) {
        eprintln!("{}", measured.line());
    }
}

/// Runs the scenarios one after another.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let cores = Cores::find()?;
    machine::raise_file_limit()?;
    machine::pin(cores.load)?;
    let bench = Bench { program: arguments.program.canonicalize()?, cores };
    let all = [Scenario::Idle, Scenario::Rooms, Scenario::Fanout, Scenario::Durable, Scenario::Storm, Scenario::Across];
    let chosen = if arguments.scenarios.is_empty() { &all[..] } else { &arguments.scenarios };
    let mut rows = Vec::new();
    for scenario in chosen {
        let measured = match scenario {
            Scenario::Idle => idle::run(&bench),
            Scenario::Rooms => rooms::run(&bench),
            Scenario::Fanout => fanout::run(&bench),
            Scenario::Durable => durable::run(&bench),
            Scenario::Storm => storm::run(&bench),
            Scenario::Across => across::run(&bench),
        };
        for result in measured? {
            println!("{}\n{}", result.line(), result.json());
            rows.push(result.row());
        }
    }
    println!("\n{}\n{}", report::HEAD, rows.join("\n"));
    Ok(true)
}

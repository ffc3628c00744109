//! localkube: a real Kubernetes of one node on a bare Linux machine, without Docker.
//!
//! `up` brings up etcd, the control plane, containerd, kubelet and kube-proxy as background processes; `down` ends exactly those. Every
//! `up` begins with an empty cluster.

mod certificates;
mod components;
mod elf;
mod image;
mod kube;
mod layout;
mod leftovers;
mod machine;
mod volumes;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::layout::Layout;

/// A real Kubernetes of one node, for tests.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brings the cluster up and waits until pods can run in it. Does nothing when it is up.
    Up,
    /// Ends all processes of the cluster and removes what they left.
    Down,
    /// Tells what runs.
    Status,
    /// Builds kubectl, helm and actionlint, if they are missing, and tells the folder that they are in.
    Tools,
    /// Writes an image that holds one static binary, as `docker load` and `load-image` take it.
    BuildImage {
        /// Name and tag, such as chat-node:0.1.0.
        name: String,
        /// The binary.
        binary: PathBuf,
        /// Where to write the archive.
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Makes images known to the cluster. Those that it has are skipped.
    LoadImage {
        /// Archives.
        archives: Vec<PathBuf>,
    },
    /// Prints the path of the administrator's kubeconfig.
    Kubeconfig,
    /// Prints the address at which pods reach this machine.
    BridgeIp,
    /// Prints the path of the API server's audit log.
    AuditLog,
}

fn main() -> ExitCode {
    let began = Instant::now();
    match run(Arguments::parse().command, began) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("localkube: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, began: Instant) -> Result<()> {
    let layout = Layout::new()?;
    match command {
        Command::Up => {
            machine::check()?;
            components::build(&layout, &components::CLUSTER)?;
            kube::up(&layout)?;
            println!("localkube: up after {:.1} s", began.elapsed().as_secs_f64());
        }
        Command::Down => {
            machine::check()?;
            kube::down(&layout)?;
            println!("localkube: down after {:.1} s", began.elapsed().as_secs_f64());
        }
        Command::Status => kube::status(&layout),
        Command::Tools => {
            components::build(&layout, &components::TOOLS)?;
            println!("{}", layout.bin().display());
        }
        Command::BuildImage { name, binary, output } => {
            let bytes = image::build(&name, &binary, &output)?;
            println!("{}: {name}, {:.1} MB", output.display(), bytes as f64 / 1e6);
        }
        Command::LoadImage { archives } => kube::load_images(&layout, &archives)?,
        Command::Kubeconfig => println!("{}", layout.kubeconfig("admin").display()),
        Command::BridgeIp => println!("{}", layout::BRIDGE_ADDRESS),
        Command::AuditLog => println!("{}", layout.audit_log().display()),
    }
    Ok(())
}

//! `scale`: how one operator fares with a thousand ChatClusters on a real API server.
//!
//! The API server and its controllers are real; the machines, their kubelets and the chat nodes only pretend (see [`fleet`]), because a
//! thousand real pods do not fit on one machine. The operator is the real program, as a process whose time and memory are read from
//! the kernel, and its calls are counted from the API server's audit log.

mod calls;
mod clusters;
mod fleet;
mod operator;

use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use kube::Client;
use tokio::time::{Instant, sleep};

use crate::{calls::AuditLog, clusters::Clusters, fleet::Fleet, operator::Operator};

/// Measures the operator with many ChatClusters
#[derive(Parser, Debug)]
#[command(name = "scale", version)]
struct Arguments {
    /// ChatClusters, each of one node
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    clusters: u32,
    /// The operator's program
    #[arg(long)]
    operator: PathBuf,
    /// Address of this machine that the operator can reach: where the pretended nodes answer
    #[arg(long, env = "CHATCLUSTER_HOST_ADDRESS")]
    host: IpAddr,
    /// The API server's audit log
    #[arg(long, env = "CHATCLUSTER_AUDIT_LOG")]
    audit_log: PathBuf,
    /// Seconds until all must be ready
    #[arg(long, default_value_t = 900)]
    patience: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    const MINUTE: Duration = Duration::from_secs(60);
    let client = Client::try_default().await.context("KUBECONFIG has to name a cluster")?;
    let count = arguments.clusters as usize;
    let clusters = Clusters::new(client.clone(), count).await?;
    let fleet = Fleet::start(client.clone(), arguments.host, count).await?;
    let mut operator = Operator::start(&arguments.operator).await?;
    let audit = AuditLog::at_its_end(&arguments.audit_log)?;

    let began = Instant::now();
    clusters.apply().await?;
    let applied = began.elapsed();
    let ready = clusters.all_ready(Duration::from_secs(arguments.patience), &mut operator).await;
    let (made, ready) = ready.with_context(|| format!("after {:?}", began.elapsed()))?;
    let after_the_last = |at: Instant| at.saturating_duration_since(began + applied).as_secs_f64();
    // What was under way when the last became ready belongs to the creation.
    sleep(Duration::from_secs(5)).await;
    let creation = audit.count()?;
    let busy = operator.usage()?;
    println!(
        "{count} ChatClusters applied in {:.1} s; the children of all made {:.1} s, and all Ready {:.1} s after the last",
        applied.as_secs_f64(),
        after_the_last(made),
        after_the_last(ready)
    );
    println!(
        "API calls for the creation: {}, {:.1} a cluster: {creation}",
        creation.total(),
        creation.total() as f64 / count as f64
    );
    println!(
        "operator: {:.1} CPU seconds, at most {:.1} MiB resident; {}",
        busy.cpu_seconds,
        operator.resident_max_mib(),
        operator.reconciles().await?
    );

    let idle = AuditLog::at_its_end(&arguments.audit_log)?;
    sleep(MINUTE).await;
    let (idle, rested) = (idle.count()?, operator.usage()?);
    println!(
        "in an idle minute: {} calls, {} of them writes besides the lease: {idle}; {:.2} CPU seconds",
        idle.total(),
        idle.writes(),
        rested.cpu_seconds - busy.cpu_seconds
    );

    let reflected = clusters.change_one().await?;
    println!("one change of a spec was in its StatefulSet after {:.0} ms", reflected.as_secs_f64() * 1e3);

    clusters.delete(Duration::from_secs(arguments.patience)).await?;
    fleet.end().await;
    operator.end().await
}

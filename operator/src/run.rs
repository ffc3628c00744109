//! The process: logs, probes, the Lease, and the controllers that run while it is held.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Client, Config};
use rand::RngExt;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    controller::{self, Options},
    health::{self, Health},
    lease::Claim,
    metrics,
    nodes::HttpNodes,
    settings::{LogFormat, Settings},
};

/// How long reconciles that are under way may take to finish.
const STOP_SECONDS_MAX: Duration = Duration::from_secs(10);

/// How long the API server may be silent on a connection that waits for it: longer than a watch without a change, which it ends after 290 s.
/// A connection that is dead without a word would otherwise be waited on for ever.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the process must be restarted: a setting is wrong, a task has died, or the Lease was lost.
pub async fn run(settings: Settings) -> Result<(), String> {
    start_logging(&settings)?;
    let shutdown = on_signal().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let health = Arc::new(Health::default());
    serve(&settings, health.clone()).await?;
    let mut config = Config::infer().await.map_err(|error| format!("no cluster to talk to: {error}"))?;
    config.read_timeout = Some(SILENCE_MAX);
    config.reset_reader_on_write = true;
    let lease_namespace = settings.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| error.to_string())?;
    let identity = settings.identity.clone().unwrap_or_else(|| format!("operator-{:08x}", rand::rng().random::<u32>()));
    let mut claim = Claim::new(client.clone(), &lease_namespace, &settings.lease_name, &identity);
    tracing::info!(%identity, version = env!("CARGO_PKG_VERSION"), "waiting for the lease");
    tokio::select! {
        () = claim.acquire() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    tracing::info!("leading");
    metrics::leader(true);
    health.leads();
    let ended = lead(&settings, client, &identity, &health, &mut claim, &shutdown).await;
    if ended.is_ok() {
        claim.release().await;
    }
    ended
}

/// Runs the controllers while the Lease is held.
async fn lead(
    settings: &Settings,
    client: Client,
    identity: &str,
    health: &Arc<Health>,
    claim: &mut Claim,
    shutdown: &CancellationToken,
) -> Result<(), String> {
    let mut controllers = JoinSet::new();
    for namespace in settings.watched() {
        let options = Options {
            namespace,
            node_image: settings.node_image.clone(),
            concurrency: settings.concurrency,
            instance: identity.to_owned(),
            pod_template_version: settings.pod_template_version,
            nodes: Arc::new(HttpNodes::default()),
            clock: Timestamp::now,
        };
        controllers.spawn(controller::run(client.clone(), options, health.clone(), shutdown.clone()));
    }
    tokio::select! {
        // First: controllers that end because they were told to are no failure, and the Lease is given back.
        biased;
        () = shutdown.cancelled() => {}
        () = claim.hold() => return Err("the lease is lost: another operator may lead".into()),
        Some(ended) = controllers.join_next() => {
            health.task_died();
            return Err(format!("a controller has ended: {ended:?}"));
        }
    }
    tracing::info!("stopping");
    let finished = async { while controllers.join_next().await.is_some() {} };
    if timeout(STOP_SECONDS_MAX, finished).await.is_err() {
        tracing::warn!("some reconciles were cut off; they are taken up again by the next leader");
    }
    Ok(())
}

async fn serve(settings: &Settings, health: Arc<Health>) -> Result<(), String> {
    let metrics = metrics::install().map_err(|error| error.to_string())?;
    let address = settings.admin_addr;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("--admin-addr: cannot listen on {address}: {error}"))?;
    tokio::spawn(async move { axum::serve(listener, health::router(health, metrics)).await });
    Ok(())
}

fn start_logging(settings: &Settings) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(&settings.log_filter).map_err(|error| format!("--log-filter: {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(shutdown)
}

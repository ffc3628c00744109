//! Starts a chat node. With no arguments: a working server on loopback that keeps its history in a file.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use chat_node::{Identity, Node, metric};
use clap::Parser;
use crds::{NodeConfig, node_config::LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A chat node of ChatCluster.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file (YAML). Without it: SQLite in the working directory, on 127.0.0.1:8080.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The node's name, unique among the nodes of a cluster.
    #[arg(long, env = "POD_NAME", default_value = "node")]
    name: String,
    /// The revision of the node's pod.
    #[arg(long, env = "POD_REVISION", default_value = "")]
    revision: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat-node: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let (config, origin) = load(arguments.config)?;
    start_logging(&config).map_err(|error| format!("{origin}: log.filter: {error}"))?;
    let metrics = metric::install().map_err(|error| error.to_string())?;
    // SIGTERM is heard from the first moment on.
    let shutdown = on_signal().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let identity = Identity { node: arguments.name, revision: arguments.revision };
    let standalone = config == NodeConfig::default();
    let node = Node::start(config, identity, metrics).await.map_err(|error| format!("{origin}: {error}"))?;
    let address = node.client_address().map_err(|error| error.to_string())?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    if standalone {
        print!("{}", welcome(address));
    }
    node.run(shutdown).await.map_err(|error| error.to_string())
}

fn load(path: Option<PathBuf>) -> Result<(NodeConfig, String), String> {
    let Some(path) = path else { return Ok((NodeConfig::default(), "default configuration".into())) };
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{origin}: cannot read it: {error}"))?;
    let config = NodeConfig::from_yaml(&text).map_err(|error| format!("{origin}: {error}"))?;
    Ok((config, origin))
}

fn start_logging(config: &NodeConfig) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(&config.log.filter)?;
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match config.log.format {
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

fn welcome(address: std::net::SocketAddr) -> String {
    format!(
        r#"
The chat server is ready. To log in:

  curl -s http://{address}/api/v1/accounts -H 'content-type: application/json' -d '{{"username":"alice","password":"correct horse"}}'
  curl -s http://{address}/api/v1/login    -H 'content-type: application/json' -d '{{"username":"alice","password":"correct horse"}}'

Then open a WebSocket at ws://{address}/ws and say:

  {{"type":"hello","token":"<the token>"}}

History is kept in chatcluster.db; docs/protocol.md has the rest.
"#
    )
}

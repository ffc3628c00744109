//! `chat-load steady`: a bounded load, and the checker's verdict.

use std::{sync::Arc, time::Duration};

use chat_load::{
    crowd::{Crowd, newcomers},
    dial::{Dial, Tcp},
};

/// Time after the load for everything to arrive.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// How much load.
#[derive(clap::Args, Debug)]
pub(crate) struct Steady {
    /// A node, such as http://127.0.0.1:8080. Several are used in turn
    #[arg(long = "url", required = true, value_delimiter = ',')]
    urls: Vec<String>,
    /// Connected clients
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: u16,
    /// Rooms that they talk in
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rooms: u16,
    /// Messages a second, of all clients together
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// For how long, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
}

/// Gives whether the promise was kept.
pub(crate) async fn run(steady: &Steady) -> anyhow::Result<bool> {
    let dial: Arc<dyn Dial> = Arc::new(Tcp::new(&steady.urls, 0)?);
    println!("registering {} clients (a password's hash takes the servers a moment each)", steady.clients);
    let identities = newcomers(&*dial, "steady", steady.clients.into()).await?;
    let crowd = Crowd::gather(&dial, identities, steady.rooms.into()).await?;
    println!("{} messages a second for {} seconds", steady.rate, steady.seconds);
    crowd.talk_during(f64::from(steady.rate), tokio::time::sleep(Duration::from_secs(steady.seconds))).await?;
    let (report, _) = crowd.judge(SETTLE_WITHIN).await?;
    println!("{report}");
    Ok(report.is_clean())
}

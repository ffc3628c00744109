//! What every connection to RabbitMQ has in common: how it is made, how long an exchange may take, how an attempt is spaced from the
//! next. It knows no queue and no message.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties, tcp::OwnedTLSConfig};
use rand::RngExt;
use tokio::time::timeout;

/// How long an exchange with the server may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Bounds of the wait between attempts to connect; it doubles, with full jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why a connection broke, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub(super) String);

impl From<lapin::Error> for Broken {
    fn from(error: lapin::Error) -> Self {
        Broken(error.to_string())
    }
}

/// Where RabbitMQ is.
#[derive(Clone)]
pub struct Server {
    url: String,
    /// Certificates that the server's is verified with, in PEM.
    ca: Option<String>,
}

impl Server {
    /// A server at a URL. With certificates (`ca`, in PEM) an `amqps` server's is verified with them.
    pub fn new(url: String, ca: Option<Vec<u8>>) -> Self {
        Server { url, ca: ca.map(|pem| String::from_utf8_lossy(&pem).into_owned()) }
    }

    /// Connects; `name` is what RabbitMQ's own tools show.
    pub(super) async fn connect(&self, name: &str) -> Result<Connection, Broken> {
        let options = ConnectionProperties::default().with_connection_name(name.into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca.clone() };
        let runtime = lapin::runtime::default_runtime()?;
        within(Connection::connect_with_config(&self.url, options, tls, runtime)).await
    }
}

/// Bounds an exchange with the server.
pub(super) async fn within<T>(exchange: impl Future<Output = Result<T, lapin::Error>>) -> Result<T, Broken> {
    timeout(PATIENCE, exchange).await.map_err(|_| Broken("the server does not answer".into()))?.map_err(Broken::from)
}

/// The waits between attempts.
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Backoff(BACKOFF_MIN)
    }
}

impl Backoff {
    /// The wait after an attempt that ended; one that lasted begins the series anew.
    pub(super) fn after(&mut self, lasted: Duration) -> Duration {
        if lasted > BACKOFF_MAX {
            self.0 = BACKOFF_MIN;
        }
        let wait = self.0.mul_f64(rand::rng().random());
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_spaced_more_and_more_until_one_lasts() {
        let mut backoff = Backoff::default();
        for bound in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            assert!(backoff.after(Duration::ZERO) <= Duration::from_millis(bound));
        }
        assert!(backoff.after(Duration::from_secs(6)) <= BACKOFF_MIN);
    }
}

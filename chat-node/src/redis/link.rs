//! The connection that steps run on. redis-rs makes it anew once the server has said goodbye. Here it is given up as well when nothing comes
//! back any more, since a machine without power says nothing, and when the server has become a replica, which it can with its connections
//! open. The address is to lead to the primary; until it does, a new connection is tried now and then.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{
    Client, ErrorKind, RedisError, RedisResult, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::Notify;

use super::ANSWER_SECONDS_MAX;

/// How long a connection is kept at least, however useless: where answers are slow, more connections help nobody.
const KEPT_MIN: Duration = Duration::from_secs(5);

/// Times that a request is tried on a connection that has to be made first.
const TRIES: usize = 1;

pub(super) struct Link {
    pub(super) client: Client,
    present: Mutex<Present>,
    given_up: Notify,
}

/// The connection of now.
#[derive(Clone)]
pub(super) struct Present {
    pub(super) manager: ConnectionManager,
    number: u64,
    /// When the one before was given up.
    since: Option<Instant>,
}

impl Link {
    /// Connects when it is first needed.
    pub(super) fn new(client: Client) -> RedisResult<Link> {
        let present = Mutex::new(Present { manager: connect(&client)?, number: 0, since: None });
        Ok(Link { client, present, given_up: Notify::new() })
    }

    pub(super) fn present(&self) -> Present {
        self.present.lock().clone()
    }

    /// Passes an answer on, and gives up the connection that it came on, or did not come on, if that is of no use any more.
    pub(super) fn judge<T>(&self, used: &Present, answer: RedisResult<T>) -> RedisResult<T> {
        if let Err(error) = &answer
            && is_of_no_use(error)
        {
            self.give_up(used, error);
        }
        answer
    }

    /// Once for each connection, however many wait on it.
    fn give_up(&self, used: &Present, why: &RedisError) {
        let mut present = self.present.lock();
        if present.number != used.number || present.since.is_some_and(|since| since.elapsed() < KEPT_MIN) {
            return;
        }
        match connect(&self.client) {
            Ok(manager) => *present = Present { manager, number: used.number + 1, since: Some(Instant::now()) },
            Err(error) => return tracing::warn!(%error, "Redis cannot be connected to anew"),
        }
        drop(present);
        tracing::debug!(%why, "a connection to Redis is given up");
        self.given_up.notify_one();
    }

    /// Waits until a connection is given up, or was since this was last waited for.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

fn connect(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(ANSWER_SECONDS_MAX))
        .set_response_timeout(Some(ANSWER_SECONDS_MAX))
        .set_number_of_retries(TRIES)
        .set_max_delay(Duration::from_millis(100));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn is_of_no_use(error: &RedisError) -> bool {
    error.is_timeout() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

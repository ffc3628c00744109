//! Redis: sessions, when people were last seen, and who is present, when one is bound. The only room that knows Redis.
//!
//! It keeps what the store keeps otherwise, behind the same traits and with the same claims: what is decided of a refresh token is decided
//! in [`auth`](crate::auth) and written only if nothing has changed meanwhile, and whatever ends a session tells all nodes in the same
//! step. A session that is over has no key; Redis itself forgets what has expired. Tokens of bots stay in the store: they are given for
//! months, and Redis may lose what it has.
//!
//! No message depends on it. With Redis away open connections go on, and nobody new gets in.
//!
//! | file | what it owns |
//! |---|---|
//! | `scripts` | every step that has to be whole, in Lua |
//! | `sessions`, `rolls` | the traits of the store |
//! | `passwords` | which sessions are older than a password that was changed |
//! | `endings` | hearing of sessions that were ended |
//! | `link` | the connection, and when it is of no use any more |

mod endings;
mod link;
mod passwords;
mod rolls;
mod scripts;
mod sessions;

use std::{sync::Arc, time::Duration};

use redis::{Client, RedisError, TlsCertificates};
use tokio::sync::mpsc;

use self::link::Link;
use crate::{
    reach::Reach,
    store::{Hint, SharedStore, StoreError},
};

/// How long Redis may take for an answer, and to be connected to.
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(2);

/// Sessions in Redis.
pub struct RedisSessions {
    link: Arc<Link>,
    /// Where sessions that were ended are told.
    channel: Arc<str>,
    /// Keeps the tokens of bots.
    store: SharedStore,
    reach: Reach,
}

impl RedisSessions {
    /// Connects when it is first needed, and hears from then on what other nodes have ended. With certificates (`ca`, in PEM) the server's
    /// is verified with them.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub fn new(
        url: &str,
        ca: Option<Vec<u8>>,
        store: SharedStore,
    ) -> Result<(RedisSessions, mpsc::Receiver<Hint>), String> {
        let client = match ca {
            None => Client::open(url),
            Some(ca) => Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(ca) }),
        };
        let client = client.map_err(|error| error.to_string())?;
        // Redis tells all databases what is told in one.
        let channel: Arc<str> =
            format!("chatcluster.ended.{}", client.get_connection_info().redis_settings().db()).into();
        let reach = Reach::default();
        let link = Arc::new(Link::new(client).map_err(|error| error.to_string())?);
        let endings = endings::start(link.clone(), channel.clone(), reach.clone());
        Ok((RedisSessions { link, channel, store, reach }, endings))
    }

    /// Whether Redis can be reached, from now on.
    pub fn reach(&self) -> Reach {
        self.reach.clone()
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        StoreError::NoSessions(error.to_string())
    }
}

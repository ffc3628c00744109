//! A client's tokens: signs in, and has the next token before the present one expires.
//!
//! Owns the refresh token. It is used once; a refresh that was not answered is repeated with the same one, which the server answers with the
//! same successor for a while.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{End, Identity};
use crate::{
    dial::Dial,
    rest::{self, RestError, SignedIn},
};

/// The next token is fetched when this part of the present one's life is left.
const LEFT: u32 = 10;
/// Time between refreshes that are not answered.
const RETRY: Duration = Duration::from_secs(2);

/// What a client holds of its session.
pub(super) struct Signing {
    dial: Arc<dyn Dial>,
    identity: Identity,
    held: Option<Held>,
}

struct Held {
    signed_in: SignedIn,
    /// When the next token is to be fetched.
    due: Instant,
}

impl Signing {
    pub(super) fn new(dial: Arc<dyn Dial>, identity: Identity) -> Self {
        Signing { dial, identity, held: None }
    }

    /// Whether it can have another token than it has.
    pub(super) fn is_renewable(&self) -> bool {
        matches!(self.identity, Identity::Account { .. })
    }

    /// The token for a `hello`: the one at hand, else the next of the session, else that of a new session.
    pub(super) async fn token(&mut self) -> Result<String, End> {
        let Identity::Account { username, password } = &self.identity else {
            let Identity::Token(token) = &self.identity else { return Err(End::Wanted) };
            return Ok(token.clone());
        };
        let (username, password) = (username.clone(), password.clone());
        if self.held.as_ref().is_some_and(|held| held.due <= Instant::now()) {
            let refreshed = self.refresh().await;
            if let Err(RestError::NoAnswer(why)) = self.refreshed(refreshed).map(drop) {
                return Err(End::Lost(why));
            }
        }
        if self.held.is_none() {
            let signed_in = rest::sign_in(&*self.dial, &username, &password).await.map_err(|error| match error {
                RestError::Refused { status, .. } => End::Refused(status),
                RestError::NoAnswer(why) => End::Lost(why),
            })?;
            self.hold(signed_in);
        }
        Ok(self.held.as_ref().map(|held| held.signed_in.token.clone()).unwrap_or_default())
    }

    /// The token at hand has expired earlier than expected: the next one is due.
    pub(super) fn expired(&mut self) {
        if let Some(held) = &mut self.held {
            held.due = Instant::now();
        }
    }

    /// When the next token is to be fetched.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.due)
    }

    /// Fetches the next token; what comes of it goes to [`Signing::refreshed`].
    pub(super) fn refresh(&self) -> impl Future<Output = Result<SignedIn, RestError>> + Send + use<> {
        let dial = self.dial.clone();
        let token = self.held.as_ref().map(|held| held.signed_in.refresh_token.clone()).unwrap_or_default();
        async move { rest::refresh(&*dial, &token).await }
    }

    /// A refresh ended. Gives the next token.
    ///
    /// # Errors
    /// Why there is none. One that was refused ends the session as far as this client is concerned; one that was not answered is due again.
    pub(super) fn refreshed(&mut self, refreshed: Result<SignedIn, RestError>) -> Result<String, RestError> {
        match refreshed {
            Ok(signed_in) => {
                let token = signed_in.token.clone();
                self.hold(signed_in);
                Ok(token)
            }
            Err(error @ RestError::Refused { status: 401 | 403, .. }) => {
                self.held = None;
                Err(error)
            }
            Err(error) => {
                if let Some(held) = &mut self.held {
                    held.due = Instant::now() + RETRY;
                }
                Err(error)
            }
        }
    }

    fn hold(&mut self, signed_in: SignedIn) {
        let life = Duration::from_secs(signed_in.expires_in);
        self.held = Some(Held { signed_in, due: Instant::now() + (life - life / LEFT) });
    }
}

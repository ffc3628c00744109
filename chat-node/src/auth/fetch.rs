//! Gets a document over HTTPS, bounded in time and size. Redirects are not followed: the document is where it was said to be.

use std::{path::Path, time::Duration};

use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use tokio::time::timeout;

use crate::https::{self, HttpsClient, chain};

/// The whole exchange must be over by then.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a document.
const BYTES_MAX: usize = 256 * 1024;

/// Gets documents.
pub(super) struct Fetcher(HttpsClient<Empty<Bytes>>);

impl Fetcher {
    /// Trusts the authorities of a file, or those that browsers trust.
    ///
    /// # Errors
    /// When the file has no certificates.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        // Documents are fetched minutes apart.
        Ok(Fetcher(https::client(ca_file, 0)?))
    }

    /// Gets a document.
    ///
    /// # Errors
    /// Says why, for the log.
    pub(super) async fn get(&self, uri: &Uri) -> Result<Bytes, String> {
        let exchange = async {
            let response = self.0.get(uri.clone()).await.map_err(|error| chain(&error))?;
            if response.status() != StatusCode::OK {
                return Err(format!("it answered {}", response.status()));
            }
            let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
            Ok(body.map_err(|error| chain(&*error))?.to_bytes())
        };
        timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
    }
}

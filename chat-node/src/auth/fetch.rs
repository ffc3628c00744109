//! Gets a document over HTTPS, bounded in time and size. Redirects are not followed: the document is where it was said to be.

use std::{fs, path::Path, sync::Arc, time::Duration};

use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::timeout;

/// The whole exchange must be over by then.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a document.
const BYTES_MAX: usize = 256 * 1024;

/// Gets documents.
pub(super) struct Fetcher(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Fetcher {
    /// Trusts the authorities of a file, or those that browsers trust.
    ///
    /// # Errors
    /// When the file has no certificates.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(path) => {
                let pem = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let bad = || format!("{} has something that is no certificate in PEM", path.display());
                    roots.add(certificate.map_err(|_| bad())?).map_err(|_| bad())?;
                }
                if roots.is_empty() {
                    return Err(format!("{} has no certificate in PEM", path.display()));
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Fetcher(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
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

/// An error with its causes, which say more than it does.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

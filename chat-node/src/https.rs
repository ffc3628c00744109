//! The node as a client over HTTPS: whom it trusts, in one place.

use std::{fs, path::Path, sync::Arc};

use axum::body::HttpBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// A client for `https://` and `http://`.
pub(crate) type HttpsClient<B> = Client<HttpsConnector<HttpConnector>, B>;

/// Makes a client that trusts the authorities of a file, or those that browsers trust. It keeps so many idle connections to a host.
///
/// # Errors
/// When the file has no certificates.
pub(crate) fn client<B>(ca_file: Option<&Path>, idle_max: usize) -> Result<HttpsClient<B>, String>
where
    B: HttpBody + Send,
    B::Data: Send,
{
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
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(idle_max).build(connector))
}

/// An error with its causes, which say more than it does.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

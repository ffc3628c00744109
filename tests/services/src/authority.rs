//! A certificate authority, for tests of servers under TLS.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::Tls;

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM: what those who trust it are given.
    pub certificate: String,
}

impl Authority {
    /// Makes one. Each needs a name of its own, or a signature of another one of that name would be looked at.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn new(name: &str) -> Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), certificate })
    }

    /// A server's certificate for one name or address.
    ///
    /// # Errors
    /// When it is neither.
    pub fn sign(&self, host: &str) -> Result<Tls> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([host.to_owned()])?.signed_by(&key, &self.issuer)?.pem();
        Ok(Tls { certificate, key: key.serialize_pem() })
    }
}

//! What TLS needs to know.

use std::fmt;

use etcd_client::{Certificate, Identity, TlsOptions};

use crate::error::Error;

/// TLS to etcd: which CA its certificate must come from, and the certificate that is shown to it.
///
/// The system's CAs are not asked: a cluster's certificates come from a CA of its own.
#[derive(Clone)]
pub struct Tls {
    ca: Vec<u8>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    name: Option<String>,
}

impl Tls {
    /// With certificates of CAs, in PEM form.
    pub fn with_ca(ca: impl Into<Vec<u8>>) -> Self {
        Self {
            ca: ca.into(),
            identity: None,
            name: None,
        }
    }

    /// Shows this certificate, with its chain, and proves it with its key; both in PEM form.
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Expects this name in etcd's certificate instead of the endpoint's.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    pub(super) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    pub(super) fn options(&self) -> Result<TlsOptions, Error> {
        holds("CA", &self.ca, "-----BEGIN CERTIFICATE-----")?;
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(&self.ca));
        if let Some((certificate, key)) = &self.identity {
            holds("client certificate", certificate, "-----BEGIN CERTIFICATE-----")?;
            holds("client key", key, "PRIVATE KEY-----")?;
            options = options.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.name {
            options = options.domain_name(name);
        }
        Ok(options)
    }
}

/// A file of another kind would be noticed late, and in other words.
fn holds(what: &'static str, pem: &[u8], mark: &str) -> Result<(), Error> {
    if pem.windows(mark.len()).any(|window| window == mark.as_bytes()) {
        return Ok(());
    }
    Err(Error::Config {
        what,
        reason: format!("it has no {mark:?}; give it in PEM form"),
    })
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("has_identity", &self.identity.is_some())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

//! TLS towards an engine (feature `tls`), with the files that Docker's own tools use: `ca.pem`, which the engine's
//! certificate has to be signed by, and `cert.pem` with `key.pem` for an engine that asks who we are.
//!
//! The files are read when a connection is made, and again when they have changed, so that certificates may be renewed
//! while we run. No other authority is trusted, and no provider is installed for the whole process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CA: &str = "ca.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

/// When each file was last changed; none for one that is not there.
type Stamps = [Option<SystemTime>; 3];

/// The certificates of one engine.
#[derive(Debug)]
pub(super) struct Tls {
    dir: PathBuf,
    read: Mutex<Option<(Stamps, Arc<ClientConfig>)>>,
}

impl Tls {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            read: Mutex::new(None),
        }
    }

    /// Shakes hands over a connection with `host`.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config().map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }

    /// What an error of rustls' means here, where that is something to be put right.
    pub(super) fn explain(&self, host: &str, error: &rustls::Error) -> Option<TlsError> {
        use CertificateError as Bad;
        let dir = &self.dir;
        let sentence = match error {
            rustls::Error::InvalidCertificate(
                Bad::UnknownIssuer | Bad::BadSignature | Bad::UnsupportedSignatureAlgorithmContext { .. },
            ) => format!("its certificate is not signed by {}", dir.join(CA).display()),
            rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
                "its certificate has expired".to_owned()
            }
            rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
                "its certificate is not valid yet".to_owned()
            }
            rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
                format!("its certificate is not for {host}")
            }
            rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
            rustls::Error::AlertReceived(alert) => self.refused(*alert)?,
            _ => return None,
        };
        Some(TlsError::Handshake {
            sentence,
            source: error.clone(),
        })
    }

    /// The engine has closed the connection because of us.
    fn refused(&self, alert: AlertDescription) -> Option<String> {
        use AlertDescription as Alert;
        let of_certificates = matches!(
            alert,
            Alert::CertificateRequired
                | Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::DecryptError
                | Alert::UnknownCA
                | Alert::UnsupportedCertificate
                | Alert::AccessDenied
        );
        let cert = self.dir.join(CERT);
        let shown = cert.display();
        of_certificates.then(|| {
            if cert.exists() {
                format!("it does not accept the client certificate {shown}")
            } else {
                format!(
                    "it asks for a client certificate; put it into {shown}, and its key beside it into {KEY}"
                )
            }
        })
    }

    /// The configuration, read anew where a file has changed. Three small files: to read them on another thread would
    /// cost more.
    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let stamps = [CA, CERT, KEY].map(|name| fs::metadata(self.dir.join(name)).ok()?.modified().ok());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((of, config)) if *of == stamps => Ok(config.clone()),
            _ => {
                let config = Arc::new(self.load()?);
                *read = Some((stamps, config.clone()));
                Ok(config)
            }
        }
    }

    fn load(&self) -> Result<ClientConfig, TlsError> {
        let ca = self.dir.join(CA);
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&ca)? {
            roots.add(certificate).map_err(|source| TlsError::Unusable {
                path: ca.clone(),
                source,
            })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Unusable {
                path: ca.clone(),
                source,
            })?
            .with_root_certificates(roots);
        let (cert, key) = (self.dir.join(CERT), self.dir.join(KEY));
        match (cert.exists(), key.exists()) {
            (false, false) => Ok(builder.with_no_client_auth()),
            (true, true) => {
                let chain = certificates(&cert)?;
                let secret = PrivateKeyDer::from_pem_file(&key)
                    .map_err(|source| unreadable(&key, "private key", source))?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|source| TlsError::Unusable { path: cert, source })
            }
            (true, false) => Err(TlsError::Missing {
                has: cert,
                lacks: KEY,
            }),
            (false, true) => Err(TlsError::Missing {
                has: key,
                lacks: CERT,
            }),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| unreadable(path, "certificate", source);
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(read)?;
    if found.is_empty() {
        return Err(read(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn unreadable(path: &Path, what: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Read { path, source },
        pem::Error::NoItemsFound => TlsError::Empty { path, what },
        source => TlsError::NoPem { path, source },
    }
}

/// What is wrong with TLS towards an engine.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{} cannot be read", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no {what}", .path.display())]
    Empty { path: PathBuf, what: &'static str },
    #[error("{} is no PEM file", .path.display())]
    NoPem { path: PathBuf, source: pem::Error },
    #[error("{} cannot be used", .path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("{} is there without a {lacks} beside it; an engine that asks for a client certificate needs both", .has.display())]
    Missing { has: PathBuf, lacks: &'static str },
    #[error("{sentence}")]
    Handshake { sentence: String, source: rustls::Error },
}

//! TLS in front of a scripted engine, with certificates that are right, and with each thing that can be wrong with them.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tidewatch_docker::{DockerEvents, DockerInspect, DockerLister, Engine, ListError, Scope};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::front::Front;
use crate::scripted::heard::{START, action};
use crate::scripted::{Answer, ScriptedEngine, chunks};

/// An authority, and what it has signed.
struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as DER.
struct Signed {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority");
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        Signed {
            cert: params.signed_by(&key, &self.issuer).unwrap().der().to_vec(),
            key: key.serialize_der(),
        }
    }

    fn sign_well(&self) -> Signed {
        self.sign("127.0.0.1", |_| {})
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.der.clone())).unwrap();
        Arc::new(roots)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

/// A folder as Docker's tools have it.
fn certs(ca: &Authority, client: Option<&Signed>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "ca.pem", &pem("CERTIFICATE", &ca.der));
    if let Some(client) = client {
        write(dir.path(), "cert.pem", &pem("CERTIFICATE", &client.cert));
        write(dir.path(), "key.pem", &pem("PRIVATE KEY", &client.key));
    }
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

/// TLS in front of an engine, which lets in whom `clients` has signed; everybody, if there is none.
async fn front(scripted: &ScriptedEngine, server: Signed, clients: Option<&Authority>) -> Front {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(server.key).unwrap();
    let config = builder
        .with_single_cert(vec![CertificateDer::from(server.cert)], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Front::start(scripted.socket().to_owned(), move |stream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream).await.ok() }
    })
    .await
}

fn engine(front: &Front, certs: &Path) -> Engine {
    Engine::at(&format!(
        "https://127.0.0.1:{}?certs={}",
        front.port,
        certs.display()
    ))
    .unwrap()
}

/// The error and its causes, as people see it.
async fn complaint(engine: &Engine) -> String {
    let error = engine.list(Scope::All).await.unwrap_err();
    assert!(matches!(error, ListError::Unreachable { .. }), "{error}");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn scripted() -> ScriptedEngine {
    ScriptedEngine::start(|target| match target.split('?').next().unwrap() {
        "/events" => Answer::Stall(chunks([START])),
        "/containers/c1/json" => Answer::ok(r#"{"State":{}}"#),
        "/info" => Answer::ok(r#"{"ID":"d1"}"#),
        "/version" => Answer::ok("{}"),
        _ => Answer::ok(r#"[{"Id":"c1"}]"#),
    })
}

#[tokio::test]
async fn an_engine_that_asks_for_our_certificate_answers_every_call() {
    let (scripted, ca) = (scripted(), Authority::new());
    let certs = certs(&ca, Some(&ca.sign_well()));
    let front = front(&scripted, ca.sign_well(), Some(&ca)).await;
    let engine = engine(&front, certs.path());
    assert_eq!(engine.address(), format!("https://127.0.0.1:{}", front.port));
    assert_eq!(engine.list(Scope::All).await.unwrap().containers.len(), 1);
    assert_eq!(engine.daemon().await.unwrap().id, "d1");
    assert!(engine.inspect("c1").await.unwrap().is_some());
    let mut events = engine.subscribe(None).await.unwrap();
    assert_eq!(action(events.next().await), "start");
}

#[tokio::test]
async fn a_ping_every_two_seconds_is_no_handshake_every_two_seconds() {
    let (mut scripted, ca) = (scripted(), Authority::new());
    let certs = certs(&ca, None);
    let front = front(&scripted, ca.sign_well(), None).await;
    let engine = engine(&front, certs.path());
    for _ in 0..5 {
        engine.ping().await.unwrap();
    }
    assert_eq!(front.accepted(), 1);
    drop(engine);
    scripted.connection_ended().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_engines_certificate_is_said() {
    let (scripted, ca) = (scripted(), Authority::new());
    let certs = certs(&ca, None);
    let long_ago = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    };
    let some_day = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(4000, 1, 1);
    for (server, expected) in [
        (Authority::new().sign_well(), "is not signed by"),
        (ca.sign("127.0.0.1", long_ago), "has expired"),
        (ca.sign("127.0.0.1", some_day), "is not valid yet"),
        (ca.sign("web2.example", |_| {}), "is not for 127.0.0.1"),
    ] {
        let front = front(&scripted, server, None).await;
        let complaint = complaint(&engine(&front, certs.path())).await;
        assert!(complaint.contains(expected), "{expected}: {complaint}");
        assert!(
            complaint.starts_with("docker cannot be reached at https://127.0.0.1:"),
            "{complaint}"
        );
    }
    let front = Front::start(scripted.socket().to_owned(), refuse).await;
    let complaint = complaint(&engine(&front, certs.path())).await;
    assert!(complaint.contains("does not speak TLS"), "{complaint}");
}

/// What a server without TLS makes of a handshake.
async fn refuse(mut stream: TcpStream) -> Option<TcpStream> {
    stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .unwrap();
    None
}

#[tokio::test]
async fn what_is_wrong_with_our_certificate_is_said() {
    let (scripted, ca) = (scripted(), Authority::new());
    let front = front(&scripted, ca.sign_well(), Some(&ca)).await;
    let none = certs(&ca, None);
    let said = complaint(&engine(&front, none.path())).await;
    assert!(
        said.contains("asks for a client certificate; put it into"),
        "{said}"
    );
    let stranger = certs(&ca, Some(&Authority::new().sign_well()));
    let said = complaint(&engine(&front, stranger.path())).await;
    assert!(said.contains("does not accept the client certificate"), "{said}");
    let old = ca.sign("me", |params| params.not_after = rcgen::date_time_ymd(2002, 1, 1));
    let old = certs(&ca, Some(&old));
    let said = complaint(&engine(&front, old.path())).await;
    assert!(said.contains("does not accept the client certificate"), "{said}");
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_said_before_anybody_is_asked() {
    let (scripted, ca) = (scripted(), Authority::new());
    let front = front(&scripted, ca.sign_well(), None).await;
    let own = ca.sign_well();
    let dir = certs(&ca, Some(&own));
    let said = async || complaint(&engine(&front, dir.path())).await;
    for (name, text, expected) in [
        ("key.pem", None, "cert.pem is there without a key.pem"),
        (
            "key.pem",
            Some(pem("PRIVATE KEY", &ca.sign_well().key)),
            "cert.pem cannot be used",
        ),
        (
            "key.pem",
            Some(pem("CERTIFICATE", &own.cert)),
            "key.pem holds no private key",
        ),
        (
            "ca.pem",
            Some("nonsense".to_owned()),
            "ca.pem holds no certificate",
        ),
        (
            "ca.pem",
            Some("-----BEGIN X-----\n".to_owned()),
            "ca.pem is no PEM file",
        ),
        ("ca.pem", None, "ca.pem cannot be read: No such file"),
    ] {
        match text {
            Some(text) => write(dir.path(), name, &text),
            None => fs::remove_file(dir.path().join(name)).unwrap(),
        }
        let said = said().await;
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test]
async fn certificates_that_are_renewed_are_used_from_then_on() {
    let (scripted, ca) = (scripted(), Authority::new());
    let dir = certs(&Authority::new(), None);
    let front = front(&scripted, ca.sign_well(), None).await;
    let engine = engine(&front, dir.path());
    complaint(&engine).await;
    write(dir.path(), "ca.pem", &pem("CERTIFICATE", &ca.der));
    // Two writes within one tick of the file system's clock would look like one.
    let file = File::options()
        .write(true)
        .open(dir.path().join("ca.pem"))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7))
        .unwrap();
    engine.ping().await.unwrap();
}

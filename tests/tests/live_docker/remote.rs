//! Engines that are reached over TLS and through `ssh`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tidewatch_docker::{DockerLister, Engine, ReconcilerSettings, Scope};
use tidewatch_fleet::{Kind, State};
use tidewatch_tests::port::HeldPort;
use tidewatch_tests::private_docker::PrivateDocker;

use super::observed::Observed;

/// Writes `ca.pem`, and for each name `<name>-cert.pem` and `<name>-key.pem`, all signed by one authority.
fn write_certificates(dir: &Path, names: &[&str]) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "the authority");
    let key = KeyPair::generate().unwrap();
    fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &authority).unwrap();
        fs::write(dir.join(format!("{name}cert.pem")), cert.pem()).unwrap();
        fs::write(dir.join(format!("{name}key.pem")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_insists_on_certificates_is_followed_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    // The client's files have the names that Docker's tools expect.
    write_certificates(dir.path(), &["", "server-"]);
    let at = |name: &str| dir.path().join(name).display().to_string();
    let port = HeldPort::new().unwrap();
    let address = port.address();
    let host = format!("--host=tcp://{address}");
    let files = [
        format!("--tlscacert={}", at("ca.pem")),
        format!("--tlscert={}", at("server-cert.pem")),
        format!("--tlskey={}", at("server-key.pem")),
    ];
    let mut flags = vec![&*host, "--tlsverify"];
    flags.extend(files.iter().map(String::as_str));
    let Some(docker) = PrivateDocker::for_test_with(&flags) else {
        return;
    };
    let strangers = tempfile::tempdir().unwrap();
    fs::copy(at("ca.pem"), strangers.path().join("ca.pem")).unwrap();
    let stranger = Engine::at(&format!("https://{address}?certs={}", strangers.path().display())).unwrap();
    let refused = || async {
        let error = stranger.list(Scope::All).await.unwrap_err();
        std::error::Error::source(&error).unwrap().to_string()
    };
    // Whoever is still writing when the engine hangs up is told of a broken pipe before it can read why.
    let mut reason = refused().await;
    for _ in 0..5 {
        if reason.contains("asks for a client certificate") {
            break;
        }
        reason = refused().await;
    }
    assert!(reason.contains("asks for a client certificate"), "{reason}");

    let engine = Engine::at(&format!("https://{address}?certs={}", dir.path().display())).unwrap();
    let mut seen = Observed::through(docker, engine, ReconcilerSettings::default()).await;
    seen.declare("shop", Kind::Stack).await;
    seen.run_labelled("web", "shop", "web", &[]);
    seen.state("shop", "web", State::Running).await;
    seen.docker(&["kill", "web"]);
    seen.state("shop", "web", State::Stopped).await;
}

/// What runs on the other machine is Docker's own `dial-stdio`; the way there is a script.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_followed_through_dial_stdio() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let ssh = docker.dir().join("ssh");
    let script = format!(
        "#!/bin/sh\nexec docker --host {} system dial-stdio\n",
        docker.address()
    );
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let engine = Engine::at("ssh://web1").unwrap().with_ssh_program(&ssh);
    let mut seen = Observed::through(docker, engine, ReconcilerSettings::default()).await;
    seen.declare("shop", Kind::Stack).await;
    seen.run_labelled("web", "shop", "web", &[]);
    seen.state("shop", "web", State::Running).await;
    // Everything is made anew when the daemon is.
    seen.docker.terminate().unwrap();
    seen.host(|host| !host.reachable).await;
    seen.docker.start_daemon().unwrap();
    seen.host(|host| host.reachable).await;
    seen.state("shop", "web", State::Stopped).await;
}

//! A keyspace in etcd, by way of `tidewatch-etcd`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewatch_core::{Clock, Keyspace, Settings};
use tidewatch_etcd::machine::timing::STALE_AT_MOST;
use tidewatch_etcd::{Error as EtcdError, EtcdBackend, EtcdBackendBuilder, Phase, Tls};

use super::{EtcdConfig, EtcdTls};
use crate::error::Error;
use crate::upstream::{Upstream, UpstreamReport, UpstreamState};

/// Checks the settings, and the files they name. Nobody is connected to.
///
/// # Errors
/// [`Error::InvalidSetting`].
pub(crate) fn check(config: &EtcdConfig) -> Result<(), Error> {
    builder(config)?.check().map_err(refused)
}

/// Opens the keyspace and has caught up with it. An etcd that cannot be reached is waited for: it may be started after us.
///
/// # Errors
/// [`Error::InvalidSetting`]; [`Error::Etcd`] for what does not go away by itself.
pub(crate) async fn open(
    config: &EtcdConfig,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> Result<(Keyspace, Arc<dyn Upstream>), Error> {
    let backend = builder(config)?
        .settings(settings.clone())
        .clock(clock.clone())
        // To read all there is may take minutes; who waits is told by the probes.
        .start_budget(Duration::MAX)
        .connect()
        .await
        .map_err(refused)?;
    let upstream = Arc::new(Etcd {
        backend: backend.clone(),
        endpoints: config.endpoints.clone(),
    });
    Ok((Keyspace::new(backend), upstream))
}

fn builder(config: &EtcdConfig) -> Result<EtcdBackendBuilder, Error> {
    let mut builder = EtcdBackend::builder(config.endpoints.clone()).namespace(config.namespace.clone());
    if let Some(user) = &config.user {
        builder = builder.user(&user.name, &user.password);
    }
    if let Some(EtcdTls { ca, identity }) = &config.tls {
        let mut tls = Tls::with_ca(read("etcd-ca", ca)?);
        if let Some((certificate, key)) = identity {
            tls = tls.identity(read("etcd-cert", certificate)?, read("etcd-key", key)?);
        }
        builder = builder.tls(tls);
    }
    Ok(builder)
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::InvalidSetting {
        setting,
        reason: format!("{} cannot be read: {error}", path.display()),
    })
}

/// What was wrong with a setting is told by the name of its flag.
fn refused(error: EtcdError) -> Error {
    let EtcdError::Config { what, reason } = error else {
        return Error::Etcd(error.into());
    };
    let setting = match what {
        "namespace" => "etcd-namespace",
        "CA" => "etcd-ca",
        "client certificate" => "etcd-cert",
        "client key" => "etcd-key",
        _ => "etcd",
    };
    Error::InvalidSetting { setting, reason }
}

#[derive(Debug)]
struct Etcd {
    backend: Arc<EtcdBackend>,
    endpoints: Vec<String>,
}

impl Upstream for Etcd {
    fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    fn namespace(&self) -> &[u8] {
        self.backend.namespace()
    }

    fn report(&self, now: Instant) -> UpstreamReport {
        let status = self.backend.upstream();
        let (state, error) = match &status.phase {
            Phase::Live => (UpstreamState::Live, String::new()),
            Phase::Connecting { error, .. } => {
                let error = error.as_ref().map(ToString::to_string);
                (UpstreamState::Connecting, error.unwrap_or_default())
            }
            Phase::Interrupted { error, .. } => (UpstreamState::Interrupted, error.to_string()),
            Phase::Stopped => (UpstreamState::Stopped, String::new()),
        };
        UpstreamReport {
            state,
            age: status.age(now),
            error,
            lag_revisions: status.lag_revisions,
            relists: status.relists,
            backfills: status.backfills as u64,
            backfills_begun: status.backfills_begun,
        }
    }

    fn tolerated(&self) -> Duration {
        STALE_AT_MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn refusal(etcd: EtcdConfig) -> String {
        let config = Config {
            etcd: Some(etcd),
            ..Config::default()
        };
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_the_names_of_their_flags() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (nonsense, missing) = (file("nonsense", "x"), dir.path().join("missing"));
        let ca = file("ca", "-----BEGIN CERTIFICATE-----\n");
        let at = |endpoint: &str| EtcdConfig {
            endpoints: vec![endpoint.into()],
            ..EtcdConfig::default()
        };
        let secured = |ca, identity| EtcdConfig {
            tls: Some(EtcdTls { ca, identity }),
            ..at("https://etcd-1:2379")
        };
        let outside = EtcdConfig {
            namespace: "x".repeat(2000),
            ..at("etcd-1")
        };
        for (config, says) in [
            (EtcdConfig::default(), "invalid etcd: there are 0"),
            (
                at("ftp://etcd-1"),
                "invalid etcd: \"ftp://etcd-1\" has an unknown scheme",
            ),
            (at("https://etcd-1:2379"), "needs TLS"),
            (outside, "invalid etcd-namespace: it has 2000 bytes"),
            (secured(missing.clone(), None), "invalid etcd-ca: "),
            (secured(nonsense.clone(), None), "invalid etcd-ca: it has no"),
            (
                secured(ca.clone(), Some((nonsense.clone(), nonsense.clone()))),
                "invalid etcd-cert: it has no",
            ),
            (
                secured(ca.clone(), Some((ca.clone(), missing))),
                "invalid etcd-key: ",
            ),
            (
                secured(ca.clone(), Some((ca, nonsense))),
                "invalid etcd-key: it has no",
            ),
        ] {
            let error = refusal(config);
            assert!(error.contains(says), "no {says:?} in {error:?}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let config = EtcdConfig {
            user: Some(super::super::EtcdUser {
                name: "ann".into(),
                password: "secret".into(),
            }),
            ..EtcdConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("ann") && !shown.contains("secret"), "{shown}");
    }
}

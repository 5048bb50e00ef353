//! The etcd that `serve` keeps the keyspace in.

use std::path::{Path, PathBuf};

use tidewatch_server::{EtcdConfig, EtcdTls, EtcdUser};

use crate::exit;
use crate::failure::{Failure, Result};

/// What holds the password, where no file does.
const PASSWORD: &str = "TIDEWATCH_ETCD_PASSWORD";

/// The options.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A fleet on etcd")]
pub(crate) struct EtcdArgs {
    /// Keep the keyspace in this etcd, where other servers share it, instead of a directory; all its members
    #[arg(long, value_name = "URL", env = "TIDEWATCH_ETCD", value_delimiter = ',')]
    etcd: Vec<String>,
    /// How all keys of the keyspace begin in etcd, so that others may use the same one [default: all of it is ours]
    #[arg(long, value_name = "P", env = "TIDEWATCH_ETCD_NAMESPACE", requires = "etcd")]
    etcd_namespace: Option<String>,
    /// The user of etcd's that reads and writes
    #[arg(long, value_name = "U", env = "TIDEWATCH_ETCD_USER", requires = "etcd")]
    etcd_user: Option<String>,
    /// A file with the user's password; without it the one in `TIDEWATCH_ETCD_PASSWORD` is taken
    #[arg(
        long,
        value_name = "F",
        env = "TIDEWATCH_ETCD_PASSWORD_FILE",
        requires = "etcd_user"
    )]
    etcd_password_file: Option<PathBuf>,
    /// The CAs that etcd's certificate may come from; turns TLS on
    #[arg(long, value_name = "F", env = "TIDEWATCH_ETCD_CA", requires = "etcd")]
    etcd_ca: Option<PathBuf>,
    /// The certificate that is shown to etcd
    #[arg(long, value_name = "F", env = "TIDEWATCH_ETCD_CERT", requires_all = ["etcd_ca", "etcd_key"])]
    etcd_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "F", env = "TIDEWATCH_ETCD_KEY", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
}

impl EtcdArgs {
    /// What was asked for, if an etcd was.
    pub(crate) fn config(&self) -> Result<Option<EtcdConfig>> {
        if self.etcd.is_empty() {
            return Ok(None);
        }
        let identity = self.etcd_cert.clone().zip(self.etcd_key.clone());
        Ok(Some(EtcdConfig {
            endpoints: self.etcd.clone(),
            namespace: self.etcd_namespace.clone().unwrap_or_default(),
            user: self.user()?,
            tls: self.etcd_ca.clone().map(|ca| EtcdTls { ca, identity }),
        }))
    }

    fn user(&self) -> Result<Option<EtcdUser>> {
        let Some(name) = self.etcd_user.clone() else {
            return Ok(None);
        };
        let password = match &self.etcd_password_file {
            Some(path) => read(path)?,
            None => std::env::var(PASSWORD).unwrap_or_default(),
        };
        if password.is_empty() {
            let told = format!("there is no password for etcd's user {name:?}");
            let hint = format!("name a file with it with `--etcd-password-file`, or set {PASSWORD}");
            return Err(Failure::message(exit::USAGE, told).hint(hint));
        }
        Ok(Some(EtcdUser { name, password }))
    }
}

/// The password in a file, without the end of its line.
fn read(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let shown = path.display();
        Failure::new(exit::USAGE, error)
            .context(format!("failed to read the password of etcd's user from {shown}"))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

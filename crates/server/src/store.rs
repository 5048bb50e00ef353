//! The keyspace a server runs on, opened as its configuration says.

use std::sync::Arc;

use tidewatch_core::{Clock, Keyspace};

use crate::config::Config;
use crate::error::Error;

/// An open keyspace.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) keyspace: Keyspace,
}

impl Store {
    /// Opens the keyspace and reads it back.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Recover`].
    pub(crate) async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Error> {
        if config.data_dir.is_some() {
            return Err(Error::InvalidSetting {
                setting: "data-dir",
                reason: "this build keeps everything in memory; leave it out".into(),
            });
        }
        let builder = Keyspace::builder()
            .settings(config.keyspace.clone())
            .clock(clock.clone());
        let keyspace = builder.open().await.map_err(Error::Recover)?;
        Ok(Self { keyspace })
    }
}

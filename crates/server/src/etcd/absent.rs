//! What stands in for the adapter in builds without it: etcd's client needs `protoc` to be built, which not every machine
//! has.

use std::sync::Arc;

use tidewatch_core::{Clock, Keyspace, Settings};

use super::EtcdConfig;
use crate::error::Error;
use crate::upstream::Upstream;

/// # Errors
/// [`Error::InvalidSetting`], always.
pub(crate) fn check(_: &EtcdConfig) -> Result<(), Error> {
    Err(absent())
}

/// # Errors
/// As [`check`].
pub(crate) async fn open(
    _: &EtcdConfig,
    _: &Settings,
    _: &Arc<dyn Clock>,
) -> Result<(Keyspace, Arc<dyn Upstream>), Error> {
    Err(absent())
}

fn absent() -> Error {
    Error::InvalidSetting {
        setting: "etcd",
        reason: "this program was built without etcd's client; `cargo xtask serve` and `cargo xtask dist` build one with it, \
                 and so does `cargo build --release --package tidewatch --features etcd` where protoc is installed"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_program_without_etcd_says_how_to_get_one_with_it() {
        let config = Config {
            etcd: Some(super::EtcdConfig::default()),
            ..Config::default()
        };
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("cargo xtask serve"), "{error}");
    }
}

//! The Tidewatch server: native gRPC and HTTP on one port, over a keyspace that Docker hosts are
//! reconciled into.
//!
//! [`serve`] is all of it; [`Server`] is the same in two steps, for those who need to know the port
//! before anything runs.
//!
//! # What this crate does not do
//! It reads no flags or environment (but for `DOCKER_HOST`) and no files but those its configuration names, installs no signal handler and no
//! subscriber: that is up to the program around it. The index, the history and the fan-out are in
//! `tidewatch-core`; the reconciler is in `tidewatch-docker`.

mod absence;
mod config;
mod connection;
mod directives;
mod error;
mod etcd;
mod expectation;
mod fleet;
mod gathered;
mod grpc;
mod http;
mod listener;
mod log_directives;
mod metrics;
mod part;
mod readiness;
mod reconciler;
mod report;
mod server;
mod site;
mod store;
mod upstream;

pub use config::{Config, DEFAULT_DRAIN_TIMEOUT, DEFAULT_PORT, Limits};
pub use error::{Error, ErrorClass};
pub use etcd::{EtcdConfig, EtcdTls, EtcdUser};
pub use log_directives::{LogDirectives, LogSubject};
pub use server::{Server, serve};
pub use site::{Adopt, DockerEndpoint, Engines, Site, machine_name};

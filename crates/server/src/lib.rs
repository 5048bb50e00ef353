//! The Tidewatch server: native gRPC and HTTP on one port, over a keyspace that Docker hosts are
//! reconciled into.
//!
//! [`serve`] is all of it; [`Server`] is the same in two steps, for those who need to know the port
//! before anything runs.
//!
//! # What this crate does not do
//! It reads no flags, files or environment (but for `DOCKER_HOST`), installs no signal handler and no
//! subscriber: that is up to the program around it. The index, the history and the fan-out are in
//! `tidewatch-core`; the reconciler is in `tidewatch-docker`.

mod config;
mod connection;
mod error;
mod grpc;
mod http;
mod listener;
mod metrics;
mod part;
mod readiness;
mod reconciler;
mod server;
mod store;

pub use config::{Adopt, Config, DEFAULT_DRAIN_TIMEOUT, DEFAULT_PORT, DockerEndpoint, Limits};
pub use error::{Error, ErrorClass};
pub use server::{Server, serve};

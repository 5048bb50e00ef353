//! The fleet: workloads, containers and hosts as keys of a keyspace.
//!
//! The values are JSON, readable with any client, and fields that this code does not know survive
//! every rewrite. Each key has one kind of writer: deployers write [`DeployRow`]s, the reconciler of
//! a host its [`ContainerRow`]s, operators [`Workload`]s. A [`View`] holds them all, decoded, and
//! puts the halves together into [`JoinedRow`]s.
//!
//! # What this crate does not do
//! It talks to no Docker and opens no port. It says what the keys and values of a fleet look like,
//! how the halves that different writers own are put together, and what follows from them.

pub mod container;
pub mod declaration;
pub mod deploy;
pub mod error;
pub mod expectation;
pub mod host;
pub mod join;
pub mod key;
pub mod line;
pub mod log;
pub mod moment;
pub mod name;
pub mod port;
pub mod report;
pub mod state;
#[cfg(test)]
mod test_support;
pub mod value;
pub mod view;
pub mod walk;
pub mod workload;

pub use container::ContainerRow;
pub use declaration::{declare, remove};
pub use deploy::DeployRow;
pub use error::Error;
pub use expectation::{Count, Tally, is_healthy};
pub use host::{Alive, Host};
pub use join::{JoinedChange, JoinedRow};
pub use key::{FleetKey, KeyError};
pub use line::Line;
pub use log::LogEntry;
pub use moment::Moment;
pub use name::{HostName, NameError, Role, RowName, WorkloadId};
pub use port::{Network, Port, Protocol};
pub use report::{ContainerVerdict, HostReport, Verdicts};
pub use state::{Health, State};
pub use view::{Entry, Skipped, View};
pub use walk::Walk;
pub use workload::{Expect, Kind, Workload};

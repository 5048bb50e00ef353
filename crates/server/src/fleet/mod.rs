//! What is asked about the fleet, whichever face asks.

mod attempt;
mod container;
mod filter;
mod log;
mod workload;

pub(crate) use attempt::undisturbed;
pub(crate) use container::containers;
pub(crate) use filter::{ContainerFilter, named};
pub(crate) use log::{LogQuery, LogTurns, MAX_ENTRIES};
pub(crate) use workload::workloads;

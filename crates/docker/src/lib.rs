//! Writes what a Docker host really runs into a Tidewatch keyspace.
//!
//! # What this crate does not do
//! It only observes: it starts, stops and changes no container, and needs nothing but GET.

pub mod container;
#[cfg(feature = "bollard")]
pub mod engine;
pub mod event;
pub mod inspect;
pub mod label;
pub mod lister;
pub mod plan;
pub mod plugin;

pub use container::{Container, Network, Port, Protocol};
pub use event::{DockerEvent, DockerEvents, NoEvents};
pub use inspect::{DockerInspect, Facts, NoInspect};
pub use lister::{Daemon, DockerLister, ListError, Listing, Scope};
pub use plan::{Change, Plan, PlanHost, plan};
pub use plugin::WorkloadReconciler;

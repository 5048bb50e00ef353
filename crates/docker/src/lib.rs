//! Writes what a Docker host really runs into a Tidewatch keyspace.
//!
//! # What this crate does not do
//! It only observes: it starts, stops and changes no container, and needs nothing but GET.

mod agenda;
mod apply;
mod builder;
pub mod container;
mod deadline;
#[cfg(feature = "bollard")]
pub mod engine;
mod error;
pub mod event;
pub mod fake;
mod host_record;
pub mod inspect;
pub mod label;
pub mod lister;
pub mod plan;
pub mod plugin;
mod presence;
mod reconciler;
mod run;
mod settings;
mod status;

pub use builder::ReconcilerBuilder;
pub use container::{Container, Network, Port, Protocol};
#[cfg(feature = "bollard")]
pub use engine::Engine;
pub use error::Error;
pub use event::{DockerEvent, DockerEvents, NoEvents};
pub use inspect::{DockerInspect, Facts, NoInspect};
pub use label::LabelNames;
pub use lister::{Daemon, DockerLister, ListError, Listing, Scope};
pub use plan::{Change, Plan, PlanHost, Reason, Verdict, plan};
pub use plugin::WorkloadReconciler;
pub use presence::LEASE_TTL;
pub use reconciler::{Reconciler, Report};
pub use settings::ReconcilerSettings;
pub use status::{ReconcilerStatus, StatusSnapshot};

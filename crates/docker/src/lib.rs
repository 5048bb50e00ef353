//! Writes what a Docker host really runs into a Tidewatch keyspace.
//!
//! A [`Reconciler`] per host compares what its Docker shows with the rows below `/containers/` and
//! writes the difference. It needs a [`DockerLister`]; [`DockerEvents`] make it quick, and
//! [`DockerInspect`] tells it what a list does not. `Engine` is all three for a real
//! daemon (feature `bollard`), [`FakeDocker`](fake::FakeDocker) for tests.
//!
//! State comes from lists alone: an event only says what is worth listing again, so that a lost one
//! costs time and never truth. What to write is decided by [`plan()`], which is pure; it is then applied
//! in one transaction, fenced by the claim on the host under which it was made, so that two reconcilers never write the same
//! rows, nor one that was asleep what it saw before.
//!
//! # What this crate does not do
//! It only observes: it starts, stops and changes no container, and needs nothing but GET. It writes
//! no deployer's key. It spawns no task: [`Reconciler::run`] is a future.

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
mod herald;
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
mod trigger;

pub use builder::ReconcilerBuilder;
pub use container::{Container, Network, Port, Protocol};
#[cfg(feature = "bollard")]
pub use engine::Engine;
pub use error::Error;
pub use event::{DockerEvent, DockerEvents, NoEvents};
pub use herald::Herald;
pub use inspect::{DockerInspect, Facts, NoInspect};
pub use label::LabelNames;
pub use lister::{Daemon, DockerLister, ListError, Listing, OLDEST_API, Scope};
pub use plan::{Change, Plan, PlanHost, Reason, Verdict, plan};
pub use plugin::WorkloadReconciler;
pub use presence::{LEASE_TTL, RENEW_DEADLINE, RENEW_INTERVAL};
pub use reconciler::{Reconciler, Report};
pub use settings::ReconcilerSettings;
pub use status::{ReconcilerStatus, StatusSnapshot};
pub use trigger::Trigger;

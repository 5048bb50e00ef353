//! Tidewatch on a real Docker engine, which each test starts for itself.
#![cfg(feature = "live-docker")]

#[cfg(test)]
#[path = "live_docker/adapter.rs"]
mod adapter;
#[cfg(test)]
#[path = "live_docker/agent.rs"]
mod agent;
#[cfg(test)]
#[path = "live_docker/change.rs"]
mod change;
#[cfg(test)]
#[path = "live_docker/observed.rs"]
mod observed;
#[cfg(test)]
#[path = "live_docker/outage.rs"]
mod outage;
#[cfg(test)]
#[path = "live_docker/program.rs"]
mod program;
#[cfg(test)]
#[path = "live_docker/prometheus.rs"]
mod prometheus;
#[cfg(test)]
#[path = "live_docker/reconciler.rs"]
mod reconciler;
#[cfg(test)]
#[path = "live_docker/remote.rs"]
mod remote;

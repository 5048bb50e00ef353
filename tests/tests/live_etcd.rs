//! Our etcd API beside a real etcd, which each test starts for itself.
#![cfg(feature = "live-etcd")]

#[cfg(test)]
#[path = "live_etcd/backend/mod.rs"]
mod backend;
#[cfg(test)]
#[path = "live_etcd/by_hand.rs"]
mod by_hand;
#[cfg(test)]
#[path = "live_etcd/compare.rs"]
mod compare;
#[cfg(test)]
#[path = "live_etcd/crate_client.rs"]
mod crate_client;
#[cfg(test)]
#[path = "live_etcd/ctl.rs"]
mod ctl;
#[cfg(test)]
#[path = "live_etcd/differential.rs"]
mod differential;
#[cfg(test)]
#[path = "live_etcd/directive/mod.rs"]
mod directive;
#[cfg(test)]
#[path = "live_etcd/fleet/mod.rs"]
mod fleet;
#[cfg(test)]
#[path = "live_etcd/normal.rs"]
mod normal;
#[cfg(test)]
#[path = "live_etcd/python.rs"]
mod python;
#[cfg(test)]
#[path = "live_etcd/random.rs"]
mod random;
#[cfg(test)]
#[path = "live_etcd/reader/mod.rs"]
mod reader;
#[cfg(test)]
#[path = "live_etcd/scenario.rs"]
mod scenario;
#[cfg(test)]
#[path = "live_etcd/secured.rs"]
mod secured;
#[cfg(test)]
#[path = "live_etcd/stubs.rs"]
mod stubs;
#[cfg(test)]
#[path = "live_etcd/table/mod.rs"]
mod table;
#[cfg(test)]
#[path = "live_etcd/watching.rs"]
mod watching;

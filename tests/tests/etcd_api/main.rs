//! etcd's API over a real loopback port, with stubs generated from our `.proto` files.

#![expect(clippy::unwrap_used, reason = "the helpers are tests too")]

mod checked;
mod elsewhere;
mod fuzz;
mod kv;
mod lease;
mod malformed;
mod rig;
mod watch;
mod watching;

//! A reconciler that runs: what it hears, when it looks, and what it does when something fails.

mod event;
mod herald;
mod identity;
mod inspection;
mod outage;
mod presence;
mod resync;
mod retention;

#[path = "../world/mod.rs"]
mod world;

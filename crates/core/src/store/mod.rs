//! The embedded store: a keyspace in this process, in memory alone or with a [journal](crate::Journal).
//!
//! A change is first *evaluated* on top of everything before it, then made durable by the journal
//! if there is one, and then *published*: only now do reads, watches and acknowledgements show it.
//! Without a journal all of that happens within the call. With one, calls hand their changes to
//! the driver, which commits them in groups: while one group is being written the next one
//! gathers. A group that cannot be written is taken back and fails as a whole.
//!
//! A [`Replica`] is the same store without writes of its own: it follows what happens elsewhere.

mod apply;
mod builder;
mod driver;
mod embedded;
mod index;
mod lease;
mod read;
mod replay;
mod replica;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod write;

pub use builder::KeyspaceBuilder;
pub use embedded::Embedded;
pub use replica::{Extent, Listing, Replica};

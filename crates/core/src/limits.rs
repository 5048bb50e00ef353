//! The bounds of a keyspace, each with the place its number comes from.

/// Longest key, in bytes. Long enough for any path people write, short enough that an index of a
/// million keys stays in memory.
pub const MAX_KEY_BYTES: usize = 4096;

/// Largest value, in bytes (1 MiB). etcd's own limit for a request is 1.5 MiB; a value that fits
/// here always fits there too.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Largest transaction, in bytes of keys and values (1.5 MiB), as in etcd's `--max-request-bytes`.
pub const MAX_TXN_BYTES: usize = 1536 * 1024;

/// Most operations in one transaction, counted as etcd's `--max-txn-ops` does: compares and each of
/// the two branches on their own, and a nested transaction within what its parent left over.
pub const MAX_TXN_OPS: usize = 128;

/// Most compares and operations in one transaction, those of all branches and nested transactions
/// together. What [`MAX_TXN_OPS`] lets through multiplies with every level of nesting; this is more
/// than twice what a transaction without nesting can have.
pub const MAX_TXN_OPS_NESTED: usize = 1024;

/// Most ranges in one watch. A fleet view needs a handful; every range costs a registration.
pub const MAX_WATCH_RANGES: usize = 64;

/// Longest time to live of a lease, in seconds (about 285 years), as in etcd.
pub const MAX_LEASE_TTL_SECS: i64 = 9_000_000_000;

//! The bounds of a set, each with the reason for its number.

/// Largest encoded set, in bytes (64 KiB). Every node decodes and keeps it; [`MAX_DIRECTIVES`] ordinary
/// ones need a third of it.
pub const MAX_SET_BYTES: usize = 64 * 1024;

/// Most directives in a set. Evaluation looks at each of them, and has to stay below a microsecond: it
/// is done for every request. What is temporary does not come by the hundreds.
pub const MAX_DIRECTIVES: usize = 128;

/// Longest id of a directive, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Longest value of an attribute to match, in bytes: longer than any name in a fleet, and room for a
/// principal that is a whole subject of a certificate.
pub const MAX_MATCH_BYTES: usize = 256;

/// Most flags of one directive.
pub const MAX_FLAGS: usize = 32;

/// Longest flag, in bytes.
pub const MAX_FLAG_BYTES: usize = 64;

/// Longest life that a directive may be given, in seconds (366 days). Directives are temporary; what
/// shall stay belongs into a configuration.
pub const MAX_TTL_SECS: u64 = 366 * 24 * 60 * 60;

/// Of how many requests in a thousand at most: of all.
pub const MAX_PER_MILLE: u16 = 1000;

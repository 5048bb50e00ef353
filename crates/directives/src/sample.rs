//! Which requests a directive with a sampling rate applies to.

use crate::limits::MAX_PER_MILLE;

/// The number between 0 and 999 that a request id has: FNV-1a with 64 bits over its bytes, modulo 1000.
/// A directive with a `sample_per_mille` of `n` applies to the requests whose number is below `n`.
///
/// The number depends on nothing but the id. So every process that sees a request decides alike, and
/// a rate that is raised keeps the requests it had. The empty id has a number like any other.
///
/// ```
/// assert_eq!(tidewatch_directives::sample::bucket(b"request-1"), 356);
/// ```
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "it is below a thousand")]
pub fn bucket(request_id: &[u8]) -> u16 {
    (fnv1a(request_id) % u64::from(MAX_PER_MILLE)) as u16
}

/// FNV-1a with 64 bits.
#[inline]
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

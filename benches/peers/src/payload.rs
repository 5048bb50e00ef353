//! What is published, and how consumers read it.

use bytes::Bytes;

/// A key that is nobody else's. A static one would be cheaper to pass on than the keys of real programs are, which come in
/// requests: each copy of those counts references.
pub fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

/// Bytes of a value.
pub const LENGTH: usize = 128;

/// A value that begins with a number and goes on with bytes that depend on it.
pub fn numbered(number: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(number);
    let mut value = [0; LENGTH];
    random.fill(&mut value);
    value[..8].copy_from_slice(&number.to_le_bytes());
    Bytes::copy_from_slice(&value)
}

/// The number that a value begins with.
///
/// # Panics
/// The value is shorter than 8 bytes.
pub fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(*value.first_chunk().expect("a value begins with a number"))
}

/// Reads a whole value: the sum of its words.
pub fn checksum(value: &[u8]) -> u64 {
    let (words, rest) = value.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let rest = rest.iter().copied().map(u64::from);
    words.chain(rest).fold(0, u64::wrapping_add)
}

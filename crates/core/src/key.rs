//! Keys and ranges of keys.

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;

use crate::error::Error;
use crate::limits::MAX_KEY_BYTES;

/// A set of adjacent keys: one key, all keys under a prefix, or any half-open interval.
///
/// Keys are byte strings in lexicographic order. A range is never inverted: constructors refuse
/// what could not contain a key, and who means that says [`KeyRange::empty`].
///
/// ```
/// use tidewatch_core::{key, prefix};
///
/// assert!(prefix("/containers/")?.contains(b"/containers/shop/h1/web"));
/// assert!(!key("/containers")?.contains(b"/containers/"));
/// # Ok::<(), tidewatch_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyRange {
    start: Bytes,
    end: RangeEnd,
}

/// Where a [`KeyRange`] ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RangeEnd {
    /// The range holds its start and nothing else.
    Single,
    /// The range ends before this key.
    Before(Bytes),
    /// The range has no end: all keys from the start on.
    Unbounded,
}

/// The range that holds exactly `key`.
///
/// # Errors
/// [`Error::InvalidKey`] if the key is empty or longer than [`MAX_KEY_BYTES`].
pub fn key(key: impl Into<Bytes>) -> Result<KeyRange, Error> {
    let start = key.into();
    check_key(&start)?;
    Ok(KeyRange {
        start,
        end: RangeEnd::Single,
    })
}

/// All keys below `prefix`, which starts and ends with `/`.
///
/// `/config/` holds `/config/db` and `/config/` itself, but neither `/config` nor `/configuration`.
/// For prefixes of another form there is [`KeyRange::starting_with`].
///
/// # Errors
/// [`Error::InvalidPrefix`] if it does not start and end with `/`, or is longer than
/// [`MAX_KEY_BYTES`].
pub fn prefix(prefix: impl Into<Bytes>) -> Result<KeyRange, Error> {
    let start = prefix.into();
    if !is_slash_prefix(&start) || start.len() > MAX_KEY_BYTES {
        return Err(Error::InvalidPrefix { prefix: start });
    }
    Ok(KeyRange::starting_with(start))
}

/// The keys from `start` up to, but without, `end`.
///
/// # Errors
/// [`Error::InvalidRange`] unless `start < end`; [`Error::InvalidKey`] if one is too long.
pub fn range(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Result<KeyRange, Error> {
    let (start, end) = (start.into(), end.into());
    check_len(&start)?;
    check_len(&end)?;
    if start >= end {
        return Err(Error::InvalidRange { start, end });
    }
    // The two ways to say "this one key" are one range; but the empty name is no key's.
    let is_single = !start.is_empty() && end.strip_suffix(b"\0").is_some_and(|rest| rest == start);
    let end = if is_single {
        RangeEnd::Single
    } else {
        RangeEnd::Before(end)
    };
    Ok(KeyRange { start, end })
}

impl KeyRange {
    /// All keys from `start` on. With an empty `start`, every key.
    pub fn from_key(start: impl Into<Bytes>) -> Self {
        Self {
            start: start.into(),
            end: RangeEnd::Unbounded,
        }
    }

    /// Every key there is.
    pub fn all() -> Self {
        Self::from_key(Bytes::new())
    }

    /// No key. For faces on whose API an inverted range is no error but holds nothing; the native API has
    /// no such range.
    pub fn empty() -> Self {
        Self {
            start: Bytes::new(),
            end: RangeEnd::Before(Bytes::new()),
        }
    }

    /// All keys that start with these bytes, whatever they are. Empty bytes: every key.
    pub fn starting_with(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = match successor(&start) {
            Some(end) => RangeEnd::Before(end),
            None => RangeEnd::Unbounded,
        };
        Self { start, end }
    }

    /// A range of names that need not be ones a keyspace accepts: those of another store, where ours have a
    /// prefix before them. Nothing is checked; one that ends before it begins holds nothing.
    pub fn unchecked(start: impl Into<Bytes>, end: RangeEnd) -> Self {
        Self {
            start: start.into(),
            end,
        }
    }

    /// The first key that may be in the range.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// Where the range ends.
    pub fn end(&self) -> &RangeEnd {
        &self.end
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
            RangeEnd::Unbounded => key >= &self.start[..],
        }
    }

    /// Whether every key of `other` is in this range too.
    pub fn covers(&self, other: &Self) -> bool {
        let start_inside = other.start >= self.start;
        match (&self.end, &other.end) {
            (RangeEnd::Single, RangeEnd::Single) => self.start == other.start,
            (RangeEnd::Single, _) => false,
            (_, RangeEnd::Single) => self.contains(&other.start),
            (RangeEnd::Unbounded, _) => start_inside,
            (RangeEnd::Before(_), RangeEnd::Unbounded) => false,
            (RangeEnd::Before(mine), RangeEnd::Before(theirs)) => start_inside && theirs <= mine,
        }
    }

    /// The one key of the range, if it was made for exactly one.
    pub fn as_single(&self) -> Option<&Bytes> {
        matches!(self.end, RangeEnd::Single).then_some(&self.start)
    }

    /// The prefix, if the range is one that [`prefix`] makes.
    pub fn as_slash_prefix(&self) -> Option<&Bytes> {
        match &self.end {
            RangeEnd::Before(end)
                if is_slash_prefix(&self.start) && successor(&self.start).as_ref() == Some(end) =>
            {
                Some(&self.start)
            }
            _ => None,
        }
    }

    /// The range as bounds of an ordered map.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let start = Bound::Included(&self.start[..]);
        let end = match &self.end {
            RangeEnd::Single => start,
            RangeEnd::Before(end) => Bound::Excluded(&end[..]),
            RangeEnd::Unbounded => Bound::Unbounded,
        };
        (start, end)
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start.escape_ascii();
        match &self.end {
            RangeEnd::Single => write!(f, "{start}"),
            RangeEnd::Before(_) if self.as_slash_prefix().is_some() => write!(f, "{start}*"),
            RangeEnd::Before(end) => write!(f, "[{start}, {})", end.escape_ascii()),
            RangeEnd::Unbounded => write!(f, "[{start}, ∞)"),
        }
    }
}

/// The `/`-terminated prefixes of a key, shortest first: where watchers of prefixes can be.
///
/// ```
/// let found: Vec<_> = tidewatch_core::key::segments(b"/config/db").collect();
/// assert_eq!(found, [&b"/"[..], b"/config/"]);
/// ```
pub fn segments(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.iter()
        .enumerate()
        .filter(|&(_, &byte)| byte == b'/')
        .map(|(at, _)| &key[..=at])
}

/// Checks that `key` can name an entry.
///
/// # Errors
/// [`Error::InvalidKey`] if it is empty or longer than [`MAX_KEY_BYTES`].
pub fn check_key(key: &Bytes) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::InvalidKey {
            key: key.clone(),
            reason: "it is empty",
        });
    }
    check_len(key)
}

fn check_len(key: &Bytes) -> Result<(), Error> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Error::InvalidKey {
            key: key.slice(..64),
            reason: "it is longer than 4096 bytes",
        });
    }
    Ok(())
}

fn is_slash_prefix(prefix: &[u8]) -> bool {
    prefix.first() == Some(&b'/') && prefix.last() == Some(&b'/')
}

/// The first key after all keys that start with `prefix`; none if there is no such key.
fn successor(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_range_holds_no_key_and_lies_in_every_range_from_the_start() {
        let empty = KeyRange::empty();
        assert!(!empty.contains(b"") && !empty.contains(b"\0") && !empty.contains(b"/a"));
        assert!(KeyRange::all().covers(&empty));
        assert!(!empty.covers(&key("/a").unwrap()));
        assert_eq!((empty.as_single(), empty.as_slash_prefix()), (None, None));
    }

    #[test]
    fn a_range_up_to_the_first_key_is_not_the_key_without_a_name() {
        assert_eq!(range("", "\0").unwrap().as_single(), None);
        assert_eq!(range("/a", "/a\0").unwrap(), key("/a").unwrap());
    }
}

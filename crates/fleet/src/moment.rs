//! Points in time, as people name them.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// A point in time: an absolute one, or one that lies some time back.
///
/// A time stands for all of what its last digit does, `03:12:07Z` for that whole second: what was shown
/// at a precision is found again with what was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At {
        /// The first instant that is meant.
        first: SystemTime,
        /// The last one.
        last: SystemTime,
    },
}

impl Moment {
    /// The first instant that is meant, for what begins with it. What would lie before the Unix epoch is the
    /// epoch: nothing happened before.
    pub fn first(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => before(now, ago),
            Self::At { first, .. } => first,
        }
    }

    /// The last instant that is meant, for what ends with it; likewise.
    pub fn last(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => before(now, ago),
            Self::At { last, .. } => last,
        }
    }
}

fn before(now: SystemTime, ago: Duration) -> SystemTime {
    let time = now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    time.max(SystemTime::UNIX_EPOCH)
}

/// A text that names no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it looks like `90s`, `1h`, `2days` or `2026-03-01T03:00:00Z`; times are UTC")]
pub struct MomentError;

impl FromStr for Moment {
    type Err = MomentError;

    /// Reads how long ago, or a time in RFC 3339. Without a zone it is UTC, and so is one without a `T`; a time
    /// of another zone is refused.
    fn from_str(text: &str) -> Result<Self, MomentError> {
        let ago = humantime::parse_duration(text).map(Self::Ago);
        ago.or_else(|_| at(text))
    }
}

fn at(text: &str) -> Result<Moment, MomentError> {
    // Behind a fraction humantime takes any digits of an offset for zeros.
    if text.split_once('+').is_some_and(|(_, offset)| offset != "00:00") {
        return Err(MomentError);
    }
    let first = humantime::parse_rfc3339_weak(text).map_err(|_| MomentError)?;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit);
    let nanos = digits.fold(NANOS_PER_SEC, |nanos, _| nanos / 10);
    let last = first + Duration::from_nanos(nanos.saturating_sub(1));
    Ok(Moment::At { first, last })
}

const NANOS_PER_SEC: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the last instant, since the epoch.
    fn instants(text: &str) -> (Duration, Duration) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let moment: Moment = text.parse().unwrap();
        let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        (since_epoch(moment.first(now)), since_epoch(moment.last(now)))
    }

    #[test]
    fn a_moment_is_an_age_or_a_time() {
        for (text, seconds) in [
            ("1h", 6400),
            ("90s", 9910),
            ("1970-01-01T00:00:07Z", 7),
            ("1970-01-01T00:00:07+00:00", 7),
            ("1970-01-01T00:00:07.000+00:00", 7),
            ("1970-01-01 00:00:07", 7),
            ("400years", 0),
        ] {
            assert_eq!(instants(text).0, Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "yesterday", "1", "2026-13-01T00:00:00Z"] {
            assert_eq!(text.parse::<Moment>(), Err(MomentError), "{text}");
        }
    }

    #[test]
    fn a_time_of_another_zone_is_refused_with_and_without_a_fraction() {
        for offset in ["+02:00", "-02:00", "+00:01", "+0000"] {
            for time in ["2026-03-01T05:00:00", "2026-03-01T05:00:00.123456"] {
                let text = format!("{time}{offset}");
                assert_eq!(text.parse::<Moment>(), Err(MomentError), "{text}");
            }
        }
    }

    #[test]
    fn a_time_lasts_as_long_as_its_last_digit() {
        for (text, first, last) in [
            ("1970-01-01T00:00:07Z", 7_000_000_000, 7_999_999_999),
            ("1970-01-01T00:00:07", 7_000_000_000, 7_999_999_999),
            ("1970-01-01T00:00:07.5Z", 7_500_000_000, 7_599_999_999),
            ("1970-01-01T00:00:07.123Z", 7_123_000_000, 7_123_999_999),
            ("1970-01-01T00:00:07.123+00:00", 7_123_000_000, 7_123_999_999),
            ("1970-01-01T00:00:07.123456789Z", 7_123_456_789, 7_123_456_789),
            ("1970-01-01T00:00:07.1234567891Z", 7_123_456_789, 7_123_456_789),
            ("1h", 6_400_000_000_000, 6_400_000_000_000),
        ] {
            let (first, last) = (Duration::from_nanos(first), Duration::from_nanos(last));
            assert_eq!(instants(text), (first, last), "{text}");
        }
    }
}

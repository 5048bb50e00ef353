//! How long ago something was, in the two largest units that matter to a person.

use std::time::{Duration, SystemTime};

use tidewatch_core::{Clock as _, SystemClock};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long ago a point in time in RFC 3339 was; empty if the text is none.
pub(crate) fn since(text: &str) -> String {
    humantime::parse_rfc3339(text).map(of).unwrap_or_default()
}

/// How long ago a point in time was. Clocks of two machines differ: what lies in the future was just now.
pub(crate) fn of(time: SystemTime) -> String {
    let age = SystemClock.system_time().duration_since(time);
    short(age.unwrap_or_default())
}

/// `45s`, `12m`, `3h20m`, `2d4h`, `30d`.
pub(crate) fn short(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => pair(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ if seconds < 10 * DAY => pair(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ => format!("{}d", seconds / DAY),
    }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_at_most_two_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (12_000, "3h20m"),
            (DAY, "1d"),
            (2 * DAY + 4 * HOUR + 59, "2d4h"),
            (30 * DAY + HOUR, "30d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(short(Duration::from_secs(seconds)), expected);
        }
    }
}

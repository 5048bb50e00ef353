//! Points in time as RFC 3339 writes them.

use std::time::{Duration, SystemTime};

/// 9999-12-31T23:59:59Z, the last second that has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

/// Reads a point in time: `2026-11-21T03:12:00Z`, with an optional fraction of up to nine digits and any offset. From
/// 1970 to the end of the year 9999; `T` and `Z` are capitals.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    if !text.is_ascii() {
        return None;
    }
    if let Some(local) = text.strip_suffix('Z') {
        return within(parse_utc(local)?);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
    let (sign, offset) = offset.split_at(1);
    let (hours, minutes) = offset.split_once(':')?;
    let offset = Duration::from_secs(digits(hours, 23)? * 3600 + digits(minutes, 59)? * 60);
    let local = parse_utc(local)?;
    within(match sign {
        "+" => local.checked_sub(offset)?,
        "-" => local.checked_add(offset)?,
        _ => return None,
    })
}

/// A date and a time without a zone. The parser is stricter than humantime's, which takes shorter forms, and second 60 of
/// any minute for second 59.
fn parse_utc(local: &str) -> Option<SystemTime> {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let (seconds, fraction) = local.split_at_checked(FORM.len())?;
    let fits = |(byte, form): (u8, &u8)| byte == *form || (*form == b'0' && byte.is_ascii_digit());
    let fraction_fits = fraction.is_empty()
        || fraction.strip_prefix('.').is_some_and(|digits| {
            (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
    if !seconds.bytes().zip(FORM).all(fits) || seconds.ends_with("60") || !fraction_fits {
        return None;
    }
    humantime::parse_rfc3339(&format!("{local}Z")).ok()
}

fn digits(text: &str, max: u64) -> Option<u64> {
    let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number| plain && number <= max)
}

fn within(time: SystemTime) -> Option<SystemTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since.as_secs() <= LAST_SECOND).then_some(time)
}

/// The nearest point in time that can be written down; without one, the last.
pub(crate) fn clamp(time: Option<SystemTime>) -> SystemTime {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
    time.map_or(last, |time| time.clamp(SystemTime::UNIX_EPOCH, last))
}

/// Writes a point in time in UTC, with as many digits of a fraction as it has.
pub(crate) fn format(time: SystemTime) -> String {
    let text = humantime::format_rfc3339(clamp(Some(time))).to_string();
    match text.split_once('.') {
        // Never longer than it was read: `.5` is not `.500000000`.
        Some((whole, fraction)) => {
            format!(
                "{whole}.{}Z",
                fraction.trim_end_matches('Z').trim_end_matches('0')
            )
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_any_offset_and_written_in_utc() {
        for (text, written) in [
            ("2026-11-21T03:12:00Z", "2026-11-21T03:12:00Z"),
            ("2026-11-21T03:12:00.5Z", "2026-11-21T03:12:00.5Z"),
            ("2026-11-21T03:12:00.000000001Z", "2026-11-21T03:12:00.000000001Z"),
            ("2026-11-21T03:12:00.0Z", "2026-11-21T03:12:00Z"),
            ("2026-11-21T03:12:00+02:30", "2026-11-21T00:42:00Z"),
            ("2026-11-21T03:12:00.25-11:00", "2026-11-21T14:12:00.25Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            let time = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(format(time), written);
            assert_eq!(parse(written), Some(time));
        }
    }

    #[test]
    fn what_is_no_point_in_time_is_not_read() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T03:12:00",
            "2026-11-21 03:12:00Z",
            "2026-11-21t03:12:00z",
            "2026-11-21T03:12Z",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T12:00:60Z",
            "2026-11-21T12:00:60.9Z",
            "2016-12-31T23:59:60Z",
            "2026-11-21T03:12:00+24:00",
            "2026-11-21T03:12:00+02:60",
            "2026-11-21T03:12:00+2:30",
            "2026-11-21T03:12:00 02:30",
            "2026-11-21T03:12:00++2:30",
            "1970-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2026-11-21T03:12:00ZZ",
            "2026-11-21T03:12:00.Z",
            "2026-11-21T03:12:00.0000000001Z",
            "2026-11-21T03:12:00é",
            "+2026-11-21T03:12:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_written_becomes_the_last_that_can() {
        assert_eq!(format(clamp(None)), "9999-12-31T23:59:59Z");
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(format(before), "1970-01-01T00:00:00Z");
    }
}

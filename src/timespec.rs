//! Durations and points in time, as people write them. A leaf: it calls nothing of kpipe.

use std::time::{Duration, SystemTime};

/// The longest duration that is accepted: 100 years. Adding it to any clock does not overflow.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// A time in milliseconds after 2001-09-09 has 13 digits, one in seconds until 2286 has 10.
const LARGEST_SECONDS: i64 = 9_999_999_999;
const SMALLEST_SECONDS: i64 = 1_000_000_000;

/// Parses a duration: `500ms`, `5s`, `2m`, `1h30m`, `7d`, `1d12h`; a bare number is seconds, a day has 24 hours.
///
/// # Errors
/// The text is not a duration, or the duration is negative or longer than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = unbounded(text)?;
    if parsed > LONGEST { Err("expected at most 100 years (36500d)".to_owned()) } else { Ok(parsed) }
}

fn unbounded(text: &str) -> Result<Duration, String> {
    let malformed = || "expected a duration like 500ms, 5s or 2m".to_owned();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| "out of range".to_owned());
    }
    // To jiff a day is as long as the calendar says.
    if let Some((days, rest)) = text.split_once('d') {
        let days = days.parse::<u32>().map_err(|_| malformed())?;
        let rest = if rest.is_empty() { Duration::ZERO } else { unbounded(rest)? };
        return Duration::from_secs(u64::from(days) * 86_400).checked_add(rest).ok_or_else(malformed);
    }
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| malformed())?;
    Duration::try_from(parsed).map_err(|_| malformed())
}

/// Parses a point in time as milliseconds since 1970: RFC 3339, milliseconds, or a duration before now (`-15m`).
///
/// # Errors
/// The text is none of these, or looks like seconds since 1970.
pub fn parse_time(text: &str) -> Result<i64, String> {
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_duration(ago)?;
        let then = SystemTime::now().checked_sub(ago).and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
        return then.map(|since| since.as_millis() as i64).ok_or_else(|| "before 1970".to_owned());
    }
    if let Ok(millis) = text.parse::<i64>() {
        if (SMALLEST_SECONDS..=LARGEST_SECONDS).contains(&millis) {
            return Err(format!("looks like seconds since 1970, but milliseconds are expected (use @{millis}000)"));
        }
        return Ok(millis);
    }
    let timestamp: Result<jiff::Timestamp, _> = text.parse();
    timestamp
        .map(|t| t.as_millisecond())
        .map_err(|_| "expected a time like 2026-01-31T12:00:00Z, 1795418062647 or -15m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("1d12h"), Ok(Duration::from_secs(129_600)));
        assert_eq!(parse_duration("36500d"), Ok(LONGEST));
        for text in ["-1d", "d", "1dd", "-5s", "nan", "inf"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    /// `Instant::now() + 10^19 s` panics.
    #[test]
    fn a_duration_that_no_clock_can_hold_is_refused() {
        for text in ["1e19", "10000000000000000000", "10000000000000000000s", "9d18446744073709551615s", "36501d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_time("-10000000000000000000s").is_err());
    }

    #[test]
    fn a_time_in_seconds_is_not_taken_for_milliseconds() {
        let why = parse_time("1700000100").unwrap_err();
        assert!(why.contains("looks like seconds") && why.contains("@1700000100000"), "{why}");
        assert_eq!(parse_time("1795418062647"), Ok(1_795_418_062_647));
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(1000));
        assert_eq!(parse_time("5000"), Ok(5000));
    }
}

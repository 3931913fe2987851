//! Durations and points in time, as people write them. A leaf: it calls nothing of kpipe.

use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, ToSpan, Zoned, ZonedRound, civil};
use std::ops::Range;
use std::time::Duration;

/// The longest duration that is accepted: 100 years. Adding it to any clock does not overflow.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Numbers up to this are seconds, until the year 5138; larger ones are milliseconds, from 1973 on.
const LARGEST_SECONDS: i64 = 99_999_999_999;
const EXPECTED_TIME: &str =
    "expected a time like 2026-01-31T12:00:00Z, 2026-01-31, 09:00, today, 1795418062, 1795418062647 or -15m";

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

/// Parses a point in time as milliseconds since 1970: RFC 3339; a date or date and time without an offset, in local time;
/// seconds or milliseconds since 1970, told apart by their size; a duration before or after now (`-15m`, `+1h`); `now`;
/// `today`, `yesterday` (their beginning) or `09:00` (of today), in local time.
///
/// # Errors
/// The text is none of these.
pub fn parse_time(text: &str) -> Result<i64, String> {
    parse_time_at(text, &Zoned::now())
}

fn parse_time_at(text: &str, now: &Zoned) -> Result<i64, String> {
    let now_millis = now.timestamp().as_millisecond();
    if let Ok(number) = text.parse::<i64>()
        && !text.starts_with(['-', '+'])
    {
        return Ok(if number <= LARGEST_SECONDS { number * 1000 } else { number });
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_duration(ago)?.as_millis() as i64; // at most 100 years
        return if ago <= now_millis { Ok(now_millis - ago) } else { Err("before 1970".to_owned()) };
    }
    if let Some(ahead) = text.strip_prefix('+') {
        return Ok(now_millis + parse_duration(ahead)?.as_millis() as i64);
    }
    let local = match text {
        "now" => return Ok(now_millis),
        "today" => now.date().to_datetime(civil::Time::midnight()),
        "yesterday" => now.date().saturating_sub(1.day()).to_datetime(civil::Time::midnight()),
        _ => {
            if let Ok(timestamp) = text.parse::<Timestamp>() {
                return not_before_1970(timestamp);
            }
            match (text.parse::<civil::DateTime>(), is_time_of_day(text).then(|| text.parse::<civil::Time>())) {
                (Ok(local), _) => local,
                (_, Some(Ok(time))) => now.date().to_datetime(time),
                _ => return Err(EXPECTED_TIME.to_owned()),
            }
        }
    };
    let zoned = local.to_zoned(now.time_zone().clone()).map_err(|_| "out of range".to_owned())?;
    not_before_1970(zoned.timestamp())
}

/// `09:00`; jiff also reads `0900`, which looks like a number, and whole dates.
fn is_time_of_day(text: &str) -> bool {
    text.as_bytes().get(2) == Some(&b':')
}

fn not_before_1970(timestamp: Timestamp) -> Result<i64, String> {
    let millis = timestamp.as_millisecond();
    if millis >= 0 { Ok(millis) } else { Err("before 1970".to_owned()) }
}

/// Milliseconds since 1970 as RFC 3339.
pub fn format_time(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |timestamp| timestamp.to_string())
}

/// A unit of local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 60 s
    Minute,
    /// 60 minutes
    Hour,
    /// A calendar day
    Day,
}

/// The unit of local time that holds a moment: its first millisecond, and the first one after it. The moment alone where
/// no calendar has it.
pub fn unit_around(millis: i64, unit: Unit) -> Range<i64> {
    let around = || {
        let zoned = Timestamp::from_millisecond(millis).ok()?.to_zoned(TimeZone::system());
        let (round, span) = match unit {
            Unit::Minute => (jiff::Unit::Minute, 1.minute()),
            Unit::Hour => (jiff::Unit::Hour, 1.hour()),
            Unit::Day => (jiff::Unit::Day, 1.day()),
        };
        let floor = ZonedRound::new().smallest(round).mode(RoundMode::Floor);
        let start = zoned.round(floor).ok()?;
        let end = start.checked_add(span).ok()?;
        Some(start.timestamp().as_millisecond()..end.timestamp().as_millisecond())
    };
    around().filter(|range| range.contains(&millis)).unwrap_or(millis..millis.saturating_add(1))
}

/// Milliseconds since 1970 as local date and time, to the minute.
pub fn format_local(millis: i64) -> String {
    let shown = |timestamp: Timestamp| timestamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn at(text: &str, now: &str) -> Result<i64, String> {
        parse_time_at(text, &now.parse().unwrap())
    }

    fn millis(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn seconds_and_milliseconds_are_told_apart_by_their_size() {
        for (text, expected) in [
            ("0", 0),
            ("5000", 5_000_000),
            ("1700000100", 1_700_000_100_000),
            ("1795418062647", 1_795_418_062_647),
            ("99999999999", 99_999_999_999_000),
            ("100000000000", 100_000_000_000),
        ] {
            assert_eq!(parse_time(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn times_read_as_people_write_them() {
        let now = "2026-11-25T10:30:00+01:00[Europe/Berlin]";
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", "1970-01-01T00:00:01Z"),
            ("2026-01-31T12:00:00.250+02:00", "2026-01-31T10:00:00.250Z"),
            ("2026-07-01T12:00", "2026-07-01T10:00:00Z"),
            ("2026-07-01", "2026-06-30T22:00:00Z"),
            ("now", "2026-11-25T09:30:00Z"),
            ("-15m", "2026-11-25T09:15:00Z"),
            ("+1h30m", "2026-11-25T11:00:00Z"),
            ("today", "2026-11-24T23:00:00Z"),
            ("yesterday", "2026-11-23T23:00:00Z"),
            ("09:00", "2026-11-25T08:00:00Z"),
            ("23:59:30", "2026-11-25T22:59:30Z"),
        ] {
            assert_eq!(at(text, now), Ok(millis(expected)), "{text}");
        }
        // The clocks went forward at 02:00 of that day.
        assert_eq!(at("today", "2026-03-29T12:00:00+02:00[Europe/Berlin]"), Ok(millis("2026-03-28T23:00:00Z")));
        assert_eq!(at("02:30", "2026-03-29T12:00:00+02:00[Europe/Berlin]"), Ok(millis("2026-03-29T01:30:00Z")));
        for text in ["", "-", "+", "tomorrow", "25:00", "9:00", "2026-13-01", "1969-12-31T00:00:00Z", "-90y", "--5m"] {
            assert!(at(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_shown_as_it_is_read() {
        assert_eq!(format_time(1_795_418_062_647), "2026-11-23T07:14:22.647Z");
        assert_eq!(parse_time(&format_time(1_795_418_062_647)), Ok(1_795_418_062_647));
        assert_eq!(format_time(i64::MAX), i64::MAX.to_string());
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_unit(at: i64, near in 0..4_000_000_000_000_i64) {
            for (millis, unit) in [at, near].into_iter().flat_map(|at| [Unit::Minute, Unit::Hour, Unit::Day].map(|unit| (at, unit))) {
                let range = unit_around(millis, unit);
                prop_assert!(range.contains(&millis) || millis == i64::MAX);
                prop_assert_eq!(unit_around(range.start, unit), range);
            }
        }

        #[test]
        fn every_moment_is_read_back(at in 0..253_402_207_200_000i64, garbage in ".{0,24}") {
            prop_assert_eq!(parse_time(&format_time(at)), Ok(at));
            if let Ok(read) = parse_time(&garbage) {
                prop_assert!(read >= 0);
            }
        }
    }
}

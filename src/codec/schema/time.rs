//! Dates and times as RFC 3339 writes them. Written by hand, because timestamps stand in many records; read by `jiff`.

use jiff::civil;

/// The precision of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a second.
    Millis,
    /// Millionths.
    Micros,
    /// Billionths.
    Nanos,
}

impl Unit {
    /// How many make a second.
    pub fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    /// How many digits stand behind the seconds.
    fn digits(self) -> usize {
        match self {
            Self::Millis => 3,
            Self::Micros => 6,
            Self::Nanos => 9,
        }
    }

    /// Its name in an error.
    pub fn name(self) -> &'static str {
        match self {
            Self::Millis => "milliseconds",
            Self::Micros => "microseconds",
            Self::Nanos => "nanoseconds",
        }
    }
}

/// Whether a timestamp is a moment, or a date and time of day anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// A moment, written in UTC.
    Utc,
    /// Without a time zone.
    Local,
}

const SECONDS_A_DAY: i64 = 86_400;

/// Appends `YYYY-MM-DD`, with `days` since 1970-01-01; `false`, with nothing appended, where the year does not have four
/// digits.
#[must_use]
pub fn write_date(out: &mut Vec<u8>, days: i64) -> bool {
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant's algorithm).
    let Some(days) = days.checked_add(719_468) else { return false };
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(0..=9999).contains(&year) {
        return false;
    }
    let mut text = *b"0000-00-00";
    put_digits(&mut text[..4], year);
    put_digits(&mut text[5..7], month);
    put_digits(&mut text[8..], day);
    out.extend_from_slice(&text);
    true
}

/// Appends `HH:MM:SS` with the digits of the unit; `false`, with nothing appended, where it is not within a day.
#[must_use]
pub fn write_time(out: &mut Vec<u8>, value: i64, unit: Unit) -> bool {
    let (seconds, fraction) = (value.div_euclid(unit.per_second()), value.rem_euclid(unit.per_second()));
    if !(0..SECONDS_A_DAY).contains(&seconds) {
        return false;
    }
    write_clock(out, seconds, fraction, unit.digits());
    true
}

fn write_clock(out: &mut Vec<u8>, seconds: i64, fraction: i64, digits: usize) {
    let mut text = *b"00:00:00.000000000";
    put_digits(&mut text[..2], seconds / 3_600);
    put_digits(&mut text[3..5], seconds / 60 % 60);
    put_digits(&mut text[6..8], seconds % 60);
    put_digits(&mut text[9..9 + digits], fraction);
    out.extend_from_slice(&text[..if digits == 0 { 8 } else { 9 + digits }]);
}

/// Appends `YYYY-MM-DDTHH:MM:SS` with the digits of the unit, and `Z` for a moment; `false`, with nothing appended, where
/// the year does not have four digits.
#[must_use]
pub fn write_timestamp(out: &mut Vec<u8>, value: i64, unit: Unit, zone: Zone) -> bool {
    let (seconds, fraction) = (value.div_euclid(unit.per_second()), value.rem_euclid(unit.per_second()));
    if !write_date(out, seconds.div_euclid(SECONDS_A_DAY)) {
        return false;
    }
    out.push(b'T');
    write_clock(out, seconds.rem_euclid(SECONDS_A_DAY), fraction, unit.digits());
    if zone == Zone::Utc {
        out.push(b'Z');
    }
    true
}

/// A moment or span in Protobuf's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since 1970.
    pub seconds: i64,
    /// Beside the seconds.
    pub nanos: i32,
}

/// Appends `YYYY-MM-DDTHH:MM:SS`, as many digits as are needed in threes, and `Z`; `false`, with nothing appended, where the
/// year does not have four digits.
#[must_use]
pub fn write_moment(out: &mut Vec<u8>, moment: Moment) -> bool {
    if !write_date(out, moment.seconds.div_euclid(SECONDS_A_DAY)) {
        return false;
    }
    out.push(b'T');
    write_clock(out, moment.seconds.rem_euclid(SECONDS_A_DAY), 0, 0);
    write_fraction(out, moment.nanos.unsigned_abs());
    out.push(b'Z');
    true
}

/// Appends a point and three, six or nine digits of billionths; nothing for zero.
pub fn write_fraction(out: &mut Vec<u8>, nanos: u32) {
    let (fraction, digits) = match nanos {
        0 => return,
        _ if nanos.is_multiple_of(1_000_000) => (nanos / 1_000_000, 3),
        _ if nanos.is_multiple_of(1_000) => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    let mut text = *b".000000000";
    put_digits(&mut text[1..=digits], fraction.into());
    out.extend_from_slice(&text[..=digits]);
}

fn put_digits(text: &mut [u8], mut value: i64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// The days since 1970-01-01 of a date.
pub fn parse_date(text: &str) -> Option<i32> {
    let date: civil::Date = text.parse().ok()?;
    Some(date.since(civil::Date::constant(1970, 1, 1)).ok()?.get_days())
}

/// The time since midnight; `None` also where it has more digits than the unit.
pub fn parse_time(text: &str, unit: Unit) -> Option<i64> {
    let time: civil::Time = text.parse().ok()?;
    let seconds = i128::from(time.hour()) * 3_600 + i128::from(time.minute()) * 60 + i128::from(time.second());
    in_unit(seconds * 1_000_000_000 + i128::from(time.subsec_nanosecond()), unit)
}

/// The time since 1970; `None` also where it has more digits than the unit.
pub fn parse_timestamp(text: &str, unit: Unit, zone: Zone) -> Option<i64> {
    let moment = match zone {
        Zone::Utc => text.parse::<jiff::Timestamp>().ok()?,
        Zone::Local => text.parse::<civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
    };
    in_unit(moment.as_nanosecond(), unit)
}

/// The moment of a timestamp.
pub fn parse_moment(text: &str) -> Option<Moment> {
    let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    Some(Moment { seconds, nanos: nanos.rem_euclid(1_000_000_000) as i32 })
}

/// Seconds with a fraction of at most nine digits, and `s`.
pub fn parse_seconds(text: &str) -> Option<Moment> {
    let text = text.strip_suffix('s')?;
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Moment { seconds: sign * whole.parse::<i64>().ok()?, nanos: sign as i32 * nanos })
}

fn in_unit(nanos: i128, unit: Unit) -> Option<i64> {
    let divisor = i128::from(1_000_000_000 / unit.per_second());
    (nanos % divisor == 0).then(|| i64::try_from(nanos / divisor).ok())?
}

/// Months, days and milliseconds, each of four bytes and little-endian, of a duration in ISO 8601.
pub fn parse_duration(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix('P').filter(|text| !text.is_empty())?;
    let (date, time) = match text.split_once('T') {
        Some((_, "")) => return None,
        Some(both) => both,
        None => (text, ""),
    };
    let [years, months, weeks, days] = parts(date, *b"YMWD")?;
    let [hours, minutes, seconds] = parts(time, *b"HMS")?;
    let whole = |thousandths: u64| thousandths.is_multiple_of(1_000).then_some(thousandths / 1_000);
    let months = whole(years)?.checked_mul(12)?.checked_add(whole(months)?)?;
    let days = whole(weeks)?.checked_mul(7)?.checked_add(whole(days)?)?;
    let millis = hours.checked_mul(3_600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?;
    let mut bytes = Vec::with_capacity(12);
    for part in [months, days, millis] {
        bytes.extend_from_slice(&u32::try_from(part).ok()?.to_le_bytes());
    }
    Some(bytes)
}

/// The thousandths of each part, which ends with its unit; the units come in their order.
fn parts<const N: usize>(mut text: &str, units: [u8; N]) -> Option<[u64; N]> {
    let mut values = [0; N];
    let mut next = 0;
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = next + units[next..].iter().position(|unit| *unit == text.as_bytes()[end])?;
        let (whole, fraction) = text[..end].split_once('.').unwrap_or((&text[..end], "0"));
        if fraction.is_empty() || fraction.len() > 3 {
            return None;
        }
        values[unit] =
            whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(format!("{fraction:0<3}").parse().ok()?)?;
        (next, text) = (unit + 1, &text[end + 1..]);
    }
    Some(values)
}

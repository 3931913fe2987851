//! Where reading begins and ends, as `-o` and `--until` take it.

use super::values::parse_start;
use crate::engine::{End, Start};
use crate::timespec::parse_time;

/// What one `-o` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Where reading begins.
    pub start: Option<Start>,
    /// Where it ends.
    pub end: Option<End>,
}

/// Parses `-o`: a start, a range `START..END` of which either side may be left out, or kcat's `s@TIME` and `e@TIME`, in
/// which numbers are milliseconds.
///
/// # Errors
/// The text is none of these.
pub fn parse_range(text: &str) -> Result<Range, String> {
    if let Some(time) = text.strip_prefix("s@") {
        return Ok(Range { start: Some(Start::Time(kcat_time(time)?)), end: None });
    }
    if let Some(time) = text.strip_prefix("e@") {
        return Ok(Range { start: None, end: Some(End::Time(kcat_time(time)?)) });
    }
    let Some((start, end)) = text.split_once("..") else {
        return Ok(Range { start: Some(parse_start(text)?), end: None });
    };
    if start.is_empty() && end.is_empty() {
        return Err("expected a range like 100..200, @-2h..@-1h, 100.. or ..200".to_owned());
    }
    // What begins nowhere in particular begins where the log does.
    let start = if start.is_empty() { Start::Beginning } else { parse_start(start)? };
    let end = if end.is_empty() { End::AtStartup } else { parse_end(end)? };
    Ok(Range { start: Some(start), end: Some(end) })
}

fn kcat_time(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(millis) if millis >= 0 => Ok(millis),
        _ => parse_time(text),
    }
}

/// Parses where reading ends: `beginning`, `end`, N, -N or `@TIME`.
///
/// # Errors
/// The text is none of these.
pub fn parse_end(text: &str) -> Result<End, String> {
    match parse_start(text) {
        Ok(Start::Beginning) => Ok(End::At(0)),
        Ok(Start::End) => Ok(End::AtStartup),
        Ok(Start::At(offset)) => Ok(End::At(offset)),
        Ok(Start::Last(count)) => Ok(End::Last(count)),
        Ok(Start::Time(time)) => Ok(End::Time(time)),
        Err(why) if text.starts_with('@') => Err(why),
        Ok(Start::Stored) | Err(_) => Err("expected beginning, end, N, -N or @TIME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: Start, end: End) -> Range {
        Range { start: Some(start), end: Some(end) }
    }

    #[test]
    fn every_form_of_a_range_is_understood() {
        for (text, expected) in [
            ("42", Range { start: Some(Start::At(42)), end: None }),
            ("-10", Range { start: Some(Start::Last(10)), end: None }),
            ("100..200", range(Start::At(100), End::At(200))),
            ("-10..-5", range(Start::Last(10), End::Last(5))),
            ("100..", range(Start::At(100), End::AtStartup)),
            ("..200", range(Start::Beginning, End::At(200))),
            ("beginning..end", range(Start::Beginning, End::AtStartup)),
            ("stored..5", range(Start::Stored, End::At(5))),
            ("..beginning", range(Start::Beginning, End::At(0))),
            ("@1970-01-01T00:00:01.5Z..@1700000100", range(Start::Time(1500), End::Time(1_700_000_100_000))),
            ("s@5000", Range { start: Some(Start::Time(5000)), end: None }),
            ("e@5000", Range { start: None, end: Some(End::Time(5000)) }),
        ] {
            assert_eq!(parse_range(text), Ok(expected), "{text}");
        }
        assert!(matches!(
            parse_range("@-2h..@-1h"),
            Ok(Range { start: Some(Start::Time(from)), end: Some(End::Time(to)) }) if (3_599_000..=3_601_000).contains(&(to - from))
        ));
        for text in ["..", "5..stored", "5..x", "x..5", "s@", "e@x", "1...2", "@..@", "s@-"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_is_no_committed_offset() {
        assert_eq!(parse_end("-5"), Ok(End::Last(5)));
        assert!(parse_end("stored").unwrap_err().contains("beginning, end, N, -N or @TIME"));
        assert!(parse_end("@tomorrow").unwrap_err().contains("2026-01-31T12:00:00Z"));
    }

    proptest! {
        #[test]
        fn offsets_are_read_as_they_are(start in 0..i64::MAX, end in 0..i64::MAX, garbage in ".{0,16}") {
            prop_assert_eq!(parse_range(&format!("{start}..{end}")), Ok(range(Start::At(start), End::At(end))));
            let _ = parse_range(&garbage);
        }
    }
}

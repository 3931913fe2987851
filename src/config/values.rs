//! What people and files write, as the engines' option types.

use crate::engine::{Acks, Assignor, Codec, Compression, GroupProtocol, Isolation, Named, Partitioner, Start};
use crate::error::did_you_mean;
use crate::timespec::parse_time;

/// The coordinator's own assignors (KIP-848).
pub const SERVER_ASSIGNORS: [&str; 2] = ["uniform", "range"];

/// Parses a size in bytes: `1000000`, `64k`, `1M`, `1G` (powers of 1024).
///
/// # Errors
/// The text is not a size.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let malformed = || "expected a size like 1000000, 64k or 1M".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..].to_ascii_lowercase()[..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(malformed()),
    };
    let number: usize = digits.parse().map_err(|_| malformed())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// Parses required acknowledgments.
///
/// # Errors
/// The text is not 0, 1 or all.
pub fn parse_acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("expected 0, 1 or all".to_owned()),
    }
}

/// Parses a partitioner by librdkafka's names, whose treatment of records without a key is always kpipe's own.
pub(super) fn parse_partitioner(text: &str) -> Result<Partitioner, String> {
    Ok(match text {
        "murmur2" | "murmur2_random" => Partitioner::Murmur2,
        "consistent" | "consistent_random" => Partitioner::Crc32,
        "fnv1a" | "fnv1a_random" => Partitioner::Fnv1a,
        "random" => Partitioner::Random,
        _ => return Err("expected murmur2_random, consistent_random, fnv1a_random or random".to_owned()),
    })
}

/// Parses `CODEC` or `CODEC:LEVEL`.
///
/// # Errors
/// There is no such codec, or it does not have this level.
pub fn parse_compression(text: &str) -> Result<Compression, String> {
    let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
    let index = Codec::NAMES.iter().position(|known| *known == name);
    let codec = index
        .and_then(|index| Codec::from_attributes(index as i16))
        .ok_or_else(|| format!("expected one of {}{}", Codec::NAMES.join(", "), did_you_mean(name, Codec::NAMES)))?;
    let Some(level) = level else { return Ok(Compression { codec, level: None }) };
    let level = level.parse().map_err(|_| format!("{level} is not a compression level"))?;
    with_level(codec, level)
}

/// `codec` at `level`.
///
/// # Errors
/// The codec does not have this level.
pub fn with_level(codec: Codec, level: i32) -> Result<Compression, String> {
    let name = codec.name();
    let levels = codec.levels().ok_or_else(|| format!("{name} has no levels"))?;
    if levels.contains(&level) {
        return Ok(Compression { codec, level: Some(level) });
    }
    Err(format!("{name} has levels {} to {}", levels.start(), levels.end()))
}

/// Parses a start offset: `beginning`, `end`, `stored`, N, -N or `@TIME`.
///
/// # Errors
/// The text is none of these.
pub fn parse_start(text: &str) -> Result<Start, String> {
    let expected = "expected beginning, end, stored, N, -N or @TIME";
    match text {
        "beginning" | "earliest" | "smallest" => return Ok(Start::Beginning),
        "end" | "latest" | "largest" => return Ok(Start::End),
        "stored" => return Ok(Start::Stored),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return parse_time(time).map(Start::Time);
    }
    if let Some(count) = text.strip_prefix('-') {
        return count.parse().map(Start::Last).map_err(|_| expected.to_owned());
    }
    let known = ["beginning", "end", "stored"];
    let hint = did_you_mean(text, known);
    text.parse::<i64>().map(Start::At).map_err(|_| format!("{expected}{hint}"))
}

/// How `consume` shows records on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalOutput {
    /// As it writes them into a pipe.
    Json,
    /// For people.
    Pretty,
}

pub(super) fn parse_terminal_output(text: &str) -> Result<TerminalOutput, String> {
    match text {
        "json" => Ok(TerminalOutput::Json),
        "pretty" => Ok(TerminalOutput::Pretty),
        _ => Err("expected json or pretty".to_owned()),
    }
}

pub(super) fn parse_isolation(text: &str) -> Result<Isolation, String> {
    match text {
        "read_committed" => Ok(Isolation::Committed),
        "read_uncommitted" => Ok(Isolation::Uncommitted),
        _ => Err("expected read_committed or read_uncommitted".to_owned()),
    }
}

pub(super) fn parse_group_protocol(text: &str) -> Result<GroupProtocol, String> {
    let named = GroupProtocol::named(&text.to_ascii_lowercase());
    named.ok_or_else(|| "expected auto, classic or consumer".to_owned())
}

/// Parses an assignor by its name or by its class in the Java client.
///
/// # Errors
/// There is no such assignor.
pub fn parse_assignor(text: &str) -> Result<String, String> {
    let class = text.rsplit('.').next().unwrap_or(text);
    let name = match class {
        "RangeAssignor" => "range",
        "RoundRobinAssignor" => "roundrobin",
        "StickyAssignor" => "sticky",
        "CooperativeStickyAssignor" => "cooperative-sticky",
        _ => text.trim(),
    };
    if Assignor::named(name).is_some() || SERVER_ASSIGNORS.contains(&name) {
        return Ok(name.to_owned());
    }
    let hint = did_you_mean(name, ["cooperative-sticky", "range", "roundrobin", "sticky", "uniform"]);
    Err(format!("expected cooperative-sticky, range, roundrobin, sticky or uniform{hint}"))
}

pub(super) fn parse_assignors(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|name| parse_assignor(name.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(parse_size("64k"), Ok(65536));
        assert!(parse_size("64x").is_err() && parse_size("99999999999G").is_err());
    }

    #[test]
    fn codecs_are_read_with_their_levels() {
        assert_eq!(parse_compression("zstd:3"), Ok(Compression { codec: Codec::Zstd, level: Some(3) }));
        assert!(parse_compression("zstd:99").unwrap_err().contains("1 to 22"));
        assert!(parse_compression("gzpi").unwrap_err().contains("did you mean gzip?"));
        assert!(parse_compression("lz4:3").unwrap_err().contains("no levels"));
    }

    #[test]
    fn starts_are_read_as_people_write_them() {
        assert_eq!(parse_start("beginning"), Ok(Start::Beginning));
        assert_eq!(parse_start("42"), Ok(Start::At(42)));
        assert_eq!(parse_start("-10"), Ok(Start::Last(10)));
        assert_eq!(parse_start("@1795418062647"), Ok(Start::Time(1_795_418_062_647)));
        assert_eq!(parse_start("@1970-01-01T00:00:01Z"), Ok(Start::Time(1000)));
        assert!(matches!(parse_start("@-15m"), Ok(Start::Time(t)) if t > 1_700_000_000_000));
        assert!(parse_start("begining").unwrap_err().contains("did you mean beginning?"));
        assert!(parse_start("@yesteryear").is_err() && parse_start("-x").is_err());
    }
}

//! Where settings come from: flags, `-X`, `-F FILE`, `config.toml`, the environment, defaults. Knows each property's
//! name once.

mod properties;
mod security;
mod sources;
mod stores;

use crate::engine::{EngineChoice, Observer, Options};
use crate::error::{Error, Result};
pub use properties::{PROPERTIES, Properties, Sources, Value};
pub use security::jaas_options;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where brokers are looked for when nobody says.
pub const DEFAULT_BROKERS: &str = "localhost:9092";

/// What `properties` tell an engine, and the defaults of what they do not.
///
/// # Errors
/// A broker's address or a property is malformed.
pub fn options(engine: EngineChoice, properties: &Properties, observer: Arc<dyn Observer>) -> Result<Options> {
    let listed = properties.text("bootstrap.servers").unwrap_or(DEFAULT_BROKERS);
    let brokers = listed
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(with_port)
        .collect::<Result<Vec<_>>>()?;
    if brokers.is_empty() {
        return Err(Error::Usage("no broker given: -b HOST:PORT".to_owned()));
    }
    Ok(Options {
        brokers,
        client_id: properties.text("client.id").unwrap_or("kpipe").to_owned(),
        engine,
        connect_timeout: properties.millis("socket.connection.setup.timeout.ms")?.unwrap_or(Duration::from_secs(5)),
        request_timeout: properties.millis("request.timeout.ms")?.unwrap_or(Duration::from_secs(30)),
        retry_backoff: properties.millis("retry.backoff.ms")?.unwrap_or(Duration::from_millis(100)),
        security: security::resolve(properties)?,
        observer,
    })
}

/// Where `config.toml` is looked for: `$KPIPE_CONFIG`, else `kpipe/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`;
/// and whether somebody named it.
pub fn config_file() -> Option<(PathBuf, bool)> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = from("KPIPE_CONFIG") {
        return Some((named, true));
    }
    let folder = from("XDG_CONFIG_HOME").or_else(|| Some(from("HOME")?.join(".config")))?;
    Some((folder.join("kpipe/config.toml"), false))
}

/// What may stand before an address, as the brokers' own settings write it.
const LISTENERS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// `host` → `host:9092`; a port that is none is an error.
fn with_port(address: &str) -> Result<String> {
    let bare =
        address.split_once("://").filter(|(scheme, _)| LISTENERS.contains(scheme)).map_or(address, |(_, bare)| bare);
    let wrong = |what: &str| Error::Usage(format!("-b {address}: {what}"));
    if bare.contains("://") {
        return Err(wrong("expected HOST:PORT"));
    }
    // `[::1]` and `::1` have colons of their own.
    let (host, port) = match bare.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => (bare, "9092"),
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !host.is_empty() => Ok(format!("{host}:{port}")),
        _ => Err(wrong("expected HOST:PORT, the port from 1 to 65535")),
    }
}

/// A size in bytes: `1000000`, `64k`, `1M`, `1G` (powers of 1024).
///
/// # Errors
/// It is none.
pub fn parse_size(text: &str) -> std::result::Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..].to_ascii_lowercase()[..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err("expected a size like 1000000, 64k or 1M".to_owned()),
    };
    let number: usize = digits.parse().map_err(|_| "expected a size like 1000000, 64k or 1M".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// A duration: `500ms`, `5s`, `2m`, `1h30m`, `7d`, `1d12h`; a bare number is seconds, a day 24 hours.
///
/// # Errors
/// It is none, or negative.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| "out of range".to_owned());
    }
    let wrong = || "expected a duration like 500ms, 5s or 2m".to_owned();
    // To jiff a day is as long as the calendar says.
    if let Some((days, rest)) = text.split_once('d') {
        let days = days.parse::<u32>().map_err(|_| wrong())?;
        let rest = if rest.is_empty() { Duration::ZERO } else { parse_duration(rest)? };
        return Duration::from_secs(u64::from(days) * 86_400).checked_add(rest).ok_or_else(wrong);
    }
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_default_port() {
        for (typed, meant) in [("a", "a:9092"), ("a:1", "a:1"), ("[::1]:5", "[::1]:5"), ("::1", "::1:9092")] {
            assert_eq!(with_port(typed).unwrap(), meant);
        }
        for typed in ["a:b", "a:0", "a:70000", ":1", "http://a:1"] {
            assert!(with_port(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn sizes_and_durations_read_as_people_write_them() {
        assert_eq!(parse_size("64k"), Ok(65536));
        assert!(parse_size("64x").is_err());
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("1d12h"), Ok(Duration::from_secs(129_600)));
        assert!(parse_duration("-1d").is_err() && parse_duration("d").is_err() && parse_duration("1dd").is_err());
        assert!(
            parse_duration("9d18446744073709551615s").is_err() && parse_duration("9d1.8446744073709550e19").is_err()
        );
        assert!(parse_duration("-5s").is_err());
    }
}

//! Where settings come from: flags, `-X`, `-F FILE`, the environment, defaults. Knows each property's name once.

mod security;

use crate::error::{Error, Result, did_you_mean};
pub use security::{Mechanism, Sasl, Secret, Security, Tls};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Every property kpipe knows: the Java client's name, then librdkafka's and other spellings of the same.
pub const PROPERTIES: &[(&str, &[&str])] = &[
    ("acks", &["request.required.acks"]),
    ("auto.commit.interval.ms", &[]),
    ("auto.offset.reset", &[]),
    ("batch.size", &[]),
    ("bootstrap.servers", &["metadata.broker.list"]),
    ("buffer.memory", &[]),
    ("client.id", &[]),
    ("client.rack", &[]),
    ("compression.level", &["compression.gzip.level", "compression.zstd.level"]),
    ("compression.type", &["compression.codec"]),
    ("delivery.timeout.ms", &["message.timeout.ms"]),
    ("enable.idempotence", &[]),
    ("fetch.max.bytes", &[]),
    ("fetch.max.wait.ms", &["fetch.wait.max.ms"]),
    ("fetch.min.bytes", &[]),
    ("group.id", &[]),
    ("group.instance.id", &[]),
    ("group.protocol", &[]),
    ("group.remote.assignor", &[]),
    ("heartbeat.interval.ms", &[]),
    ("isolation.level", &[]),
    ("linger.ms", &["queue.buffering.max.ms"]),
    ("max.in.flight.requests.per.connection", &["max.in.flight"]),
    ("max.partition.fetch.bytes", &["fetch.message.max.bytes"]),
    ("max.poll.interval.ms", &[]),
    ("max.request.size", &["message.max.bytes"]),
    ("metadata.max.age.ms", &["topic.metadata.refresh.interval.ms"]),
    ("partition.assignment.strategy", &[]),
    ("request.timeout.ms", &["socket.timeout.ms"]),
    ("retry.backoff.ms", &[]),
    ("sasl.jaas.config", &[]),
    ("sasl.mechanism", &["sasl.mechanisms"]),
    ("sasl.password", &[]),
    ("sasl.username", &[]),
    ("security.protocol", &[]),
    ("session.timeout.ms", &[]),
    ("socket.connection.setup.timeout.ms", &[]),
    ("ssl.certificate.location", &[]),
    ("ssl.endpoint.identification.algorithm", &[]),
    ("ssl.key.location", &[]),
    ("ssl.keystore.certificate.chain", &["ssl.certificate.pem"]),
    ("ssl.keystore.key", &["ssl.key.pem"]),
    ("ssl.keystore.location", &[]),
    ("ssl.keystore.type", &[]),
    ("ssl.truststore.certificates", &["ssl.ca.pem"]),
    ("ssl.truststore.location", &["ssl.ca.location"]),
    ("ssl.truststore.type", &[]),
];

/// Properties whose values are never shown.
const SECRETS: [&str; 3] = ["sasl.jaas.config", "sasl.password", "ssl.keystore.key"];

/// Where brokers are looked for when nobody says.
const DEFAULT_BROKERS: &str = "localhost:9092";

/// Properties by the Java client's name, each with where it was set.
#[derive(Clone, Default)]
pub struct Properties {
    values: BTreeMap<&'static str, (String, String)>,
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown =
            self.values.iter().map(|(name, (value, _))| (name, if SECRETS.contains(name) { "***" } else { value }));
        f.debug_map().entries(shown).finish()
    }
}

impl Properties {
    /// Reads `file` (Java's properties syntax), then `settings` (`NAME=VALUE`); a later one wins.
    ///
    /// # Errors
    /// The file cannot be read, a line is no `NAME=VALUE`, or a name is unknown.
    pub fn load(file: Option<&Path>, settings: &[String]) -> Result<Self> {
        let mut properties = Self::default();
        if let Some(path) = file {
            let name = path.display();
            let open = std::fs::File::open(path)
                .map_err(|e| Error::Usage(format!("-F {name}: {}", crate::error::describe_io(&e))))?;
            let mut found = Vec::new();
            java_properties::PropertiesIter::new(open)
                .read_into(|key, value| found.push((key, value)))
                .map_err(|e| Error::Usage(format!("-F {name}: {e}")))?;
            for (key, value) in found {
                properties.set(&key, value, &format!("-F {name}:"))?;
            }
        }
        for setting in settings {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| Error::Usage(format!("-X {setting}: expected NAME=VALUE")))?;
            properties.set(key.trim(), value.trim().to_owned(), "-X")?;
        }
        Ok(properties)
    }

    fn set(&mut self, typed: &str, value: String, origin: &str) -> Result<()> {
        let known = PROPERTIES.iter().find(|(name, aliases)| *name == typed || aliases.contains(&typed));
        let Some((name, _)) = known else {
            let names = PROPERTIES.iter().flat_map(|(name, aliases)| std::iter::once(name).chain(*aliases));
            let hint = did_you_mean(typed, names.copied());
            return Err(Error::Usage(format!("{origin} {typed}: unknown property{hint}")));
        };
        self.values.insert(name, (value, origin.to_owned()));
        Ok(())
    }

    /// The property's text, when it was set.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// What `parse` makes of the property, when it was set.
    ///
    /// # Errors
    /// What it says, with the property and where it was set.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> std::result::Result<T, E>,
    ) -> Result<Option<T>> {
        let Some((value, _)) = self.values.get(name) else { return Ok(None) };
        parse(value).map(Some).map_err(|e| self.malformed(name, &e.to_string()))
    }

    /// What to say of a value that cannot be; a secret one is not repeated.
    pub fn malformed(&self, name: &str, why: &str) -> Error {
        let (value, origin) =
            self.values.get(name).map_or(("", ""), |(value, origin)| (value.as_str(), origin.as_str()));
        let shown = if SECRETS.contains(&name) { "***" } else { value };
        Error::Usage(format!("{origin} {name}={shown}: {why}"))
    }

    /// The property as a `T`, when it was set.
    ///
    /// # Errors
    /// It is no `T`; the error names where it was set.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>>
    where
        T::Err: std::fmt::Display,
    {
        self.parsed(name, str::parse)
    }

    /// The property as a size in bytes, when it was set.
    ///
    /// # Errors
    /// It is none.
    pub fn size(&self, name: &str) -> Result<Option<usize>> {
        self.parsed(name, parse_size)
    }

    /// The property in milliseconds, when it was set.
    ///
    /// # Errors
    /// It is no whole number.
    pub fn millis(&self, name: &str) -> Result<Option<Duration>> {
        Ok(self.get(name)?.map(Duration::from_millis))
    }
}

/// Which engine speaks to the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum EngineChoice {
    /// Ask the brokers.
    #[default]
    Auto,
    /// This project's own client: Kafka 0.11 to today.
    Native,
    /// The `kafka` crate: Kafka 0.8.2 to 3.9.
    Kafka,
}

/// What every command needs to reach a cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    /// Sent with each request, shown in the brokers' logs and quotas.
    pub client_id: String,
    /// Which engine to use.
    pub engine: EngineChoice,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for an answer.
    pub request_timeout: Duration,
    /// Wait before the first retry; doubles up to 1 s.
    pub retry_backoff: Duration,
    /// TLS and SASL.
    pub security: Security,
    /// All properties that were set.
    pub properties: Properties,
}

impl Config {
    /// Resolves `-b`, else `bootstrap.servers`, else `KPIPE_BROKERS`, else `localhost:9092`, and the rest.
    ///
    /// # Errors
    /// A broker's address or a property is malformed.
    pub fn resolve(brokers: Option<&str>, engine: EngineChoice, properties: Properties) -> Result<Self> {
        let environment = std::env::var("KPIPE_BROKERS").ok();
        let listed =
            brokers.or(properties.text("bootstrap.servers")).or(environment.as_deref()).unwrap_or(DEFAULT_BROKERS);
        let brokers = listed
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(with_port)
            .collect::<Result<Vec<_>>>()?;
        if brokers.is_empty() {
            return Err(Error::Usage("no broker given: -b HOST:PORT".to_owned()));
        }
        Ok(Self {
            brokers,
            client_id: properties.text("client.id").unwrap_or("kpipe").to_owned(),
            engine,
            connect_timeout: properties.millis("socket.connection.setup.timeout.ms")?.unwrap_or(Duration::from_secs(5)),
            request_timeout: properties.millis("request.timeout.ms")?.unwrap_or(Duration::from_secs(5)),
            retry_backoff: properties.millis("retry.backoff.ms")?.unwrap_or(Duration::from_millis(100)),
            security: Security::resolve(&properties)?,
            properties,
        })
    }
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

/// A duration: `500ms`, `5s`, `2m`, `1h30m`; a bare number is seconds.
///
/// # Errors
/// It is none, or negative.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| "out of range".to_owned());
    }
    let wrong = || "expected a duration like 500ms, 5s or 2m".to_owned();
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_mean_the_same_property() {
        let set = |s: &str| Properties::load(None, &[s.to_owned()]);
        assert_eq!(set("metadata.broker.list=a:1").unwrap().text("bootstrap.servers"), Some("a:1"));
        let error = set("bootstrap.server=a").unwrap_err().to_string();
        assert!(error.contains("did you mean bootstrap.servers?"), "{error}");
    }

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
        assert!(parse_duration("-5s").is_err());
    }
}

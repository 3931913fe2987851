//! Properties: every name kpipe knows, once; and those that were set, each with where.

use super::sources::{self, Setting};
use crate::error::{Error, Result, did_you_mean};
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
    ("fetch.max.unpacked.bytes", &[]),
    ("fetch.max.wait.ms", &["fetch.wait.max.ms"]),
    ("fetch.min.bytes", &[]),
    ("group.id", &[]),
    ("group.instance.id", &[]),
    ("group.protocol", &[]),
    ("group.remote.assignor", &[]),
    ("heartbeat.interval.ms", &[]),
    ("https.ca.location", &[]),
    ("isolation.level", &[]),
    ("linger.ms", &["queue.buffering.max.ms"]),
    ("max.in.flight.requests.per.connection", &["max.in.flight"]),
    ("max.partition.fetch.bytes", &["fetch.message.max.bytes"]),
    ("max.poll.interval.ms", &[]),
    ("max.request.size", &["message.max.bytes"]),
    ("metadata.max.age.ms", &["topic.metadata.refresh.interval.ms"]),
    ("partition.assignment.strategy", &[]),
    ("partitioner", &[]),
    ("request.timeout.ms", &["socket.timeout.ms"]),
    ("retry.backoff.ms", &[]),
    ("sasl.jaas.config", &[]),
    ("sasl.mechanism", &["sasl.mechanisms"]),
    ("sasl.oauthbearer.client.id", &["sasl.oauthbearer.client.credentials.client.id"]),
    ("sasl.oauthbearer.client.secret", &["sasl.oauthbearer.client.credentials.client.secret"]),
    ("sasl.oauthbearer.extensions", &[]),
    ("sasl.oauthbearer.scope", &[]),
    ("sasl.oauthbearer.token", &[]),
    ("sasl.oauthbearer.token.endpoint.url", &[]),
    ("sasl.password", &[]),
    ("sasl.username", &[]),
    ("security.protocol", &[]),
    ("session.timeout.ms", &[]),
    ("socket.connection.setup.timeout.ms", &[]),
    ("ssl.certificate.location", &[]),
    ("ssl.endpoint.identification.algorithm", &[]),
    ("ssl.key.location", &[]),
    ("ssl.key.password", &[]),
    ("ssl.keystore.certificate.chain", &["ssl.certificate.pem"]),
    ("ssl.keystore.key", &["ssl.key.pem"]),
    ("ssl.keystore.location", &[]),
    ("ssl.keystore.password", &[]),
    ("ssl.keystore.type", &[]),
    ("ssl.truststore.certificates", &["ssl.ca.pem"]),
    ("ssl.truststore.location", &["ssl.ca.location"]),
    ("ssl.truststore.password", &[]),
    ("ssl.truststore.type", &[]),
    ("transaction.timeout.ms", &[]),
    ("transactional.id", &[]),
];

/// Properties whose values are never shown.
const SECRETS: [&str; 8] = [
    "sasl.jaas.config",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.token",
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.key",
    "ssl.keystore.password",
    "ssl.truststore.password",
];

/// A token may change while kpipe runs: it is looked up for each connection.
const LATE: &str = "sasl.oauthbearer.token";

/// What other clients know and kpipe has no use for, a name a line: a file that they can use is no error here.
const WITHOUT_EFFECT: &str = include_str!("without_effect.txt");

/// Where properties may come from, each weaker than the next: a profile of `config.toml` that nobody asked for on
/// the command line, `KPIPE_*` in the environment, a profile that somebody asked for, a file, and settings.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// `config.toml`, and whether somebody named it.
    pub config: Option<(&'a Path, bool)>,
    /// The names and values of environment variables.
    pub environment: Vec<(String, String)>,
    /// The profile that the command line names.
    pub profile: Option<&'a str>,
    /// The topic whose own settings of the profile count.
    pub topic: Option<&'a str>,
    /// A file of the Java client's or librdkafka's properties.
    pub file: Option<&'a Path>,
    /// `NAME=VALUE`, from the command line.
    pub settings: &'a [String],
    /// Brokers from the command line.
    pub brokers: Option<&'a str>,
}

/// A value and where it was set.
#[derive(Clone)]
pub struct Value {
    /// Its text, as set.
    pub text: String,
    /// Where.
    pub origin: String,
}

/// Properties by the Java client's name; of each the values that were set, the one that counts last.
#[derive(Clone, Default)]
pub struct Properties {
    values: BTreeMap<&'static str, Vec<Value>>,
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.values.keys().map(|name| (name, self.shown(name)))).finish()
    }
}

impl Properties {
    /// Reads all `sources`; what refers to a file, the environment or a command is not looked up yet.
    ///
    /// # Errors
    /// A source cannot be read, a line is malformed, or a name is unknown.
    pub fn collect(sources: &Sources<'_>) -> Result<Self> {
        let mut properties = Self::default();
        let from_environment = sources.environment.iter().find(|(name, _)| name == "KPIPE_PROFILE");
        let profile = sources.profile.or(from_environment.map(|(_, value)| value.as_str()));
        let profile = sources::profile(sources.config, profile, sources.topic)?;
        let environment = sources::environment(&sources.environment);
        // What is typed is stronger than what stands in the environment.
        let (first, second) = match sources.profile {
            None => (profile, environment),
            Some(_) => (environment, profile),
        };
        let file = sources.file.map(sources::file).transpose()?.unwrap_or_default();
        let settings = sources::settings(sources.settings)?;
        for setting in first.into_iter().chain(second).chain(file).chain(settings) {
            properties.set(setting)?;
        }
        if let Some(brokers) = sources.brokers {
            let (name, value) = ("bootstrap.servers".to_owned(), brokers.to_owned());
            properties.set(Setting { name, value, origin: "-b".to_owned() })?;
        }
        Ok(properties)
    }

    /// The same with all references looked up.
    ///
    /// # Errors
    /// One leads nowhere.
    pub fn looked_up(mut self) -> Result<Self> {
        for (name, values) in &mut self.values {
            let Some(last) = values.last_mut().filter(|_| *name != LATE) else { continue };
            last.text =
                sources::look_up(&last.text).map_err(|why| Error::Usage(format!("{} {name}: {why}", last.origin)))?;
        }
        Ok(self)
    }

    fn set(&mut self, Setting { name: typed, value, origin }: Setting) -> Result<()> {
        // kcat's way to say that it is a topic's.
        let bare = typed.strip_prefix("topic.").unwrap_or(&typed);
        let known = |wanted: &str| {
            PROPERTIES
                .iter()
                .find(|(name, aliases)| *name == wanted || aliases.contains(&wanted))
                .map(|(name, _)| *name)
        };
        let Some(name) = known(&typed).or_else(|| known(bare)) else {
            if WITHOUT_EFFECT.lines().any(|name| name == typed || name == bare) {
                tracing::info!(property = typed, origin, "the property has no effect on kpipe");
                return Ok(());
            }
            let names = PROPERTIES.iter().flat_map(|(name, aliases)| std::iter::once(name).chain(*aliases));
            let hint = did_you_mean(&typed, names.copied());
            return Err(Error::Usage(format!("{origin} {typed}: unknown property{hint}")));
        };
        self.values.entry(name).or_default().push(Value { text: value, origin });
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)?.last()
    }

    /// The property's text, when it was set.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).map(|value| value.text.as_str())
    }

    /// What may be shown of the property.
    fn shown(&self, name: &str) -> &str {
        self.value(name).map_or("", |value| masked(name, &value.text))
    }

    /// All that was set, by name: what counts comes first, then what it overrides; secrets are masked.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, Vec<Value>)> {
        let shown = |name: &str, value: &Value| Value {
            text: masked(name, &value.text).to_owned(),
            origin: value.origin.clone(),
        };
        self.values.iter().map(move |(name, values)| (*name, values.iter().rev().map(|v| shown(name, v)).collect()))
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
        let Some(value) = self.text(name) else { return Ok(None) };
        parse(value).map(Some).map_err(|e| self.malformed(name, &e.to_string()))
    }

    /// What to say of a value that cannot be; a secret one is not repeated.
    pub fn malformed(&self, name: &str, why: &str) -> Error {
        let origin = self.value(name).map_or("", |value| &value.origin);
        Error::Usage(format!("{origin} {name}={}: {why}", self.shown(name)))
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
        self.parsed(name, super::parse_size)
    }

    /// The property in milliseconds, when it was set.
    ///
    /// # Errors
    /// It is no whole number.
    pub fn millis(&self, name: &str) -> Result<Option<Duration>> {
        Ok(self.get(name)?.map(Duration::from_millis))
    }

    /// Properties as `-X` sets them, for tests.
    #[cfg(test)]
    pub fn of(settings: &[&str]) -> Result<Self> {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        Self::collect(&Sources { settings: &settings, ..Sources::default() })?.looked_up()
    }
}

/// A secret's place may be seen, the secret not.
fn masked<'a>(name: &str, text: &'a str) -> &'a str {
    if SECRETS.contains(&name) && !sources::is_reference(text) { "***" } else { text }
}

/// Whether the property that is set to `text` gives a secret away to who reads the file.
pub(super) fn is_secret(name: &str, text: &str) -> bool {
    let aliases = PROPERTIES.iter().find(|(known, aliases)| *known == name || aliases.contains(&name));
    let referred = sources::is_reference(text) || text.contains("assword=\"${");
    aliases.is_some_and(|(known, _)| SECRETS.contains(known)) && !referred
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_mean_the_same_property() {
        assert_eq!(Properties::of(&["metadata.broker.list=a:1"]).unwrap().text("bootstrap.servers"), Some("a:1"));
        assert_eq!(Properties::of(&["topic.acks=1"]).unwrap().text("acks"), Some("1"));
        let error = Properties::of(&["bootstrap.server=a"]).unwrap_err().to_string();
        assert!(error.contains("did you mean bootstrap.servers?"), "{error}");
        assert!(Properties::of(&["key.deserializer=org.apache.kafka.common.serialization.StringDeserializer"]).is_ok());
    }

    /// Each beats those before it, and says where it came from.
    #[test]
    fn what_is_nearer_to_the_command_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (config, file) = (dir.path().join("config.toml"), dir.path().join("client.properties"));
        std::fs::write(
            &config,
            "profile = \"dev\"\n[properties]\nacks = 1\n[profiles.dev]\nlinger.ms = 5\nclient.id = \"toml\"\n\
             [profiles.dev.topics.orders]\n\"compression.type\" = \"zstd\"\n[profiles.prod]\nclient.id = \"prod\"\n",
        )
        .unwrap();
        std::fs::write(&file, "client.id=file\n").unwrap();
        let environment = vec![("KPIPE_CLIENT_ID".to_owned(), "env".to_owned())];
        let mut sources = Sources { config: Some((&config, true)), topic: Some("orders"), ..Sources::default() };
        let id = |sources: &Sources<'_>| {
            let found = Properties::collect(sources).unwrap();
            let value = found.value("client.id").unwrap();
            format!("{} from {}", value.text, value.origin.rsplit('/').next().unwrap())
        };
        assert_eq!(id(&sources), "toml from config.toml, line 6, profile dev:");
        sources.environment = environment;
        assert_eq!(id(&sources), "env from $KPIPE_CLIENT_ID");
        sources.profile = Some("prod");
        assert_eq!(id(&sources), "prod from config.toml, line 10, profile prod:");
        sources.file = Some(&file);
        assert_eq!(id(&sources), "file from client.properties, line 1:");
        let settings = ["client.id=typed".to_owned()];
        sources.settings = &settings;
        assert_eq!(id(&sources), "typed from -X");
        sources.profile = None;
        let all = Properties::collect(&sources).unwrap();
        assert_eq!(
            (all.text("acks"), all.text("linger.ms"), all.text("compression.type")),
            (Some("1"), Some("5"), Some("zstd"))
        );
        assert_eq!(all.list().find(|(name, _)| *name == "client.id").unwrap().1.len(), 4, "with what is overridden");
        sources.topic = None;
        assert_eq!(Properties::collect(&sources).unwrap().text("compression.type"), None);
    }

    #[test]
    fn no_secret_is_shown() {
        let set = Properties::of(&["sasl.password=hunter2", "sasl.mechanism=x"]).unwrap();
        let listed: Vec<String> = set.list().map(|(name, v)| format!("{name}={}", v[0].text)).collect();
        assert_eq!(listed, ["sasl.mechanism=x", "sasl.password=***"]);
        assert!(!format!("{set:?}{}", set.malformed("sasl.password", "no")).contains("hunter2"));
    }
}

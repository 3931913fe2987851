//! The properties that were set: each with its value and where it was set.

use super::declarations::{self, Undeclared};
use super::property::{Declared, Property, Visibility};
use super::readers::without_core_dumps;
use super::references::{Commands, is_reference, look_up};
use super::sources::{self, Setting};
use super::{ConfigFile, profiles, shown};
use crate::error::{Error, Result, did_you_mean};
use std::collections::BTreeMap;
use std::path::Path;

/// Where properties may come from, from the weakest: a profile of `config.toml` that nobody asked for on the command
/// line, `KPIPE_*` in the environment, a profile that the command line names, a file, and settings.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    pub config: Option<&'a ConfigFile>,
    /// The names and values of environment variables.
    pub environment: Vec<(String, String)>,
    /// The profile that the command line names.
    pub profile: Option<&'a str>,
    /// The topic whose own settings of the profile count.
    pub topic: Option<&'a str>,
    /// A properties file of the Java client or librdkafka.
    pub file: Option<&'a Path>,
    /// `NAME=VALUE`, from the command line.
    pub settings: &'a [String],
    /// Brokers from the command line.
    pub brokers: Option<&'a str>,
    /// Whether commands that any source refers to are run.
    pub allow_commands: bool,
}

/// A value and where it was set.
#[derive(Clone)]
pub struct Value {
    /// The text, as it was set.
    pub text: String,
    /// Where it was set, as messages begin.
    pub origin: String,
    commands: Commands,
}

/// The properties that were set, by the Java client's name. Of the values of each, the last one counts.
#[derive(Clone, Default)]
pub struct Properties {
    values: BTreeMap<&'static str, Vec<Value>>,
    /// Names that were set to something, and have no effect.
    ignored: Vec<String>,
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.list().map(|(name, values)| (name, values[0].text.clone()))).finish()
    }
}

impl Properties {
    /// Reads all `sources` and checks each value that is not a reference.
    ///
    /// # Errors
    /// A source cannot be read, a line is malformed, a name is unknown, or a value is not of the property's type.
    pub fn collect(sources: &Sources<'_>) -> Result<Self> {
        let mut properties = Self::default();
        let from_environment = sources.environment.iter().find(|(name, _)| name == "KPIPE_PROFILE");
        let profile = sources.profile.or(from_environment.map(|(_, value)| value.as_str()));
        let profile = profiles::read(sources.config, profile, sources.topic)?;
        let environment = sources::environment(&sources.environment);
        // What is typed overrides the environment.
        let (first, second) = match sources.profile {
            None => (profile, environment),
            Some(_) => (environment, profile),
        };
        let file = sources.file.map(sources::file).transpose()?.unwrap_or_default();
        let settings = sources::settings(sources.settings)?;
        let brokers = sources.brokers.map(|brokers| Setting {
            name: "bootstrap.servers".to_owned(),
            value: brokers.to_owned(),
            origin: "-b".to_owned(),
            commands: Commands::Refused,
        });
        for mut setting in first.into_iter().chain(second).chain(file).chain(settings).chain(brokers) {
            if sources.allow_commands {
                setting.commands = Commands::Allowed;
            }
            properties.set(setting)?;
        }
        Ok(properties)
    }

    /// The same with all references looked up and checked.
    ///
    /// # Errors
    /// A reference leads nowhere, or to a value that is not of the property's type.
    pub fn looked_up(mut self) -> Result<Self> {
        for (name, values) in &mut self.values {
            // A token may change while kpipe runs: it is looked up for each connection.
            let Some(last) = values.last_mut().filter(|_| *name != declarations::SASL_OAUTHBEARER_TOKEN.name) else {
                continue;
            };
            last.text = look_up(&last.text, last.commands)
                .map_err(|why| Error::Usage(format!("{} {name}: {why}", last.origin)))?;
            check(name, last)?;
        }
        Ok(self)
    }

    fn set(&mut self, Setting { name: typed, value, origin, commands }: Setting) -> Result<()> {
        // kcat's way to say that it is a topic's.
        let bare = typed.strip_prefix("topic.").unwrap_or(&typed);
        let Some(declared) = declarations::named(&typed).or_else(|| declarations::named(bare)) else {
            match declarations::undeclared(bare, &value) {
                Undeclared::Ignored => {
                    tracing::info!(property = typed, origin, "property ignored: kpipe does not use it");
                    if !value.trim().is_empty() {
                        self.ignored.push(typed);
                    }
                    return Ok(());
                }
                Undeclared::Refused => {
                    let why =
                        "kpipe does not support this TLS restriction, and does not ignore it (remove the property)";
                    return Err(Error::Usage(format!("{origin} {typed}: {why}")));
                }
                Undeclared::Unknown => {
                    let hint = did_you_mean(&typed, declarations::names());
                    return Err(Error::Usage(format!("{origin} {typed}: unknown property{hint}")));
                }
            }
        };
        if declared.is_secret() {
            without_core_dumps();
        }
        let value = Value { text: value, origin, commands };
        if !value.text.contains("${") {
            check(declared.name(), &value)?;
        }
        self.values.entry(declared.name()).or_default().push(value);
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)?.last()
    }

    /// The value of a property: its default, or `None`, where it is not set.
    ///
    /// # Errors
    /// The value is not of the property's type; the error names where it was set.
    pub fn get<K: Declared>(&self, property: &Property<K>) -> Result<K::Output> {
        let text = self.value(property.name).map(|value| value.text.as_str());
        property.kind.read(text).map_err(|why| self.malformed(property, &why))
    }

    /// The value of a flag, else of the property that means the same.
    ///
    /// # Errors
    /// As [`Properties::get`], or the flag's value is out of the property's range.
    pub fn resolve<K: Declared>(&self, flag: Option<K::Value>, property: &Property<K>) -> Result<K::Output> {
        match flag {
            None => self.get(property),
            Some(value) => property.kind.accept(value).map_err(|why| {
                let flag = property.flag.unwrap_or(property.name);
                Error::Usage(format!("{flag}: {why}"))
            }),
        }
    }

    /// Whether the property was set.
    pub fn is_set<K>(&self, property: &Property<K>) -> bool {
        self.values.contains_key(property.name)
    }

    /// The names of all that was set, with and without effect.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().copied().chain(self.ignored.iter().map(String::as_str))
    }

    /// A function that looks up what the property refers to, as it is at each call.
    pub(super) fn late<K>(&self, property: &Property<K>) -> Option<impl Fn() -> Result<String, String> + use<K>> {
        let Value { text, commands, .. } = self.value(property.name)?.clone();
        Some(move || look_up(&text, commands))
    }

    /// All that was set, by name: of each property the value that counts, then those it overrides; secrets are masked.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, Vec<Value>)> {
        let masked = |name: &str, value: &Value| Value { text: masked(name, &value.text), ..value.clone() };
        self.values.iter().map(move |(name, values)| (*name, values.iter().rev().map(|v| masked(name, v)).collect()))
    }

    /// The error for a value that is not usable; a secret is not repeated.
    pub fn malformed<K>(&self, property: &Property<K>, why: &str) -> Error {
        match self.value(property.name) {
            Some(value) if property.visibility == Visibility::Public => wrong(property.name, value, why),
            Some(value) => wrong(property.name, &Value { text: "***".to_owned(), ..value.clone() }, why),
            None => Error::Usage(format!("{}: {why}", property.name)),
        }
    }

    /// Properties as `-X` sets them, for tests.
    #[cfg(test)]
    pub fn of(settings: &[&str]) -> Result<Self> {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        Self::collect(&Sources { settings: &settings, ..Sources::default() })?.looked_up()
    }
}

/// Checks that the value is of the property's type.
fn check(name: &str, value: &Value) -> Result<()> {
    let checked = declarations::named(name).map_or(Ok(()), |declared| declared.check(&value.text));
    checked.map_err(|why| wrong(name, &Value { text: masked(name, &value.text), ..value.clone() }, &why))
}

fn wrong(name: &str, value: &Value, why: &str) -> Error {
    Error::Usage(format!("{} {name}={}: {why}", value.origin, shown::without_user_information(&value.text)))
}

/// What may be shown of a value. Where a secret is may be seen, the secret not.
fn masked(name: &str, text: &str) -> String {
    let secret = declarations::named(name).is_none_or(|declared| declared.is_secret());
    if secret && !is_reference(text) { "***".to_owned() } else { shown::without_user_information(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::declarations::*;
    use crate::engine::{Acks, Codec};
    use std::time::Duration;

    #[test]
    fn both_spellings_mean_the_same_property() {
        let set = |setting: &str| Properties::of(&[setting]).unwrap();
        assert_eq!(set("metadata.broker.list=a:1").get(&BOOTSTRAP_SERVERS).unwrap(), "a:1");
        assert_eq!(set("topic.acks=1").get(&ACKS).unwrap(), Acks::Leader);
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
        let config = ConfigFile { path: config, is_named: true };
        let mut sources = Sources { config: Some(&config), topic: Some("orders"), ..Sources::default() };
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
        assert_eq!(all.get(&ACKS).unwrap(), Acks::Leader);
        assert_eq!(all.get(&LINGER).unwrap(), Duration::from_millis(5));
        assert_eq!(all.get(&COMPRESSION_TYPE).unwrap().codec, Codec::Zstd);
        assert_eq!(all.list().find(|(name, _)| *name == "client.id").unwrap().1.len(), 4, "with what is overridden");
        sources.topic = None;
        assert!(!Properties::collect(&sources).unwrap().is_set(&COMPRESSION_TYPE));
    }

    #[test]
    fn a_value_that_nobody_reads_is_checked_where_it_was_set() {
        let error = |setting: &str| Properties::of(&[setting]).unwrap_err().to_string();
        assert_eq!(
            error("fetch.min.bytes=nonsense"),
            "-X fetch.min.bytes=nonsense: expected a size like 1000000, 64k or 1M"
        );
        assert_eq!(error("session.timeout.ms=0"), "-X session.timeout.ms=0: expected 1 to 2147483647 ms");
        assert!(error("linger.ms=99999999999999999999").contains("-X linger.ms="));
        let dir = tempfile::tempdir().unwrap();
        let (file, value) = (dir.path().join("client.properties"), dir.path().join("value"));
        std::fs::write(&value, "soon\n").unwrap();
        std::fs::write(&file, format!("acks=all\nlinger.ms=${{file:{}}}\n", value.display())).unwrap();
        let collected = Properties::collect(&Sources { file: Some(&file), ..Sources::default() }).unwrap();
        let error = collected.looked_up().unwrap_err().to_string();
        assert!(error.contains("client.properties, line 2: linger.ms=soon: expected a number of milli"), "{error}");
    }

    #[test]
    fn what_protects_is_never_ignored() {
        for setting in ["enable.ssl.certificate.verification=false", "ssl.sigalgs.list=ed25519", "ssl.provider=BCFIPS"]
        {
            let error = Properties::of(&[setting]).unwrap_err().to_string();
            assert!(error.contains("kpipe always verifies") || error.contains("does not ignore it"), "{error}");
        }
        for setting in ["enable.ssl.certificate.verification=true", "ssl.provider=", "ssl.trustmanager.algorithm=PKIX"]
        {
            assert!(Properties::of(&[setting]).is_ok(), "{setting}");
        }
    }

    #[test]
    fn a_flag_overrides_its_property_and_has_the_same_range() {
        let set = Properties::of(&["linger.ms=5"]).unwrap();
        assert_eq!(set.resolve(None, &LINGER).unwrap(), Duration::from_millis(5));
        assert_eq!(set.resolve(Some(Duration::ZERO), &LINGER).unwrap(), Duration::ZERO);
        let error = set.resolve(Some(Duration::from_secs(1 << 40)), &LINGER).unwrap_err().to_string();
        assert_eq!(error, "--linger: expected 0 to 2147483647 ms");
        assert_eq!(set.get(&DELIVERY_TIMEOUT).unwrap(), Duration::from_secs(120), "the default");
        assert_eq!(set.get(&SESSION_TIMEOUT).unwrap(), None);
    }

    /// Each property gets a value that would be noticed wherever it is shown.
    #[test]
    fn no_secret_is_shown() {
        const MARKER: &str = "hunter2hunter2";
        let mut secrets = 0;
        for declared in declarations::all() {
            let value = if declared.is_secret() { MARKER.to_owned() } else { format!("https://me:{MARKER}@host/") };
            for name in std::iter::once(declared.name()).chain(declared.aliases().iter().copied()) {
                let said = match Properties::of(&[&format!("{name}={value}")]) {
                    Err(error) => format!("{error} {error:?}"),
                    Ok(set) => {
                        let listed: Vec<String> = set.list().map(|(_, values)| values[0].text.clone()).collect();
                        let resolved = crate::config::security::resolve(&set);
                        let registry = crate::config::registry(&set, Some("http://h"), std::sync::Arc::new(()));
                        format!("{set:?} {listed:?} {resolved:?} {registry:?}")
                    }
                };
                assert!(!said.contains(MARKER), "{name}: {said}");
            }
            secrets += usize::from(declared.is_secret());
        }
        assert!(secrets >= 10);
        let set = Properties::of(&["sasl.password=x"]).unwrap();
        assert_eq!(set.list().map(|(_, v)| v[0].text.clone()).collect::<Vec<_>>(), ["***"]);
    }

    #[test]
    fn commands_need_the_permission_of_the_command_line() {
        let settings = ["client.id=${command:echo me}".to_owned()];
        let mut sources = Sources { settings: &settings, ..Sources::default() };
        let found = |sources: &Sources<'_>| Properties::collect(sources).unwrap().looked_up();
        assert!(found(&sources).unwrap_err().to_string().contains("--allow-commands"));
        sources.allow_commands = true;
        assert_eq!(found(&sources).unwrap().get(&CLIENT_ID).unwrap(), "me");
    }
}

//! The places that properties come from: files of the Java client and of librdkafka, `config.toml`, the environment,
//! `-X`; and the secrets that they refer to.

use super::properties::{PROPERTIES, is_secret};
use crate::error::{Error, Result, describe_io, did_you_mean};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// A property as a source has it.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
    /// Where it stands, as messages begin.
    pub(super) origin: String,
}

/// Names that only librdkafka knows: a file that has one, and none of Java's, is read as librdkafka reads it.
const OF_LIBRDKAFKA: [&str; 9] = [
    "metadata.broker.list",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "socket.timeout.ms",
    "compression.codec",
];
/// Names that only the Java client knows.
const OF_JAVA: [&str; 6] = [
    "sasl.jaas.config",
    "ssl.truststore.location",
    "ssl.truststore.type",
    "ssl.keystore.type",
    "key.deserializer",
    "key.serializer",
];

/// `NAME=VALUE` from the command line.
pub(super) fn settings(typed: &[String]) -> Result<Vec<Setting>> {
    let setting = |setting: &String| {
        let (name, value) =
            setting.split_once('=').ok_or_else(|| Error::Usage(format!("-X {setting}: expected NAME=VALUE")))?;
        Ok(Setting { name: name.trim().to_owned(), value: value.trim().to_owned(), origin: "-X".to_owned() })
    };
    typed.iter().map(setting).collect()
}

/// `KPIPE_SASL_PASSWORD` is `sasl.password`; `KPIPE_BROKERS` is short for `KPIPE_BOOTSTRAP_SERVERS`.
pub(super) fn environment(variables: &[(String, String)]) -> Vec<Setting> {
    let mut found = Vec::new();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix("KPIPE_") else { continue };
        let name = match name {
            "BROKERS" => "bootstrap.servers".to_owned(),
            "PROFILE" | "CONFIG" => continue,
            name => name.to_ascii_lowercase().replace('_', "."),
        };
        if PROPERTIES.iter().any(|(known, aliases)| *known == name || aliases.contains(&name.as_str())) {
            found.push(Setting { name, value: value.clone(), origin: format!("${variable}") });
        } else {
            // Kubernetes sets such names for a service that is called kpipe: no error.
            let hint = did_you_mean(&name, PROPERTIES.iter().map(|(name, _)| *name));
            tracing::info!("${variable} is no property{hint}");
        }
    }
    found
}

/// Reads a properties file, as its names tell: as Java does, or as librdkafka and kcat do, where a backslash is
/// itself and a line is whole.
pub(super) fn file(path: &Path) -> Result<Vec<Setting>> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| Error::Usage(format!("-F {shown}: {}", describe_io(&e))))?;
    let has = |names: &[&str], found: &Lines| {
        found.as_ref().is_ok_and(|found| found.iter().any(|(_, name, _)| names.contains(&name.as_str())))
    };
    let plain = plain_lines(&bytes);
    let lines = if has(&OF_LIBRDKAFKA, &plain) && !has(&OF_JAVA, &plain) { plain } else { java_lines(&bytes) };
    let lines = lines.map_err(|(line, why)| Error::Usage(format!("-F {shown}, line {line}: {why}")))?;
    let settings: Vec<Setting> = lines
        .into_iter()
        .map(|(line, name, value)| Setting { name, value, origin: format!("-F {shown}, line {line}:") })
        .collect();
    warn_of_readers(path, &settings);
    Ok(settings)
}

type Lines = std::result::Result<Vec<(usize, String, String)>, (usize, String)>;

/// Line number, name and value of each property, as `java.util.Properties` reads them (Latin-1, escapes, lines that
/// go on).
fn java_lines(bytes: &[u8]) -> Lines {
    let mut found = Vec::new();
    for line in java_properties::PropertiesIter::new(bytes) {
        let line = line.map_err(|e| (e.line_number().unwrap_or(1), "malformed, perhaps a \\u escape".to_owned()))?;
        if let java_properties::LineContent::KVPair(name, value) = line.content() {
            found.push((line.line_number(), name.clone(), value.clone()));
        }
    }
    Ok(found)
}

fn plain_lines(bytes: &[u8]) -> Lines {
    let text = std::str::from_utf8(bytes).map_err(|_| (1, "no UTF-8".to_owned()))?;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or((index + 1, "expected NAME=VALUE".to_owned()))?;
        found.push((index + 1, name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(found)
}

/// Warns of a file that gives a secret away to every user of the machine.
fn warn_of_readers(path: &Path, settings: &[Setting]) {
    use std::os::unix::fs::PermissionsExt;
    let Some(secret) = settings.iter().find(|setting| is_secret(&setting.name, &setting.value)) else { return };
    if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
        let path = path.display();
        tracing::warn!("{path} holds {} and every user can read it: chmod 600 {path}", secret.name);
    }
}

/// The properties of `config.toml`: those for all, the profile's, and the profile's for `topic`.
pub(super) fn profile(
    config: Option<(&Path, bool)>,
    wanted: Option<&str>,
    topic: Option<&str>,
) -> Result<Vec<Setting>> {
    let none = |wanted: &str, why: &str| Err(Error::Usage(format!("--profile {wanted}: {why}")));
    let Some((path, named)) = config else {
        return wanted.map_or(Ok(Vec::new()), |wanted| none(wanted, "there is no home to look for config.toml in"));
    };
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => match wanted {
            None => return Ok(Vec::new()),
            Some(wanted) => return none(wanted, &format!("there is no {shown}")),
        },
        Err(e) => return Err(Error::Usage(format!("{shown}: {}", describe_io(&e)))),
    };
    let file = File { path, text: &text };
    let root = DeTable::parse(&text).map_err(|e| file.wrong(e.span().map_or(0, |span| span.start), e.message()))?;
    let root = root.into_inner();
    for (key, value) in &root {
        if !["profile", "properties", "profiles"].contains(&key.get_ref().as_ref()) {
            let hint = did_you_mean(key.get_ref(), ["profile", "properties", "profiles"]);
            return Err(file.wrong(value.span().start, &format!("unknown {}{hint}", key.get_ref())));
        }
    }
    let mut found = Vec::new();
    if let Some(all) = root.get("properties") {
        file.flatten("", all, "", &mut found)?;
    }
    let default = match root.get("profile") {
        None => None,
        Some(name) => match name.get_ref() {
            DeValue::String(name) => Some(name.as_ref()),
            _ => return Err(file.wrong(name.span().start, "profile is the name of one")),
        },
    };
    if let Some(name) = wanted.or(default) {
        let profiles = root.get("profiles").and_then(|profiles| profiles.get_ref().as_table());
        let Some(profile) = profiles.and_then(|profiles| profiles.get(name)) else {
            let names: Vec<&str> =
                profiles.map_or(Vec::new(), |all| all.keys().map(|key| key.get_ref().as_ref()).collect());
            return none(name, &format!("{shown} has the profiles {}", names.join(", ")));
        };
        let Some(entries) = profile.get_ref().as_table() else {
            return Err(file.wrong(profile.span().start, "a profile is a table"));
        };
        let label = format!(", profile {name}");
        for (key, value) in entries {
            if key.get_ref() != "topics" {
                file.flatten(key.get_ref(), value, &label, &mut found)?;
            }
        }
        let topics = entries.get("topics").and_then(|topics| topics.get_ref().as_table());
        if let Some((topic, own)) = topic.and_then(|topic| Some((topic, topics?.get(topic)?))) {
            file.flatten("", own, &format!("{label}, topic {topic}"), &mut found)?;
        }
    }
    warn_of_readers(path, &found);
    Ok(found)
}

/// A TOML file that is read.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn wrong(&self, at: usize, why: &str) -> Error {
        Error::Usage(format!("{}, line {}: {why}", self.path.display(), self.line(at)))
    }

    /// `sasl.password = "x"` and `"sasl.password" = "x"` are the same property.
    fn flatten(
        &self,
        name: &str,
        value: &toml::Spanned<DeValue<'_>>,
        label: &str,
        into: &mut Vec<Setting>,
    ) -> Result<()> {
        let text = match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    let dot = if name.is_empty() { "" } else { "." };
                    self.flatten(&format!("{name}{dot}{}", key.get_ref()), value, label, into)?;
                }
                return Ok(());
            }
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(yes) => yes.to_string(),
            DeValue::Array(_) | DeValue::Datetime(_) => {
                return Err(
                    self.wrong(value.span().start, &format!("{name}: expected text, a number or true or false"))
                );
            }
        };
        let at = value.span().start;
        let origin = format!("{}, line {}{label}:", self.path.display(), self.line(at));
        into.push(Setting { name: name.to_owned(), value: text, origin });
        Ok(())
    }
}

/// What a reference begins with.
const REFERENCES: [&str; 3] = ["${env:", "${file:", "${command:"];

/// Whether `text` says where to find something instead of the thing itself.
pub(super) fn is_reference(text: &str) -> bool {
    let whole = |begin: &&str| text.starts_with(*begin) && text.find('}') == Some(text.len() - 1);
    REFERENCES.iter().any(whole)
}

/// Puts in what is referred to: `${env:NAME}`, `${file:PATH}` (a file's first line), `${file:PATH:KEY}` (a property of a file, as
/// Kafka's FileConfigProvider has it), `${command:LINE}` (the first line that the shell's command writes).
///
/// # Errors
/// It is not there; the error tells no secret.
pub(crate) fn look_up(text: &str) -> std::result::Result<String, String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((at, begin)) = REFERENCES.iter().filter_map(|begin| Some((rest.find(begin)?, begin))).min() {
        let after = &rest[at + begin.len()..];
        let end = after.find('}').ok_or_else(|| format!("{begin}… has no closing brace"))?;
        whole.push_str(&rest[..at]);
        whole.push_str(&referred_to(begin, &after[..end])?);
        rest = &after[end + 1..];
    }
    whole.push_str(rest);
    Ok(whole)
}

fn referred_to(kind: &str, what: &str) -> std::result::Result<String, String> {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    match kind {
        "${env:" => std::env::var(what).map_err(|_| format!("${{env:{what}}}: no such variable")),
        "${file:" => {
            let (path, key) = match what.rsplit_once(':') {
                Some((path, key)) => (path, Some(key)),
                None => (what, None),
            };
            let bytes = std::fs::read(path).map_err(|e| format!("{path}: {}", describe_io(&e)))?;
            let Some(key) = key else {
                return String::from_utf8(bytes).map(|text| first_line(&text)).map_err(|_| format!("{path}: no UTF-8"));
            };
            let lines = java_lines(&bytes).map_err(|(line, why)| format!("{path}, line {line}: {why}"))?;
            let found = lines.into_iter().find(|(_, name, _)| name == key);
            found.map(|(_, _, value)| value).ok_or_else(|| format!("{path} has no {key}"))
        }
        _ => {
            let mut run = std::process::Command::new("sh");
            let run = run.args(["-c", what]).stdin(std::process::Stdio::null());
            let done = run.stderr(std::process::Stdio::inherit()).output().map_err(|e| describe_io(&e))?;
            if !done.status.success() {
                return Err(format!("the command {what} failed ({})", done.status));
            }
            let line = first_line(&String::from_utf8_lossy(&done.stdout));
            if line.is_empty() { Err(format!("the command {what} wrote nothing")) } else { Ok(line) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<(String, String)>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Ok(super::file(file.path())?.into_iter().map(|setting| (setting.name, setting.value)).collect())
    }

    #[test]
    fn files_are_read_as_their_client_reads_them() {
        let java = "# c\n! c\nsasl.jaas.config=a \\\n   b\nclient.id : x\\ty\\u0041\nacks all\n";
        let pairs = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
            expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(read(java).unwrap(), pairs(&[("sasl.jaas.config", "a b"), ("client.id", "x\tyA"), ("acks", "all")]));
        let librdkafka = "# c\nmetadata.broker.list = a:1\n\nsasl.password=a\\b\\u:c=d\n";
        assert_eq!(
            read(librdkafka).unwrap(),
            pairs(&[("metadata.broker.list", "a:1"), ("sasl.password", "a\\b\\u:c=d")])
        );
        let error = read("acks=all\nclient.id=\\uxyz\n").unwrap_err().to_string();
        assert!(error.contains(", line 2: malformed"), "{error}");
    }

    #[test]
    fn what_is_referred_to_is_put_in() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, keyed) = (dir.path().join("plain"), dir.path().join("keyed"));
        std::fs::write(&plain, "se}cret\nmore\n").unwrap();
        std::fs::write(&keyed, "other=1\npw=deep\n").unwrap();
        let (plain, keyed) = (plain.display(), keyed.display());
        assert_eq!(
            look_up(&format!("a ${{file:{plain}}} b ${{file:{keyed}:pw}} ${{command:echo c}} $d")).unwrap(),
            "a se}cret b deep c $d"
        );
        assert!(std::env::var("HOME").is_err() || look_up("${env:HOME}").unwrap() == std::env::var("HOME").unwrap());
        for (text, says) in [
            ("${env:KPIPE_NO_SUCH}", "no such variable"),
            ("${file:/none}", "/none: No such file"),
            ("${command:exit 3}", "failed (exit status: 3)"),
            ("${command:true}", "wrote nothing"),
            ("${env:X", "no closing brace"),
            (&format!("${{file:{keyed}:none}}"), "has no none"),
        ] {
            let error = look_up(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(is_reference("${env:X}") && !is_reference("x${env:X}") && !is_reference("${env:X}y"));
    }

    #[test]
    fn what_is_wrong_in_config_toml_is_named_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let load = |text: &str, wanted: Option<&str>| {
            std::fs::write(file.path(), text).unwrap();
            profile(Some((file.path(), true)), wanted, None).err().map(|e| e.to_string()).unwrap_or_default()
        };
        for (text, wanted, says) in [
            ("a\n", None, "line 1:"),
            ("[properties]\nacks = [1]\n", None, "line 2: acks: expected text"),
            ("[profile]\n", None, "profile is the name of one"),
            ("\n[profil]\n", None, "line 2: unknown profil; did you mean profile?"),
            ("[profiles.a]\n[profiles.b]\n", Some("c"), "has the profiles a, b"),
        ] {
            let error = load(text, wanted);
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert!(profile(None, Some("x"), None).is_err());
    }

    proptest! {
        #[test]
        fn any_file_is_met(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[a-z=:\\\\\n $\\{}.]{0,80}") {
            let _ = (java_lines(&bytes), plain_lines(&bytes), look_up(&text.replace("command", "")));
        }
    }
}

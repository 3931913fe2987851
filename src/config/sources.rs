//! Where settings stand: properties files of the Java client and of librdkafka, the environment, `-X`.

use super::declarations;
use super::lines::{Line, MalformedLine, java_lines, plain_lines};
use super::readers::warn_of_readers;
use super::references::{Commands, is_reference};
use crate::error::{Error, Result, describe_io, did_you_mean};
use crate::files;
use std::fs::Metadata;
use std::path::Path;

/// A property as a source has it.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
    /// Where it stands, as messages begin.
    pub(super) origin: String,
    /// Whether a command that it refers to is run.
    pub(super) commands: Commands,
}

/// Names that only librdkafka has: a file that has one, and none of Java's, is read as librdkafka reads it.
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
/// Names that only the Java client has.
const OF_JAVA: [&str; 6] = [
    "sasl.jaas.config",
    "ssl.truststore.location",
    "ssl.truststore.type",
    "ssl.keystore.type",
    "key.deserializer",
    "key.serializer",
];

/// What properties that protect begin with: a name in the environment that is not one of them is a mistake.
const PROTECTING: [&str; 7] =
    ["basic.auth.", "bearer.auth.", "https.", "sasl.", "schema.registry.", "security.", "ssl."];

/// How the names of secrets end that only other clients have.
const SECRET_ENDINGS: [&str; 5] = ["passphrase", "password", "private.key.pem", "secret", "user.info"];

/// `NAME=VALUE` from the command line. Blanks in the value are kept: the shell has taken the quotes away.
pub(super) fn settings(typed: &[String]) -> Result<Vec<Setting>> {
    let setting = |setting: &String| {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| Error::Usage(format!("-X {}: expected NAME=VALUE", shortened(setting))))?;
        let (name, value, origin) = (name.trim().to_owned(), value.to_owned(), "-X".to_owned());
        Ok(Setting { name, value, origin, commands: Commands::Refused })
    };
    typed.iter().map(setting).collect()
}

/// The first word of what is not a setting: the rest may be a secret.
fn shortened(typed: &str) -> &str {
    typed.split([' ', ':']).next().unwrap_or_default()
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
        let protects = PROTECTING.iter().any(|topic| name.starts_with(topic));
        if protects || declarations::named(&name).is_some() {
            let origin = format!("${variable}");
            found.push(Setting { name, value: value.clone(), origin, commands: Commands::Refused });
        } else {
            // Kubernetes sets such names for a service that is called kpipe: no error.
            let hint = did_you_mean(&name, declarations::names());
            tracing::info!("${variable} is not a property{hint}");
        }
    }
    found
}

/// Reads a properties file. Its names decide how: as Java does, or as librdkafka and kcat do, where a backslash is
/// itself and a line is whole.
pub(super) fn file(path: &Path) -> Result<Vec<Setting>> {
    let shown = path.display();
    let (bytes, metadata) = files::read_with_metadata(path, files::SETTINGS_LIMIT)
        .map_err(|e| Error::Usage(format!("-F {shown}: {}", describe_io(&e))))?;
    let bytes = files::without_mark(&bytes);
    let has = |names: &[&str], found: &std::result::Result<Vec<Line>, MalformedLine>| {
        found.as_ref().is_ok_and(|found| found.iter().any(|line| names.contains(&line.name.as_str())))
    };
    let plain = plain_lines(bytes);
    let lines = if has(&OF_LIBRDKAFKA, &plain) && !has(&OF_JAVA, &plain) { plain } else { java_lines(bytes) };
    let lines =
        lines.map_err(|MalformedLine { number, why }| Error::Usage(format!("-F {shown}, line {number}: {why}")))?;
    let setting = |Line { number, name, value }| {
        let origin = format!("-F {shown}, line {number}:");
        Setting { name, value, origin, commands: Commands::Refused }
    };
    let settings: Vec<Setting> = lines.into_iter().map(setting).collect();
    warn_of_secrets(path, &settings, &metadata);
    let refers = |setting: &&Setting| setting.value.contains("${") || setting.value.starts_with("file:");
    if metadata.is_file()
        && files::is_writable_by_others(&metadata)
        && let Some(Setting { name, .. }) = settings.iter().find(refers)
    {
        tracing::warn!("{shown} refers to a file in {name} and is writable by others (chmod go-w {shown})");
    }
    Ok(settings)
}

/// Whether a property that is set to `text` gives a secret to those who read it.
fn contains_secret(name: &str, text: &str) -> bool {
    let referred = is_reference(text) || text.contains("assword=\"${");
    let is_secret = match declarations::named(name) {
        Some(declared) => declared.is_secret(),
        None => SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending)),
    };
    is_secret && !referred
}

/// Warns if a file with secrets among its settings is readable by others.
pub(super) fn warn_of_secrets(path: &Path, settings: &[Setting], metadata: &Metadata) {
    if let Some(secret) = settings.iter().find(|setting| contains_secret(&setting.name, &setting.value)) {
        warn_of_readers(path, &secret.name, metadata);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_byte_order_mark_belongs_to_no_name() {
        for text in ["\u{feff}acks=all\n", "\u{feff}sasl.password=x\n"] {
            assert!(!read(text).unwrap()[0].0.contains('\u{feff}'));
            assert!(read(text).unwrap()[0].0.is_ascii(), "{text}");
        }
    }

    #[test]
    fn an_endless_file_of_settings_is_refused() {
        let error = file(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("-F /dev/zero: larger than"), "{error}");
    }

    #[test]
    fn a_setting_keeps_its_blanks_and_a_malformed_one_is_not_repeated_whole() {
        let set = settings(&["sasl.password= two words ".to_owned()]).unwrap();
        assert_eq!(set[0].value, " two words ");
        let error = settings(&["sasl.password hunter2".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "-X sasl.password: expected NAME=VALUE");
    }
}

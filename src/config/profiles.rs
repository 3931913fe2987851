//! `config.toml`: properties for all, profiles, and in them properties for one topic.

use super::ConfigFile;
use super::references::Commands;
use super::sources::{Setting, warn_of_secrets};
use crate::error::{Error, Result, describe_io, did_you_mean};
use crate::files;
use std::io;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// What may stand at the top of the file.
const TOP: [&str; 3] = ["profile", "properties", "profiles"];

/// Reads the properties of `config.toml`: those for all, the profile's, and the profile's for `topic`. A file that nobody
/// named may be missing.
pub(super) fn read(config: Option<&ConfigFile>, wanted: Option<&str>, topic: Option<&str>) -> Result<Vec<Setting>> {
    let none = |wanted: &str, why: &str| Err(no_profile(wanted, why));
    let Some(ConfigFile { path, is_named }) = config else {
        return wanted.map_or(Ok(Vec::new()), |wanted| none(wanted, "no home directory to find config.toml in"));
    };
    let shown = path.display();
    let failed = |e: &io::Error| Error::Usage(format!("{shown}: {}", describe_io(e)));
    let (bytes, metadata) = match files::read_with_metadata(path, files::SETTINGS_LIMIT) {
        Ok(read) => read,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !is_named => match wanted {
            None => return Ok(Vec::new()),
            Some(wanted) => return none(wanted, &format!("{shown} does not exist")),
        },
        Err(e) => return Err(failed(&e)),
    };
    let text =
        std::str::from_utf8(files::without_mark(&bytes)).map_err(|_| Error::Usage(format!("{shown}: not UTF-8")))?;
    let own = metadata.is_file() && !files::is_writable_by_others(&metadata);
    let commands = if own { Commands::Allowed } else { Commands::Refused };
    let found = File::new(path, text, commands).settings(wanted, topic)?;
    warn_of_secrets(path, &found, &metadata);
    Ok(found)
}

fn no_profile(wanted: &str, why: &str) -> Error {
    Error::Usage(format!("--profile {wanted}: {why}"))
}

/// A file that is read.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    commands: Commands,
}

impl<'a> File<'a> {
    fn new(path: &'a Path, text: &'a str, commands: Commands) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { path, text, lines: std::iter::once(0).chain(ends).collect(), commands }
    }

    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at)
    }

    fn malformed(&self, at: usize, why: &str) -> Error {
        Error::Usage(format!("{}, line {}: {why}", self.path.display(), self.line(at)))
    }

    fn settings(&self, wanted: Option<&str>, topic: Option<&str>) -> Result<Vec<Setting>> {
        let root = DeTable::parse(self.text)
            .map_err(|e| self.malformed(e.span().map_or(0, |span| span.start), e.message()))?;
        let root = root.into_inner();
        for (key, value) in &root {
            if !TOP.contains(&key.get_ref().as_ref()) {
                let hint = did_you_mean(key.get_ref(), TOP);
                return Err(self.malformed(value.span().start, &format!("unknown {}{hint}", key.get_ref())));
            }
        }
        let mut found = Vec::new();
        if let Some(all) = root.get("properties") {
            self.flatten("", all, "", &mut found)?;
        }
        let default = match root.get("profile") {
            None => None,
            Some(name) => match name.get_ref() {
                DeValue::String(name) => Some(name.as_ref()),
                _ => return Err(self.malformed(name.span().start, "profile must be the name of a profile")),
            },
        };
        if let Some(name) = wanted.or(default) {
            self.profile(&root, name, topic, &mut found)?;
        }
        Ok(found)
    }

    fn profile(&self, root: &DeTable<'_>, name: &str, topic: Option<&str>, into: &mut Vec<Setting>) -> Result<()> {
        let profiles = root.get("profiles").and_then(|profiles| profiles.get_ref().as_table());
        let Some(profile) = profiles.and_then(|profiles| profiles.get(name)) else {
            let names: Vec<&str> =
                profiles.map_or(Vec::new(), |all| all.keys().map(|key| key.get_ref().as_ref()).collect());
            let shown = self.path.display();
            return Err(no_profile(name, &format!("no such profile in {shown}; it has {}", names.join(", "))));
        };
        let Some(entries) = profile.get_ref().as_table() else {
            return Err(self.malformed(profile.span().start, "a profile must be a table"));
        };
        let label = format!(", profile {name}");
        for (key, value) in entries {
            if key.get_ref() != "topics" {
                self.flatten(key.get_ref(), value, &label, into)?;
            }
        }
        let topics = entries.get("topics").and_then(|topics| topics.get_ref().as_table());
        if let Some((topic, own)) = topic.and_then(|topic| Some((topic, topics?.get(topic)?))) {
            self.flatten("", own, &format!("{label}, topic {topic}"), into)?;
        }
        Ok(())
    }

    /// `sasl.password = "x"` and `"sasl.password" = "x"` are the same property.
    fn flatten(
        &self,
        name: &str,
        value: &toml::Spanned<DeValue<'_>>,
        label: &str,
        into: &mut Vec<Setting>,
    ) -> Result<()> {
        let at = value.span().start;
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
                return Err(self.malformed(at, &format!("{name}: expected text, a number or true or false")));
            }
        };
        let origin = format!("{}, line {}{label}:", self.path.display(), self.line(at));
        into.push(Setting { name: name.to_owned(), value: text, origin, commands: self.commands });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_wrong_in_config_toml_is_named_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let load = |text: &str, wanted: Option<&str>| {
            std::fs::write(file.path(), text).unwrap();
            read(Some(&ConfigFile { path: file.path().to_owned(), is_named: true }), wanted, None)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
        };
        for (text, wanted, says) in [
            ("a\n", None, "line 1:"),
            ("[properties]\nacks = [1]\n", None, "line 2: acks: expected text"),
            ("[profile]\n", None, "profile must be the name of a profile"),
            ("\n[profil]\n", None, "line 2: unknown profil; did you mean profile?"),
            ("[profiles.a]\n[profiles.b]\n", Some("c"), "it has a, b"),
        ] {
            let error = load(text, wanted);
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert_eq!(load("\u{feff}[properties]\nacks = 1\n", None), "", "a byte order mark is skipped");
        assert!(read(None, Some("x"), None).is_err());
    }

    #[test]
    fn commands_are_run_only_from_a_file_that_nobody_else_can_write_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[properties]\nclient.id = \"x\"\n").unwrap();
        let commands = |mode: u32| {
            std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
            read(Some(&ConfigFile { path: file.path().to_owned(), is_named: true }), None, None).unwrap()[0].commands
        };
        assert_eq!(
            [0o600, 0o644, 0o664, 0o646].map(commands),
            [Commands::Allowed, Commands::Allowed, Commands::Refused, Commands::Refused]
        );
    }
}

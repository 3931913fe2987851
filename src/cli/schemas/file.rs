//! A schema in a file, and what it refers to in the registry.

use super::SubjectVersion;
use crate::cli::named::named_api;
use crate::error::{Error, Result};
use crate::files;
use crate::registry::{Language, NewSchema, ReferenceName, Registry, VersionChoice};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct SchemaFile {
    /// File with the schema; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Type of the schema [default: by the file's name: .avsc, .proto or .json]
    #[arg(long = "type", value_name = "TYPE", value_parser = named_api(&Language::ALL, Language::name))]
    language: Option<Language>,
    /// A schema that this one refers to as NAME, by subject and version [default version: latest]
    #[arg(long = "reference", value_name = "NAME=SUBJECT[:VERSION]", value_parser = parse_reference)]
    references: Vec<(String, SubjectVersion)>,
}

fn parse_reference(text: &str) -> Result<(String, SubjectVersion), String> {
    let (name, subject) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=SUBJECT:VERSION")?;
    Ok((name.to_owned(), subject.parse()?))
}

impl SchemaFile {
    /// The schema. What it refers to by its latest version is looked up.
    ///
    /// # Errors
    /// The file cannot be read, its type is not known, or the registry does not have what it refers to.
    pub(super) fn read(&self, registry: &Registry) -> Result<NewSchema> {
        let name = self.file.display();
        let language = match self.language {
            Some(language) => language,
            None => match self.file.extension().and_then(|extension| extension.to_str()) {
                Some("avsc") => Language::Avro,
                Some("proto") => Language::Protobuf,
                Some("json") => Language::JsonSchema,
                _ => return Err(Error::Usage(format!("{name}: the type of the schema is not known (use --type)"))),
            },
        };
        let bytes = if self.file.as_os_str() == "-" {
            if crate::stdio::is_stdin_closed() {
                return Err(Error::Io("stdin is closed".to_owned()));
            }
            files::read_all(std::io::stdin(), files::SETTINGS_LIMIT)
        } else {
            files::read(&self.file, files::SETTINGS_LIMIT)
        };
        let bytes = bytes.map_err(|e| Error::io(name, &e))?;
        let text = std::str::from_utf8(files::without_mark(&bytes));
        let text = text.map_err(|_| Error::Io(format!("{}: not UTF-8", self.file.display())))?.to_owned();
        let mut references = Vec::new();
        for (name, SubjectVersion { subject, version }) in &self.references {
            let version = match version {
                Some(VersionChoice::Number(number)) => *number,
                None | Some(VersionChoice::Latest) => registry.version(subject, VersionChoice::Latest)?.version,
            };
            references.push(ReferenceName { name: name.clone(), subject: subject.clone(), version });
        }
        Ok(NewSchema { language, text, references })
    }
}

//! The flags of `consume` and `produce` about schemas.

use super::Context;
use super::registry::RegistryArgs;
use crate::codec::framed::{Form, Loaded, PartForm, SchemaFile, SchemaForm, Source};
use crate::codec::schema::{BadSchema, MessageChoice, Schema, protobuf};
use crate::error::{Error, Result, describe_io};
use crate::files;
use crate::registry::{Language, SchemaId};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(next_help_heading = "Schemas")]
pub(super) struct SchemaArgs {
    #[command(flatten)]
    pub(super) registry: RegistryArgs,
    /// Schema to use for an ID, a GUID or an AWS Glue version, instead of asking the registry
    #[arg(long = "schema", value_name = "ID=TYPE:FILE", value_parser = parse_given)]
    given: Vec<(SchemaId, SchemaFile)>,
    /// Directory for the imports of Protobuf files [default: that of the file]
    #[arg(long, value_name = "DIR")]
    proto_path: Vec<PathBuf>,
}

fn parse_given(text: &str) -> Result<(SchemaId, SchemaFile), String> {
    let (id, file) =
        text.split_once('=').ok_or("expected ID=avro:FILE, ID=protobuf:FILE#MESSAGE or ID=json-schema:FILE")?;
    Ok((id.parse()?, file.parse()?))
}

/// The bytes of a schema's file.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(file: &SchemaFile) -> Result<Vec<u8>> {
    files::read(&file.path, files::SETTINGS_LIMIT).map_err(|e| Error::io(file.path.display(), &e))
}

/// The text of a schema's file, whose `bytes` were read.
///
/// # Errors
/// They are not text.
pub(super) fn text<'a>(file: &SchemaFile, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(files::without_mark(bytes));
    text.map_err(|_| Error::Io(format!("{}: not UTF-8", file.path.display())))
}

impl SchemaArgs {
    /// Whether a schema is given for an ID.
    pub(super) fn has_given(&self) -> bool {
        !self.given.is_empty()
    }

    /// Refuses flags that have no effect without a schema.
    ///
    /// # Errors
    /// One of these, or of `more`, is given without.
    pub(super) fn check(&self, has_schemas: bool, more: &[(bool, &str)]) -> Result<()> {
        let own = [(!self.given.is_empty(), "--schema"), (!self.proto_path.is_empty(), "--proto-path")];
        match own.iter().chain(more).find(|(is_given, _)| *is_given && !has_schemas) {
            Some((_, flag)) => {
                Err(Error::Usage(format!("{flag} requires --key-as or --value-as auto, avro, protobuf or json-schema")))
            }
            None => Ok(()),
        }
    }

    /// Where schemas are looked up, for keys and values of these `forms`.
    ///
    /// # Errors
    /// A file or the registry's settings are not usable, or there is no registry to look schemas up in.
    pub(super) fn source(&self, context: &Context, forms: [&Form; 2]) -> Result<Source> {
        let registry = self.registry.connect(context)?;
        let asks = forms.iter().any(|form| matches!(form.schema(), Some(SchemaForm::Auto | SchemaForm::Named(_))));
        if asks && registry.is_none() && self.given.is_empty() {
            return Err(Error::Usage(
                "no schema registry is set (use --registry URL, --schema ID=FILE or --value-as avro:FILE)".to_owned(),
            ));
        }
        let mut source = Source::new(registry);
        for (id, file) in &self.given {
            source.give(*id, self.load(file)?);
        }
        Ok(source)
    }

    /// A form with the schema of the file that it names; `None` if it has no schema.
    ///
    /// # Errors
    /// The file cannot be read, or is not a schema.
    pub(super) fn part(&self, form: &Form) -> Result<Option<PartForm>> {
        let Some(form) = form.schema() else { return Ok(None) };
        let own = match form {
            SchemaForm::File(file) => Some(self.load(file)?),
            SchemaForm::Auto | SchemaForm::Named(_) => None,
        };
        Ok(Some(PartForm { form: form.clone(), own }))
    }

    /// Reads a schema from a file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a schema.
    pub(super) fn load(&self, file: &SchemaFile) -> Result<Loaded> {
        self.parse(file, &read(file)?)
    }

    /// Parses the `bytes` of a schema's file.
    ///
    /// # Errors
    /// They are not a schema.
    pub(super) fn parse(&self, file: &SchemaFile, bytes: &[u8]) -> Result<Loaded> {
        let wrong = |why| Error::Usage(format!("{}: {why}", file.path.display()));
        let schema = match file.language {
            Language::Protobuf => self.protobuf(file, bytes)?.map(|schema| Schema::Protobuf(Box::new(schema))),
            language => Schema::parse(language.into(), text(file, bytes)?, &[]),
        };
        let schema = schema.map_err(wrong)?;
        let message = file.message.as_deref().map(|name| schema.message(MessageChoice::Name(name)).map_err(wrong));
        Ok(Loaded { message: message.transpose()?, schema })
    }

    /// A Protobuf file with its imports, or a set of descriptors.
    fn protobuf(&self, file: &SchemaFile, bytes: &[u8]) -> Result<Result<protobuf::Schema, BadSchema>> {
        if file.path.extension().is_none_or(|extension| extension != "proto") {
            return Ok(protobuf::Schema::of_descriptor_set(bytes));
        }
        let mut folders = self.proto_path.clone();
        if folders.is_empty() {
            folders.push(file.path.parent().map(Path::to_owned).unwrap_or_default());
        }
        // As protoc does, a file is named by its path below a folder.
        let below = folders.iter().find_map(|folder| file.path.strip_prefix(folder).ok());
        let name = below.unwrap_or(file.path.file_name().map_or(&*file.path, Path::new)).display().to_string();
        let import = move |name: &str| {
            for folder in &folders {
                let path = folder.join(name);
                match files::read(&path, files::SETTINGS_LIMIT) {
                    Ok(bytes) => {
                        let text = String::from_utf8(bytes);
                        return text.map(Some).map_err(|_| BadSchema::new(format!("{}: not UTF-8", path.display())));
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    Err(e) => return Err(BadSchema::new(format!("{}: {}", path.display(), describe_io(&e)))),
                }
            }
            Ok(None)
        };
        Ok(protobuf::Schema::load(&name, text(file, bytes)?, import))
    }
}

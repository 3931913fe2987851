//! How `produce` encodes keys and values with a schema.

use super::input::{Input, InputArgs};
use crate::cli::Context;
use crate::cli::named::named_api;
use crate::cli::schema_args::{self, SchemaArgs};
use crate::cli::schemas::SubjectVersion;
use crate::codec::framed::{
    Encoder, FileTarget, Form, Origin, PartTarget, Registration, SchemaFile, SchemaForm, Strategy, SubjectName,
    SubjectTarget, Target, Written,
};
use crate::codec::schema::{AvroForm, Options};
use crate::codec::{Encoding, Shown, View, write_string};
use crate::error::{Error, Result};
use crate::input::Read;
use crate::registry::{Language, NewSchema, Normalize, Part, SchemaId, VersionChoice};
use clap::Args;
use std::rc::Rc;

#[derive(Debug, Args)]
#[command(next_help_heading = "Schemas")]
pub(super) struct EncodeArgs {
    #[command(flatten)]
    schemas: SchemaArgs,
    /// Subject of the schema of values [default: by --subject-strategy; default version: latest]
    #[arg(long, value_name = "SUBJECT[:VERSION]", conflicts_with = "value_schema_id")]
    value_subject: Option<SubjectVersion>,
    /// Subject of the schema of keys
    #[arg(long, value_name = "SUBJECT[:VERSION]", conflicts_with = "key_schema_id")]
    key_subject: Option<SubjectVersion>,
    /// ID or GUID of the schema of values
    #[arg(long, value_name = "ID")]
    value_schema_id: Option<SchemaId>,
    /// ID or GUID of the schema of keys
    #[arg(long, value_name = "ID")]
    key_schema_id: Option<SchemaId>,
    /// Message of a Protobuf schema that values are [default: the first]
    #[arg(long, value_name = "NAME")]
    value_message: Option<String>,
    /// Message of a Protobuf schema that keys are [default: the first]
    #[arg(long, value_name = "NAME")]
    key_message: Option<String>,
    /// How a subject is named: TOPIC-value, after the type of a FILE's schema, or both
    #[arg(long, value_name = "STRATEGY", value_parser = named_api(&Strategy::ALL, Strategy::name))]
    subject_strategy: Option<Strategy>,
    /// Register the schema of a FILE if its subject does not have it
    #[arg(long)]
    register: bool,
    /// Have the registry normalize the schema
    #[arg(long, requires = "register")]
    normalize: bool,
    /// Read Avro values in the JSON encoding of Avro's specification
    #[arg(long)]
    avro_json: bool,
}

/// What is asked for one part.
struct Asked<'a> {
    part: Part,
    form: &'a Form,
    subject: Option<&'a SubjectVersion>,
    id: Option<SchemaId>,
    message: Option<&'a str>,
}

impl EncodeArgs {
    /// What encodes keys and values, if something may have to be encoded.
    ///
    /// # Errors
    /// A schema file or the registry's settings are not usable, or flags contradict each other or have no effect.
    pub(super) fn encoder(&self, context: &Context, input: &InputArgs) -> Result<Option<Encoder>> {
        let (key, value) = (&input.key_as, &input.value_as);
        let has_schemas = key.schema().or(value.schema()).is_some();
        let is_json = input.is_json();
        let keys = Asked {
            part: Part::Key,
            form: key,
            subject: self.key_subject.as_ref(),
            id: self.key_schema_id,
            message: self.key_message.as_deref(),
        };
        let values = Asked {
            part: Part::Value,
            form: value,
            subject: self.value_subject.as_ref(),
            id: self.value_schema_id,
            message: self.value_message.as_deref(),
        };
        self.schemas.check(has_schemas || is_json, &[])?;
        let has_flags = self.subject_strategy.is_some() || self.register || self.avro_json;
        if has_flags && !has_schemas {
            let why = "--subject-strategy, --register and --avro-json require --key-as or --value-as avro, protobuf or json-schema";
            return Err(Error::Usage(why.to_owned()));
        }
        let (keys, values) = (self.target(&keys)?, self.target(&values)?);
        let may_name_schemas = is_json && (self.schemas.has_given() || self.schemas.registry.is_set(context)?);
        if !has_schemas && !may_name_schemas {
            return Ok(None);
        }
        let source = self.schemas.source(context, [key, value])?;
        let avro = if self.avro_json { AvroForm::Specification } else { AvroForm::Plain };
        Ok(Some(Encoder::new(source, keys, values, Options { avro, ..Options::default() })))
    }

    fn target(&self, asked: &Asked<'_>) -> Result<PartTarget> {
        let name = asked.part.name();
        let target = match asked.form.schema() {
            None | Some(SchemaForm::Auto) => {
                let given = [
                    (asked.subject.is_some(), "subject"),
                    (asked.id.is_some(), "schema-id"),
                    (asked.message.is_some(), "message"),
                ];
                if let Some((_, flag)) = given.into_iter().find(|(is_given, _)| *is_given) {
                    let why = format!("--{name}-{flag} requires --{name}-as avro, protobuf or json-schema");
                    return Err(Error::Usage(why));
                }
                Target::Kept
            }
            Some(SchemaForm::Named(language)) => self.named(asked, *language)?,
            Some(SchemaForm::File(file)) => self.file(asked, file)?,
        };
        Ok(PartTarget { target, message: asked.message.map(str::to_owned) })
    }

    fn named(&self, asked: &Asked<'_>, language: Language) -> Result<Target> {
        if self.register {
            return Err(Error::Usage(format!(
                "--register requires the schema in a file (--{}-as {}:FILE)",
                asked.part.name(),
                language.name()
            )));
        }
        if let Some(id) = asked.id {
            return Ok(Target::Id { id, language });
        }
        Ok(Target::Subject(SubjectTarget {
            subject: self.subject(asked),
            version: asked.subject.and_then(|subject| subject.version).unwrap_or(VersionChoice::Latest),
            language,
            file: None,
        }))
    }

    fn file(&self, asked: &Asked<'_>, file: &SchemaFile) -> Result<Target> {
        let bytes = schema_args::read(file)?;
        let loaded = self.schemas.parse(file, &bytes)?;
        let is_framed = self.register || asked.subject.is_some() || self.subject_strategy.is_some();
        if asked.id.is_some() {
            let name = asked.part.name();
            let why = format!("--{name}-schema-id already names the schema (use --{name}-as {})", file.language.name());
            return Err(Error::Usage(why));
        }
        if !is_framed {
            return Ok(Target::Bare(Rc::new(loaded)));
        }
        if asked.subject.is_some_and(|subject| subject.version.is_some()) {
            let why = format!(
                "--{}-subject takes no version with a FILE: the subject has or gets its schema",
                asked.part.name()
            );
            return Err(Error::Usage(why));
        }
        let text = schema_args::text(file, &bytes)?.to_owned();
        let normalize = if self.normalize { Normalize::Normalized } else { Normalize::AsIs };
        let full_name = loaded.schema.full_name(loaded.message.unwrap_or_default()).map(str::to_owned);
        Ok(Target::Subject(SubjectTarget {
            subject: self.subject(asked),
            version: VersionChoice::Latest,
            language: file.language,
            file: Some(FileTarget {
                schema: NewSchema { language: file.language, text, references: Vec::new() },
                full_name,
                registration: if self.register { Registration::Register(normalize) } else { Registration::Never },
            }),
        }))
    }

    fn subject(&self, asked: &Asked<'_>) -> SubjectName {
        match asked.subject {
            Some(SubjectVersion { subject, .. }) => SubjectName::Named(subject.clone()),
            None => SubjectName::By(self.subject_strategy.unwrap_or_default()),
        }
    }
}

impl InputArgs {
    /// Whether records may name their schemas.
    fn is_json(&self) -> bool {
        self.input == Input::Json && !self.has_template()
    }
}

/// The JSON that was to be encoded, for a record that is not sent.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Unsent {
    /// How the record is shown, so that it can be read again as it was.
    pub(super) fn view<'a>(&'a mut self, encoder: Option<&Encoder>, read: &Read<'a>) -> View<'a> {
        let Some(encoder) = encoder else { return View::PLAIN };
        let Self { key, value } = self;
        View {
            key: shown(key, encoder.encodes(Part::Key, read.key), read.key, read.record.key),
            value: shown(value, encoder.encodes(Part::Value, read.value), read.value, read.record.value),
        }
    }
}

fn shown<'a>(json: &'a mut Vec<u8>, is_json: bool, written: Written<'a>, bytes: Option<&[u8]>) -> Shown<'a> {
    let Some(bytes) = bytes.filter(|_| is_json) else { return Shown::Plain };
    json.clear();
    match (written.origin, std::str::from_utf8(bytes)) {
        (Origin::JsonString, Ok(text)) => write_string(json, text),
        _ => Encoding::Json.write_text(json, bytes),
    }
    Shown::Json { json, schema: written.schema }
}

//! JSON → framed bytes.

use super::source::{Known, Loaded};
use super::{Source, SubjectName};
use crate::codec::schema::{MessageChoice, MessageId, Options, SchemaType};
use crate::codec::{SchemaUsed, write_string};
use crate::error::{Error, Result};
use crate::record::{Headers, RecordRef, varint};
use crate::registry::framing::{is_in_headers, write_apicurio_reference, write_frame, write_indexes};
use crate::registry::{Language, NewSchema, Normalize, Part, SchemaId, VersionChoice, or_unknown};
use std::collections::HashMap;
use std::rc::Rc;

/// What the bytes of a key or value of the input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Text, which is JSON where a schema encodes it.
    #[default]
    Text,
    /// The text of a JSON string, without its quotes and escapes.
    JsonString,
    /// The bytes of the record.
    Bytes,
}

/// A key or value as the input has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written<'a> {
    pub origin: Origin,
    /// The schema that the input names beside it.
    pub schema: SchemaUsed<'a>,
}

/// Which schema keys or values are encoded with.
#[derive(Debug)]
pub enum Target {
    /// That which the input names beside each; what names none stays as it is.
    Kept,
    /// That of a file; no frame names it.
    Bare(Rc<Loaded>),
    /// That with an ID.
    Id { id: SchemaId, language: Language },
    /// One of a subject's.
    Subject(SubjectTarget),
}

/// A schema of a subject.
#[derive(Debug)]
pub struct SubjectTarget {
    pub subject: SubjectName,
    pub version: VersionChoice,
    pub language: Language,
    /// The schema is this one, which the subject has, or gets.
    pub file: Option<FileTarget>,
}

/// A schema of a file, to be found in a subject.
#[derive(Debug)]
pub struct FileTarget {
    pub schema: NewSchema,
    /// The name of the type of its values.
    pub full_name: Option<String>,
    pub registration: Registration,
}

/// Whether a schema that a subject does not have is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    Never,
    Register(Normalize),
}

/// Why a key or value is not encoded.
#[derive(Debug)]
pub enum EncodeError {
    /// It does not fit its schema; others may.
    Unfit(String),
    /// The schema cannot be had.
    Fatal(Error),
}

impl From<Error> for EncodeError {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// A schema that values are encoded with.
#[derive(Debug, Clone)]
struct Choice {
    id: Option<SchemaId>,
    loaded: Rc<Loaded>,
}

/// How one part of records is encoded.
#[derive(Debug)]
pub struct PartTarget {
    pub target: Target,
    /// The message of a Protobuf schema.
    pub message: Option<String>,
}

/// Encodes the keys and values of records.
#[derive(Debug)]
pub struct Encoder {
    source: Source,
    options: Options,
    key: PartEncoder,
    value: PartEncoder,
}

#[derive(Debug)]
struct PartEncoder {
    part: Part,
    target: PartTarget,
    /// What was chosen for each topic.
    by_topic: HashMap<String, Choice>,
    /// What was used last, by the ID that the input named.
    kept: Option<(SchemaId, Choice)>,
    json: Vec<u8>,
    bytes: Vec<u8>,
}

impl Encoder {
    /// Encodes keys and values with these schemas.
    pub fn new(source: Source, key: PartTarget, value: PartTarget, options: Options) -> Self {
        let part = |part, target| PartEncoder {
            part,
            target,
            by_topic: HashMap::new(),
            kept: None,
            json: Vec::new(),
            bytes: Vec::new(),
        };
        Self { source, options, key: part(Part::Key, key), value: part(Part::Value, value) }
    }

    /// Looks up the schemas of a topic, so that what is missing is known before the first record.
    ///
    /// # Errors
    /// A schema cannot be had.
    pub fn prepare(&mut self, topic: &str) -> Result<()> {
        for part in [&mut self.key, &mut self.value] {
            part.chosen(topic, &mut self.source)?;
        }
        Ok(())
    }

    /// Whether a key or value is encoded, which the input has as `written`.
    pub fn encodes(&self, part: Part, written: Written<'_>) -> bool {
        let encoder = match part {
            Part::Key => &self.key,
            Part::Value => &self.value,
        };
        encoder.encodes(written)
    }

    /// The record with its key and value encoded.
    ///
    /// # Errors
    /// One does not fit its schema, or the schema cannot be had.
    pub fn encode<'a>(
        &'a mut self,
        topic: &str,
        record: RecordRef<'a>,
        key: Written<'_>,
        value: Written<'_>,
    ) -> Result<RecordRef<'a>, EncodeError> {
        let Self { source, options, key: key_encoder, value: value_encoder } = self;
        let mut encoded = record;
        if let Some(bytes) = record.key.filter(|_| key_encoder.encodes(key)) {
            encoded.key = Some(key_encoder.encode(topic, bytes, record.headers, key, source, *options)?);
        }
        if let Some(bytes) = record.value.filter(|_| value_encoder.encodes(value)) {
            encoded.value = Some(value_encoder.encode(topic, bytes, record.headers, value, source, *options)?);
        }
        Ok(encoded)
    }
}

impl PartEncoder {
    fn encodes(&self, written: Written<'_>) -> bool {
        written.origin != Origin::Bytes && (written.schema.id.is_some() || !matches!(self.target.target, Target::Kept))
    }

    fn encode(
        &mut self,
        topic: &str,
        bytes: &[u8],
        headers: Headers<'_>,
        written: Written<'_>,
        source: &mut Source,
        mut options: Options,
    ) -> Result<&[u8], EncodeError> {
        let choice = match self.chosen(topic, source)? {
            Some(choice) => choice,
            None => self.kept(written.schema.id, source)?,
        };
        let unfit = |why: String| EncodeError::Unfit(why);
        let json = match written.origin {
            Origin::JsonString => {
                self.json.clear();
                write_string(
                    &mut self.json,
                    std::str::from_utf8(bytes).map_err(|_| unfit("expected UTF-8".to_owned()))?,
                );
                &self.json[..]
            }
            Origin::Text | Origin::Bytes => bytes,
        };
        let json = std::str::from_utf8(json).map_err(|_| unfit("expected JSON".to_owned()))?;
        self.bytes.clear();
        let Choice { id, loaded } = &choice;
        if loaded.schema.kind() == SchemaType::Protobuf {
            let name = written.schema.message.or(self.target.message.as_deref());
            options.message = message(loaded, name).map_err(unfit)?;
        }
        if let Some(id) = *id
            && !is_in_headers(self.part, id, headers)
        {
            write_prefix(id, loaded, options.message, &mut self.bytes).map_err(unfit)?;
        }
        let start = self.bytes.len();
        let fits = loaded.schema.read_json(json, options, &mut self.bytes);
        let part = self.part.name();
        fits.map_err(|unfits| unfit(format!("the {part} does not fit its schema: {unfits}")))?;
        if cfg!(debug_assertions) {
            verify(loaded, options, &self.bytes[start..]).map_err(unfit)?;
        }
        Ok(&self.bytes)
    }

    /// The schema for the records of `topic`, unless each names its own.
    fn chosen(&mut self, topic: &str, source: &mut Source) -> Result<Option<Choice>> {
        if let Some(choice) = self.by_topic.get(topic) {
            return Ok(Some(choice.clone()));
        }
        let (id, language) = match &self.target.target {
            Target::Kept => return Ok(None),
            Target::Bare(loaded) => return Ok(Some(Choice { id: None, loaded: loaded.clone() })),
            Target::Id { id, language } => (*id, *language),
            Target::Subject(target) => (target.id(topic, self.part, source)?, target.language),
        };
        let choice = loaded(id, source)?.map_err(Error::ClusterState)?;
        if choice.loaded.schema.kind() != language.into() {
            return Err(Error::Usage(format!("the schema of {}s, {id}, is not {language}", self.part.name())));
        }
        self.by_topic.insert(topic.to_owned(), choice.clone());
        Ok(Some(choice))
    }

    /// The schema that the input names.
    fn kept(&mut self, id: Option<SchemaId>, source: &mut Source) -> Result<Choice, EncodeError> {
        let Some(id) = id else { return Err(EncodeError::Unfit("names no schema".to_owned())) };
        match &self.kept {
            Some((last, choice)) if *last == id => Ok(choice.clone()),
            _ => {
                let choice = loaded(id, source)?.map_err(EncodeError::Unfit)?;
                self.kept = Some((id, choice.clone()));
                Ok(choice)
            }
        }
    }
}

/// The schema with this ID.
fn loaded(id: SchemaId, source: &mut Source) -> Result<std::result::Result<Choice, String>> {
    let known = match source.known(id) {
        Some(known) => known,
        None => source.look_up(id, [])?,
    };
    Ok(match known {
        Known::Schema(loaded) => Ok(Choice { id: Some(id), loaded }),
        Known::Unknown(why) => Err(why.to_string()),
    })
}

impl SubjectTarget {
    /// The ID of the schema for the records of `topic`.
    fn id(&self, topic: &str, part: Part, source: &Source) -> Result<SchemaId> {
        let missing = || Error::Usage("no schema registry is set (use --registry URL)".to_owned());
        let registry = source.registry().ok_or_else(missing)?;
        let name = self.file.as_ref().and_then(|file| file.full_name.as_deref());
        let subject = self.subject.of(topic, part, name)?;
        let id = match &self.file {
            None => registry.version(&subject, self.version)?.id,
            Some(FileTarget { schema, registration: Registration::Register(normalize), .. }) => {
                registry.register(&subject, schema, *normalize)?
            }
            Some(FileTarget { schema, registration: Registration::Never, .. }) => {
                let version = or_unknown(registry.version_of(&subject, schema, Normalize::AsIs))?;
                let missing = || {
                    Error::ClusterState(format!(
                        "subject {subject} does not have the schema of the file (use --register to register it)"
                    ))
                };
                version.ok_or_else(missing)?.id
            }
        };
        Ok(SchemaId::Id(id))
    }
}

/// The message that `name` chooses, or else the one chosen beforehand, or the first.
fn message(loaded: &Loaded, name: Option<&str>) -> std::result::Result<MessageId, String> {
    match (name, loaded.message) {
        (Some(name), _) => loaded.schema.message(MessageChoice::Name(name)).map_err(|why| why.to_string()),
        (None, Some(message)) => Ok(message),
        (None, None) => Ok(MessageId::default()),
    }
}

/// Why a message cannot be named before a body.
const IMPORTED: &str = "the message is one of an import, which no frame can name";

/// Appends what stands before the body.
fn write_prefix(
    id: SchemaId,
    loaded: &Loaded,
    message: MessageId,
    out: &mut Vec<u8>,
) -> std::result::Result<(), String> {
    if let SchemaId::ContentId(_) = id {
        return Err(format!("{id} stands in a header, which the record does not have"));
    }
    write_frame(id, out);
    if loaded.schema.kind() == SchemaType::Protobuf {
        match id {
            SchemaId::Id(_) | SchemaId::Guid(_) => {
                write_indexes(loaded.schema.message_path(message).ok_or(IMPORTED)?, out);
            }
            SchemaId::GlobalId(_) | SchemaId::ContentId(_) => {
                write_apicurio_reference(loaded.schema.full_name(message).unwrap_or_default(), out);
            }
            SchemaId::GlueVersion(_) => {
                varint::write_unsigned(out, loaded.schema.sorted_index(message).ok_or(IMPORTED)?.into());
            }
        }
    }
    Ok(())
}

/// Decodes what was encoded, and encodes it again: the bytes must be the same.
fn verify(loaded: &Loaded, options: Options, body: &[u8]) -> std::result::Result<(), String> {
    let (mut json, mut again) = (Vec::new(), Vec::new());
    loaded.schema.write_json(body, options, &mut json).map_err(|why| format!("kpipe encoded it wrongly: {why}"))?;
    let text = std::str::from_utf8(&json).map_err(|_| "kpipe decoded it wrongly: not UTF-8".to_owned())?;
    loaded.schema.read_json(text, options, &mut again).map_err(|why| format!("kpipe decoded it wrongly: {why}"))?;
    if again == body { Ok(()) } else { Err(format!("kpipe encoded it wrongly: it decodes to {text}")) }
}

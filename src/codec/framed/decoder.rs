//! Framed bytes → JSON.

use super::source::{Known, Loaded};
use super::{SchemaForm, Source};
use crate::codec::schema::{MessageChoice, MessageId, Options, SchemaType};
use crate::codec::{SchemaUsed, Shown, View};
use crate::error::Result;
use crate::record::{RecordRef, Records, varint};
use crate::registry::framing::{Framed, MessagePlace, Packing, begins_as_text, read_apicurio_reference, read_indexes};
use crate::registry::{Framing, Part, SchemaId};
use std::io::Read;
use std::rc::Rc;

/// A body may unpack to so much.
const MOST_UNPACKED: u64 = 256 << 20;
/// So many records are looked at for IDs to ask for together.
const LOOK_AHEAD: usize = 100_000;

/// How values look, and which frames are looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecodeOptions {
    pub framing: Framing,
    pub json: Options,
    pub validation: Validation,
}

/// Whether values with a JSON Schema are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    #[default]
    Off,
    On,
}

/// The form of keys or values, with the schema of the file that it names.
#[derive(Debug)]
pub struct PartForm {
    pub form: SchemaForm,
    pub own: Option<Loaded>,
}

/// Decodes the keys and values of records.
#[derive(Debug)]
pub struct Decoder {
    source: Source,
    key: Option<PartDecoder>,
    value: Option<PartDecoder>,
}

/// Whether a key and value were decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    Decoded,
    /// One was not, and why.
    Undecodable(Part, &'a str),
}

impl<'a> View<'a> {
    /// Whether both were decoded.
    pub fn verdict(&self) -> Verdict<'a> {
        match (self.key, self.value) {
            (Shown::Undecodable { why }, _) => Verdict::Undecodable(Part::Key, why),
            (_, Shown::Undecodable { why }) => Verdict::Undecodable(Part::Value, why),
            _ => Verdict::Decoded,
        }
    }
}

impl Decoder {
    /// Decodes keys and values of these forms; `None` stays as it is.
    pub fn new(source: Source, key: Option<PartForm>, value: Option<PartForm>, options: DecodeOptions) -> Self {
        let decoder = |part, form: Option<PartForm>| {
            form.map(|PartForm { form, own }| PartDecoder::new(part, form, own.map(Rc::new), options))
        };
        Self { source, key: decoder(Part::Key, key), value: decoder(Part::Value, value) }
    }

    /// Whether a record needs no decoding, as can be told at once: it has no headers, and what may be framed is text.
    #[inline]
    pub fn leaves(&self, record: &RecordRef<'_>) -> bool {
        let is_left = |part: &Option<PartDecoder>, bytes: Option<&[u8]>| {
            part.as_ref().is_none_or(|part| part.takes_text && bytes.is_none_or(begins_as_text))
        };
        record.headers.is_empty() && is_left(&self.key, record.key) && is_left(&self.value, record.value)
    }

    /// Decodes the key and value of a record. `rest` are those behind it, which are looked through where a schema has to
    /// be asked for: what they need is asked for at the same time.
    ///
    /// # Errors
    /// The registry cannot be asked.
    #[inline]
    pub fn view(&mut self, record: &RecordRef<'_>, rest: &Records<'_>) -> Result<View<'_>> {
        let Self { source, key, value } = self;
        for part in [&mut *key, &mut *value].into_iter().flatten() {
            if let Decoded::Missing(id) = part.decode(record, source) {
                look_up(source, part, id, rest)?;
                part.decode(record, source);
            }
        }
        Ok(View { key: shown(key.as_ref()), value: shown(value.as_ref()) })
    }
}

fn shown(part: Option<&PartDecoder>) -> Shown<'_> {
    part.map_or(Shown::Plain, PartDecoder::shown)
}

/// Looks up `missing` and what the records of `rest` name besides.
#[cold]
fn look_up(source: &mut Source, part: &PartDecoder, missing: SchemaId, rest: &Records<'_>) -> Result<Known> {
    let ahead = rest.clone().take(LOOK_AHEAD).flatten();
    source.look_up(missing, ahead.filter_map(|record| part.id(&record)))
}

/// Whether a part was decoded, or what it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoded {
    Done,
    /// The schema with this ID is not known.
    Missing(SchemaId),
}

/// What the last record was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Plain,
    Json { id: Option<SchemaId>, has_message: bool },
    Undecodable,
}

/// Decodes one part of records.
#[derive(Debug)]
struct PartDecoder {
    part: Part,
    form: SchemaForm,
    /// The schema of a file.
    own: Option<Rc<Loaded>>,
    /// Whether what is not framed stays as it is.
    takes_text: bool,
    options: DecodeOptions,
    /// The schema that was used last.
    last: Option<(SchemaId, Rc<Loaded>)>,
    found: Found,
    json: Vec<u8>,
    why: String,
    unpacked: Vec<u8>,
    /// The message indexes of the last record, and the name of its message.
    path: Vec<i32>,
    message: String,
}

impl PartDecoder {
    fn new(part: Part, form: SchemaForm, own: Option<Rc<Loaded>>, options: DecodeOptions) -> Self {
        let framing = match (&form, options.framing) {
            // What has one schema needs no frame, and the first bytes of a body may look like one.
            (SchemaForm::File(_), Framing::Auto) => Framing::None,
            (_, framing) => framing,
        };
        Self {
            part,
            takes_text: form == SchemaForm::Auto && own.is_none(),
            form,
            own,
            options: DecodeOptions { framing, ..options },
            last: None,
            found: Found::Plain,
            json: Vec::new(),
            why: String::new(),
            unpacked: Vec::new(),
            path: Vec::new(),
            message: String::new(),
        }
    }

    fn bytes<'a>(&self, record: &RecordRef<'a>) -> Option<&'a [u8]> {
        match self.part {
            Part::Key => record.key,
            Part::Value => record.value,
        }
    }

    /// The ID that the part of a record names, where its schema is to be looked up.
    fn id(&self, record: &RecordRef<'_>) -> Option<SchemaId> {
        if self.own.is_some() {
            return None;
        }
        let framed = self.options.framing.recognize(self.part, self.bytes(record)?, record.headers)?;
        Some(framed.id)
    }

    fn shown(&self) -> Shown<'_> {
        match self.found {
            Found::Plain => Shown::Plain,
            Found::Json { id, has_message } => {
                let message = has_message.then_some(&*self.message);
                Shown::Json { json: &self.json, schema: SchemaUsed { id, message } }
            }
            Found::Undecodable => Shown::Undecodable { why: &self.why },
        }
    }

    /// Decodes the part of `record`; what was found is kept.
    #[inline]
    fn decode(&mut self, record: &RecordRef<'_>, source: &Source) -> Decoded {
        self.found = Found::Plain;
        let Some(bytes) = self.bytes(record) else { return Decoded::Done };
        let framed = self.options.framing.recognize(self.part, bytes, record.headers);
        match (framed, &self.own) {
            (None, _) if self.takes_text => Decoded::Done,
            (framed, _) => self.decode_framed(bytes, framed, source),
        }
    }

    fn decode_framed(&mut self, bytes: &[u8], framed: Option<Framed<'_>>, source: &Source) -> Decoded {
        let id = framed.map(|framed| framed.id);
        let schema = match (&self.own, id) {
            (Some(own), Some(_)) => own.clone(),
            (Some(own), None) if self.options.framing == Framing::None => own.clone(),
            (_, None) => {
                self.fail(format_args!("it names no schema"));
                return Decoded::Done;
            }
            (None, Some(id)) => match &self.last {
                Some((last, schema)) if *last == id => schema.clone(),
                _ => match source.known(id) {
                    Some(Known::Schema(schema)) => {
                        self.last = Some((id, schema.clone()));
                        schema
                    }
                    Some(Known::Unknown(why)) => {
                        self.fail(format_args!("{why}"));
                        return Decoded::Done;
                    }
                    None => return Decoded::Missing(id),
                },
            },
        };
        if let SchemaForm::Named(language) = self.form
            && schema.schema.kind() != language.into()
        {
            self.fail(format_args!("its schema is not {language}"));
            return Decoded::Done;
        }
        let mut unpacked = std::mem::take(&mut self.unpacked);
        if let Err(why) = self.decode_body(bytes, framed, &schema, &mut unpacked) {
            match id {
                Some(id) => self.fail(format_args!("{id}: {why}")),
                None => self.fail(format_args!("{why}")),
            }
        }
        self.unpacked = unpacked;
        Decoded::Done
    }

    fn decode_body(
        &mut self,
        bytes: &[u8],
        framed: Option<Framed<'_>>,
        loaded: &Loaded,
        unpacked: &mut Vec<u8>,
    ) -> std::result::Result<(), String> {
        let mut body = match framed {
            Some(Framed { body, packing: Packing::Zlib, .. }) => {
                unpacked.clear();
                unpack(body, unpacked)?;
                &unpacked[..]
            }
            Some(Framed { body, .. }) => body,
            None => bytes,
        };
        let mut options = self.options.json;
        let has_message = loaded.schema.kind() == SchemaType::Protobuf;
        if has_message {
            options.message = self.message(framed.map(|framed| framed.message), &mut body, loaded)?;
            self.message.clear();
            self.message.push_str(loaded.schema.full_name(options.message).unwrap_or_default());
        }
        self.json.clear();
        loaded.schema.write_json(body, options, &mut self.json).map_err(|undecodable| undecodable.to_string())?;
        if self.options.validation == Validation::On {
            let json = std::str::from_utf8(&self.json).map_err(|_| "it is not UTF-8".to_owned())?;
            loaded.schema.validate(json).map_err(|invalid| format!("it is not valid: {invalid}"))?;
        }
        self.found = Found::Json { id: framed.map(|framed| framed.id), has_message };
        Ok(())
    }

    /// Takes what names the message off the front of `body`.
    fn message(
        &mut self,
        place: Option<MessagePlace<'_>>,
        body: &mut &[u8],
        loaded: &Loaded,
    ) -> std::result::Result<MessageId, String> {
        let no_indexes = || "its message indexes are damaged".to_owned();
        let choice = match place {
            None => None,
            Some(MessagePlace::IndexesInBody) => {
                read_indexes(body, &mut self.path).ok_or_else(no_indexes)?;
                Some(MessageChoice::Path(&self.path))
            }
            Some(MessagePlace::Indexes(indexes)) => {
                let mut indexes = indexes;
                read_indexes(&mut indexes, &mut self.path).ok_or_else(no_indexes)?;
                Some(MessageChoice::Path(&self.path))
            }
            Some(MessagePlace::Apicurio { name }) => {
                let name = name.or_else(|| read_apicurio_reference(body));
                let name = name.and_then(|name| std::str::from_utf8(name).ok()).ok_or("it names no message")?;
                Some(MessageChoice::Name(name))
            }
            Some(MessagePlace::GlueIndex) => {
                let index = varint::read_unsigned(body).and_then(|index| u32::try_from(index).ok());
                Some(MessageChoice::Sorted(index.ok_or("its message index is damaged")?))
            }
        };
        if let Some(message) = loaded.message {
            return Ok(message);
        }
        let chosen = choice.map(|choice| loaded.schema.message(choice)).transpose();
        chosen.map(Option::unwrap_or_default).map_err(|why| why.to_string())
    }

    #[cold]
    fn fail(&mut self, why: std::fmt::Arguments<'_>) {
        self.why.clear();
        // A String takes all.
        let _ = std::fmt::Write::write_fmt(&mut self.why, why);
        self.found = Found::Undecodable;
    }
}

/// Unpacks what AWS Glue packed.
fn unpack(body: &[u8], into: &mut Vec<u8>) -> std::result::Result<(), String> {
    let mut decoder = flate2::read::ZlibDecoder::new(body).take(MOST_UNPACKED + 1);
    match decoder.read_to_end(into) {
        Ok(len) if len as u64 > MOST_UNPACKED => Err(format!("it decompresses to more than {MOST_UNPACKED} bytes")),
        Ok(_) => Ok(()),
        Err(e) => Err(format!("its zlib data is damaged: {e}")),
    }
}

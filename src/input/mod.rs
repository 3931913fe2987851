//! Bytes → records: chunks read on a thread of their own, cut into frames, each frame read as a record.
//!
//! Knows only `record`, `error`, `codec`, `stdio` and `template`.

mod csv;
mod cutter;
mod decoded;
mod frame;
mod framing;
mod from_value;
mod json;
mod length;
mod lines;
mod source;
mod template;
mod unpack;

pub use csv::{CsvOptions, CsvReader, CsvSplitter, CsvValue};
pub use cutter::{Cut, Cutter};
pub use decoded::Decoded;
pub use frame::Frame;
pub use framing::Framing;
pub use from_value::{Derived, MissingKey};
pub use json::{JsonOptions, JsonReader};
pub use length::LengthReader;
pub use lines::{LineReader, Splitter};
pub use source::{Inbox, Message, Packed, Source, open, size};
pub use template::{Program, TemplateOptions, TemplateReader};

use crate::codec::framed::Written;
use crate::error::Result;
use crate::record::{HeaderBuf, PartitionId, RecordRef, Timestamp};
use std::borrow::Cow;

/// A record of the input, and where it says that it goes.
#[derive(Debug)]
pub struct Read<'a> {
    /// The topic it names itself.
    pub topic: Option<&'a str>,
    /// The partition it names itself.
    pub partition: Option<PartitionId>,
    /// The record.
    pub record: RecordRef<'a>,
    /// How the input has its key.
    pub key: Written<'a>,
    /// How the input has its value.
    pub value: Written<'a>,
}

impl<'a> From<RecordRef<'a>> for Read<'a> {
    fn from(record: RecordRef<'a>) -> Self {
        Self { topic: None, partition: None, record, key: Written::default(), value: Written::default() }
    }
}

impl Read<'_> {
    /// Whether the input names the schema of its key or value.
    #[inline]
    pub fn names_schema(&self) -> bool {
        self.key.schema.id.is_some() || self.value.schema.id.is_some()
    }
}

/// What is wrong with a record of the input, and at which of its bytes (from 1).
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Where, when that is known.
    pub byte: Option<usize>,
    /// What.
    pub what: String,
    /// Whether nothing that follows can be read either.
    pub ends_input: bool,
}

impl BadLine {
    pub(crate) fn new(what: String) -> Self {
        Self { byte: None, what, ends_input: false }
    }

    fn at(byte: usize, what: String) -> Self {
        Self { byte: Some(byte), ..Self::new(what) }
    }

    fn unusable(what: String) -> Self {
        Self { ends_input: true, ..Self::new(what) }
    }

    fn unusable_at(byte: usize, what: String) -> Self {
        Self { ends_input: true, ..Self::at(byte, what) }
    }
}

impl From<serde_json::Error> for BadLine {
    fn from(error: serde_json::Error) -> Self {
        // serde_json writes the place behind the reason, and has no way to write the reason alone.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
        Self { byte: (error.column() > 0).then_some(error.column()), ..Self::new(what) }
    }
}

/// Reads a file as a value.
#[derive(Debug, Default)]
pub struct FileReader {
    /// The header that gets the file's name.
    name_header: Option<String>,
    key: Option<Vec<u8>>,
    timestamp: Option<Timestamp>,
    /// Those of every record.
    extra_headers: HeaderBuf,
    /// Those of the file that is read.
    headers: HeaderBuf,
}

impl FileReader {
    /// Gives every record this key, timestamp and headers, and before them, in the header `name_header`, the file's name.
    pub fn new(
        name_header: Option<String>,
        key: Option<Vec<u8>>,
        timestamp: Option<Timestamp>,
        extra_headers: HeaderBuf,
    ) -> Self {
        Self { name_header, key, timestamp, extra_headers, headers: HeaderBuf::default() }
    }

    fn next_source(&mut self, name: &str) {
        self.headers.clear();
        if let Some(header) = &self.name_header {
            self.headers.push(header.as_bytes(), Some(name.as_bytes()));
        }
        self.headers.extend(self.extra_headers.as_headers());
    }

    fn read<'a>(&'a self, value: &'a [u8]) -> RecordRef<'a> {
        let (key, headers) = (self.key.as_deref(), self.headers.as_headers());
        RecordRef { offset: 0, timestamp: self.timestamp, key, value: Some(value), headers }
    }
}

/// What a frame is.
#[derive(Debug)]
pub enum Shape {
    /// The line is the value, or key and value.
    Lines(LineReader),
    /// The line is an object as `consume` writes it.
    Json(Box<JsonReader>),
    /// The row has named columns.
    Csv(Box<CsvReader>),
    /// The frame holds lengths and what they belong to.
    Length(Box<LengthReader>),
    /// The frame is what a template wrote.
    Template(Box<TemplateReader>),
    /// The frame is the value.
    File(Box<FileReader>),
}

/// Reads a frame as a record.
#[derive(Debug)]
pub struct Reader {
    shape: Shape,
    derived: Option<Box<Derived>>,
    /// The key that was taken from elsewhere in the record.
    key: Vec<u8>,
}

impl Reader {
    /// Reads frames of this shape, and takes parts of records from elsewhere in them.
    pub fn new(shape: Shape, derived: Derived) -> Self {
        Self { shape, derived: (!derived.is_none()).then(|| Box::new(derived)), key: Vec::new() }
    }

    /// A source begins; `name` is what the user calls it.
    pub fn next_source(&mut self, name: &str) {
        match &mut self.shape {
            Shape::Csv(csv) => csv.next_source(),
            Shape::File(file) => file.next_source(name),
            _ => {}
        }
    }

    /// What stood in the input where `frame` was found, without what delimits it.
    pub fn text<'a>(&self, frame: &Frame<'a>) -> Cow<'a, [u8]> {
        match &self.shape {
            Shape::Csv(csv) => Cow::Owned(csv.text(frame)),
            _ => Cow::Borrowed(frame.bytes),
        }
    }

    /// The record of `frame`; `None` for a frame that holds none.
    ///
    /// # Errors
    /// The frame is malformed.
    #[inline]
    pub fn read<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Option<Read<'a>>, BadLine> {
        let read = match &mut self.shape {
            Shape::Lines(lines) => Some(lines.read(frame.bytes)?.into()),
            Shape::Json(json) => json.read(frame.bytes)?,
            Shape::Csv(csv) => csv.read(frame)?.map(Read::from),
            Shape::Length(length) => Some(length.read(frame.bytes)?.into()),
            Shape::Template(template) => Some(template.read(frame)?),
            Shape::File(file) => Some(file.read(frame.bytes).into()),
        };
        match (&self.derived, read) {
            (Some(derived), Some(read)) => derived.apply(read, &mut self.key).map(Some),
            (_, read) => Ok(read),
        }
    }
}

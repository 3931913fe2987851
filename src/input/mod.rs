//! Bytes → records: chunks read on a thread of their own, cut into lines, each line read as a record.
//!
//! Knows only `record` and `error`.

mod decoded;
mod json;
mod lines;
mod source;

pub use decoded::Decoded;
pub use json::{JsonOptions, JsonReader};
pub use lines::{LineReader, Splitter};
pub use source::{Inbox, Message, Source, open, size};

use crate::error::Result;
use crate::record::{PartitionId, RecordRef};

/// A record of the input, and where it says that it goes.
#[derive(Debug)]
pub struct Read<'a> {
    /// The topic it names itself.
    pub topic: Option<&'a str>,
    /// The partition it names itself.
    pub partition: Option<PartitionId>,
    /// The record.
    pub record: RecordRef<'a>,
}

/// What is wrong with a line, and at which of its bytes (from 1).
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Where, when that is known.
    pub byte: Option<usize>,
    /// What.
    pub what: String,
}

impl From<serde_json::Error> for BadLine {
    fn from(error: serde_json::Error) -> Self {
        // serde_json writes the place behind the reason, and has no way to write the reason alone.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
        Self { byte: (error.column() > 0).then_some(error.column()), what }
    }
}

/// Reads a line as a record.
#[derive(Debug)]
pub enum Reader {
    /// The line is the value, or key and value.
    Lines(LineReader),
    /// The line is an object as `consume` writes it.
    Json(Box<JsonReader>),
}

impl Reader {
    /// The record of `line`; `None` for a line that holds none.
    ///
    /// # Errors
    /// The line is malformed.
    #[inline]
    pub fn read<'a>(&'a mut self, line: &'a [u8]) -> Result<Option<Read<'a>>, BadLine> {
        match self {
            Self::Lines(lines) => Ok(Some(Read { topic: None, partition: None, record: lines.read(line)? })),
            Self::Json(json) => json.read(line),
        }
    }
}

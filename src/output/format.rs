//! How a record is written.

use super::json::JsonWriter;
use crate::record::{Batch, RecordRef};

/// How the bytes of a key or value are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Encoding {
    /// A JSON string; base64 under another name where the bytes are no UTF-8.
    #[default]
    Text,
    /// As it stands where it is valid JSON, else as text.
    Json,
    /// Base64.
    Base64,
    /// Lower-case hexadecimal.
    Hex,
}

/// What is written of a record.
#[derive(Debug)]
pub enum Format {
    /// A JSON object.
    Json(JsonWriter),
    /// The value alone; null is empty.
    Value,
    /// Nothing: for counting, and for moving a group's offsets.
    None,
}

impl Format {
    /// JSON objects.
    pub fn json(key: Encoding, value: Encoding) -> Self {
        Self::Json(JsonWriter::new(key, value))
    }

    /// To be called before a batch's records are written.
    pub fn begin(&mut self, batch: &Batch) {
        if let Self::Json(json) = self {
            json.begin(&batch.topic, Some(batch.partition), batch.timestamp_type, batch.nulls_known);
        }
    }

    /// Writes one record of the batch begun last.
    #[inline]
    pub fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, delimiter: &[u8]) {
        match self {
            Self::Json(json) => json.write(out, record),
            Self::Value => out.extend_from_slice(record.value.unwrap_or_default()),
            Self::None => return,
        }
        out.extend_from_slice(delimiter);
    }
}

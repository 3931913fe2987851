//! How the key and value of a record are shown: as their bytes, or as what a schema made of them.

use super::{Base64, Encoding};
use crate::registry::SchemaId;

/// How a key or value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown<'a> {
    /// As its bytes, in the encoding that was asked for.
    #[default]
    Plain,
    /// As the JSON that a schema gave it.
    Json {
        /// On one line, with nothing in it that acts on a terminal.
        json: &'a [u8],
        schema: SchemaUsed<'a>,
    },
    /// In base64, for it does not decode.
    Undecodable {
        /// What is wrong.
        why: &'a str,
    },
}

/// The schema of a value, as far as it has to be known to write the same bytes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchemaUsed<'a> {
    /// What the record calls it; `None` where it does not.
    pub id: Option<SchemaId>,
    /// The message of a Protobuf schema.
    pub message: Option<&'a str>,
}

impl<'a> Shown<'a> {
    /// What filters and paths look at instead of `bytes`.
    #[inline]
    pub fn text(self, bytes: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match self {
            Self::Json { json, .. } => Some(json),
            Self::Plain | Self::Undecodable { .. } => bytes,
        }
    }

    /// Appends what stands for `bytes` where there is only text: no field name that says how to read it back.
    #[inline]
    pub fn write_text(self, out: &mut Vec<u8>, encoding: Encoding, bytes: &[u8]) {
        match self {
            Self::Plain => encoding.write_text(out, bytes),
            Self::Json { json, .. } => out.extend_from_slice(json),
            Self::Undecodable { .. } => Base64.write_text(out, bytes),
        }
    }
}

/// How the key and value of a record are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View<'a> {
    pub key: Shown<'a>,
    pub value: Shown<'a>,
}

impl View<'static> {
    /// Both as their bytes.
    pub const PLAIN: Self = Self { key: Shown::Plain, value: Shown::Plain };
}

//! Apache Avro (specification 1.12): a schema is compiled into a program of nodes, which reads bytes and writes JSON, or the
//! other way round.

mod decode;
mod encode;
mod parse;
mod program;
#[cfg(test)]
mod tests;
mod union;

use super::{BadSchema, Reference, Undecodable, Unfit};
use program::Program;

/// How Avro's values look as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AvroForm {
    /// As people read them: logical types as dates, times and decimals, bytes in base64, unions without a tag where the JSON
    /// says which branch it is.
    #[default]
    Plain,
    /// The JSON encoding of Avro's specification.
    Specification,
}

/// A parsed schema.
#[derive(Debug)]
pub struct Schema {
    program: Program,
}

impl Schema {
    /// Parses a schema. `references` are all that it uses, each after those that it uses itself.
    ///
    /// # Errors
    /// The schema or a reference is invalid, or one is missing.
    pub fn parse(text: &str, references: &[Reference]) -> Result<Self, BadSchema> {
        parse::parse(text, references).map(|program| Self { program })
    }

    /// The full name of the type that values have, if it has one: of a record, an enum or a fixed.
    pub fn full_name(&self) -> Option<&str> {
        self.program.full_name()
    }

    /// Appends the JSON of `bytes`, on one line.
    ///
    /// # Errors
    /// They are not of this schema; `out` may end with a part of the JSON.
    pub fn write_json(&self, bytes: &[u8], form: AvroForm, out: &mut Vec<u8>) -> Result<(), Undecodable> {
        decode::write_json(&self.program, bytes, form, out)
    }

    /// Appends the bytes of a JSON text.
    ///
    /// # Errors
    /// It does not fit the schema; `out` may end with a part of the bytes.
    pub fn read_json(&self, json: &str, form: AvroForm, out: &mut Vec<u8>) -> Result<(), Unfit> {
        encode::read_json(&self.program, json, form, out)
    }
}

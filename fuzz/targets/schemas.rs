//! Schemas, and bytes that claim to follow them.

use super::Input;
use kpipe::codec::schema::{AvroForm, FieldNames, Options, Schema, SchemaType};

/// The schema that the input begins with, if it is one, and the bytes behind it.
fn schema(kind: SchemaType, data: &[u8]) -> Option<(Schema, &[u8])> {
    let mut input = Input(data);
    let mut text = String::new();
    // A schema may be longer than one text of the input.
    for _ in 0..=input.byte() % 4 {
        text += input.text();
    }
    Some((Schema::parse(kind, &text, &[]).ok()?, input.0))
}

/// Any Avro schema is parsed or refused, and any bytes with it. What is decoded is JSON, and read back it is the same.
pub fn avro(data: &[u8]) {
    let Some((schema, bytes)) = schema(SchemaType::Avro, data) else { return };
    for avro in [AvroForm::Plain, AvroForm::Specification] {
        let options = Options { avro, ..Options::default() };
        let (mut json, mut again, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        if schema.write_json(bytes, options, &mut json).is_err() {
            continue;
        }
        let text = std::str::from_utf8(&json).unwrap_or_else(|e| panic!("{e}"));
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        // A decimal may have more digits than its schema allows.
        if schema.read_json(text, options, &mut again).is_ok() {
            assert!(schema.write_json(&again, options, &mut shown).is_ok());
            assert_eq!(shown, json);
        }
    }
}

/// Any Protobuf schema is parsed or refused, and any bytes with it. What is decoded is JSON, and can be read back.
pub fn protobuf(data: &[u8]) {
    let Some((schema, bytes)) = schema(SchemaType::Protobuf, data) else { return };
    for field_names in [FieldNames::Json, FieldNames::Proto] {
        let options = Options { field_names, ..Options::default() };
        let (mut json, mut again) = (Vec::new(), Vec::new());
        if schema.write_json(bytes, options, &mut json).is_err() {
            continue;
        }
        let text = std::str::from_utf8(&json).unwrap_or_else(|e| panic!("{e}"));
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        if schema.read_json(text, options, &mut again).is_ok() {
            assert!(schema.write_json(&again, options, &mut Vec::new()).is_ok());
        }
    }
}

//! Any Protobuf schema is parsed or refused, and any bytes with it. What is decoded is JSON, and read back it is the same.
#![no_main]

use kpipe::codec::schema::{FieldNames, Options, Schema, SchemaType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, bytes) = input;
    let Ok(schema) = Schema::parse(SchemaType::Protobuf, text, &[]) else { return };
    for field_names in [FieldNames::Json, FieldNames::Proto] {
        let options = Options { field_names, ..Options::default() };
        let (mut json, mut again) = (Vec::new(), Vec::new());
        if schema.write_json(bytes, options, &mut json).is_err() {
            continue;
        }
        let Ok(text) = std::str::from_utf8(&json) else { panic!("not UTF-8") };
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        if schema.read_json(text, options, &mut again).is_ok() {
            assert!(schema.write_json(&again, options, &mut Vec::new()).is_ok());
        }
    }
});

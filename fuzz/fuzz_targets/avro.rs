//! Any Avro schema is parsed or refused, and any bytes with it. What is decoded is JSON, and read back it is the same.
#![no_main]

use kpipe::codec::schema::{AvroForm, Options, Schema, SchemaType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, bytes) = input;
    let Ok(schema) = Schema::parse(SchemaType::Avro, text, &[]) else { return };
    for avro in [AvroForm::Plain, AvroForm::Specification] {
        let options = Options { avro, ..Options::default() };
        let (mut json, mut again, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        if schema.write_json(bytes, options, &mut json).is_err() {
            continue;
        }
        let Ok(text) = std::str::from_utf8(&json) else { panic!("not UTF-8") };
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        // A decimal may have more digits than its schema allows.
        if schema.read_json(text, options, &mut again).is_ok() {
            assert!(schema.write_json(&again, options, &mut shown).is_ok());
            assert_eq!(shown, json);
        }
    }
});

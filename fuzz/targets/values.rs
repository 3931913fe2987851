//! Texts and values: what a record's key or value holds, what a command line or a server says.

use super::Input;
use super::input::utf8;
use kpipe::codec::{Codec, Encoding, MessagePack, Path, path};
use kpipe::config::{jaas_options, parse_duration, parse_end, parse_range, parse_size};
use kpipe::engine::Hash;
use kpipe::engine::native::Scram;
use kpipe::engine::security::Claims;
use kpipe::record::HeaderBuf;
use kpipe::registry::framing::{Framing, Part, read_apicurio_reference, read_indexes, write_frame};
use kpipe::timespec::{Unit, format_time, parse_time, unit_around};

/// A value shown as JSON is read back as the same bytes, in every encoding that keeps them.
pub fn codecs(data: &[u8]) {
    for encoding in Encoding::all() {
        let (mut json, mut text, mut back) = (Vec::new(), Vec::new(), Vec::new());
        if encoding.encode(&mut json, "value", data).is_ok() {
            // `"value":…` or, in a field of its own, `"value_base64":…`.
            let object = [b"{", &json[..], b"}"].concat();
            serde_json::from_slice::<serde_json::Value>(&object).unwrap_or_else(|e| panic!("{encoding:?}: {e}"));
        }
        encoding.write_text(&mut text, data);
        let _ = encoding.parse_text(data, &mut back);
        if let Ok(json) = std::str::from_utf8(data) {
            let _ = encoding.decode(json, &mut back);
        }
    }
}

/// MessagePack that JSON can hold stays the same value there and back.
pub fn msgpack(data: &[u8]) {
    let mut json = Vec::new();
    if !MessagePack.write_text(&mut json, data) {
        assert!(json.is_empty());
        return;
    }
    let (mut packed, mut again) = (Vec::new(), Vec::new());
    MessagePack.parse_text(utf8(&json), &mut packed).unwrap_or_else(|e| panic!("{}: {e}", utf8(&json)));
    assert!(MessagePack.write_text(&mut again, &packed));
    assert_eq!(utf8(&json), utf8(&again));
}

/// A field that is found in valid JSON is valid JSON.
pub fn json_path(data: &[u8]) {
    let mut input = Input(data);
    let Ok(wanted) = input.text().parse::<Path>() else { return };
    let json = input.0;
    // serde_json skips strings without validating their encoding.
    let is_valid =
        std::str::from_utf8(json).is_ok_and(|json| serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok());
    for found in [wanted.find(json), wanted.find_last(json)].into_iter().flatten() {
        let mut text = Vec::new();
        let written = path::write_text(&mut text, found);
        assert!(!is_valid || (written.is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(found).is_ok()));
    }
}

/// Times and ranges, as `-o` and `--until` take them.
pub fn ranges(data: &[u8]) {
    let mut input = Input(data);
    let millis = input.number();
    let text = utf8(input.0);
    let _ = (parse_range(text), parse_end(text));
    if let Ok(time) = parse_time(text) {
        assert!(time >= 0, "{text}");
    }
    let range = unit_around(millis, Unit::Day);
    assert!(range.contains(&millis) || millis == i64::MAX);
    let _ = format_time(millis);
}

/// JAAS lines, sizes and durations.
pub fn settings(data: &[u8]) {
    let text = utf8(data);
    let _ = (jaas_options(text), parse_size(text), parse_duration(text));
}

/// JSON Web Tokens, and a server's part of SCRAM.
pub fn tokens(data: &[u8]) {
    let mut input = Input(data);
    let (first, last) = (input.text(), input.text());
    let _ = (Claims::of(utf8(data)), Claims::of(&format!("e30.{first}.")));
    for answer in [first.to_owned(), format!("r=nonce{first}")] {
        // More iterations are right, and slow.
        if answer.contains("i=4096") || !answer.contains("i=") {
            let scram = Scram::new(Hash::Sha256, "user", "nonce".to_owned());
            if let Ok((_, proved)) = scram.prove("password", &answer) {
                assert!(proved.check(last).is_err(), "nobody knows the password");
            }
        }
    }
}

/// Whatever names a schema, what is recognized lies within the bytes, and its frame is written as it was.
pub fn framings(data: &[u8]) {
    const NAMES: [&[u8]; 4] =
        [b"__value_schema_id", b"apicurio.value.globalId", b"apicurio.value.contentId", b"apicurio.protobuf.type"];
    let mut input = Input(data);
    let (header, which) = (input.bytes(), usize::from(input.byte()));
    let bytes = input.0;
    let mut headers = HeaderBuf::default();
    if which & 1 == 1 {
        headers.push(NAMES[(which >> 1) % NAMES.len()], Some(header));
    }
    for (_, framing) in Framing::ALL {
        let Some(found) = framing.recognize(Part::Value, bytes, headers.as_headers()) else { continue };
        assert!(bytes.ends_with(found.body));
        if headers.as_headers().is_empty() && bytes.first() != Some(&3) {
            let mut again = Vec::new();
            write_frame(found.id, &mut again);
            again.extend_from_slice(found.body);
            assert_eq!(again, bytes);
        }
        let (mut body, mut path) = (found.body, Vec::new());
        let _ = read_indexes(&mut body, &mut path);
        let _ = read_apicurio_reference(&mut body);
    }
}

//! Key and value bytes ⇄ JSON: the one place where the bytes of a record get a meaning. Calls `error`.
//!
//! A new codec is a type that implements [`Codec`] in a file of its own, and a value of [`Encoding`].

mod binary;
mod embedded;
pub mod path;
mod text;

pub use binary::{Base64, Hex};
pub use embedded::Embedded;
pub use path::Path;
pub use text::{Text, write_string};

use crate::error::Result;
use std::borrow::Cow;

/// Renders bytes as a member of a JSON object, and reads them back.
pub trait Codec {
    /// Appends the member of an object: `"field":…`, or another name where the value alone does not say how to read it
    /// back (`"field_base64":…`).
    ///
    /// # Errors
    /// The bytes are not of this codec; `out` may end with a part of the member.
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()>;

    /// Appends the bytes of a member's value; `json` is not `null`.
    ///
    /// # Errors
    /// Why the value cannot be read.
    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String>;
}

/// How the bytes of a key or value are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Encoding {
    /// A JSON string; base64 in a field of its own if the bytes are not UTF-8
    #[default]
    Text,
    /// Embedded as is if it is valid JSON, otherwise as text
    Json,
    /// Base64
    Base64,
    /// Lowercase hexadecimal
    Hex,
}

impl Codec for Encoding {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Text => Text.encode(out, field, bytes),
            Self::Json => Embedded.encode(out, field, bytes),
            Self::Base64 => Base64.encode(out, field, bytes),
            Self::Hex => Hex.encode(out, field, bytes),
        }
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Text => Text.decode(json, out),
            Self::Json => Embedded.decode(json, out),
            Self::Base64 => Base64.decode(json, out),
            Self::Hex => Hex.decode(json, out),
        }
    }
}

/// Appends `"field`; the caller appends what follows.
#[inline]
fn open_name(out: &mut Vec<u8>, field: &str) {
    out.push(b'"');
    out.extend_from_slice(field.as_bytes());
}

/// The text of a JSON string.
fn string(json: &str) -> Result<Cow<'_, str>, String> {
    serde_json::from_str::<Str<'_>>(json).map(|text| text.0).map_err(|_| "expected a string".to_owned())
}

/// Borrows a string that has no escapes.
#[derive(serde::Deserialize)]
struct Str<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(encoding: Encoding, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encoding.encode(&mut out, "value", bytes).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bytes_are_shown_as_asked() {
        assert_eq!(member(Encoding::Json, b"{\"a\":\n1}"), r#""value":{"a": 1}"#);
        assert_eq!(member(Encoding::Json, b"{nonsense"), r#""value":"{nonsense""#);
        assert_eq!(member(Encoding::Text, b"\xff"), r#""value_base64":"/w==""#);
        assert_eq!(member(Encoding::Base64, b"v"), r#""value_base64":"dg==""#);
        assert_eq!(member(Encoding::Hex, b"\x0f\xf0"), r#""value_hex":"0ff0""#);
    }

    #[test]
    fn nothing_that_moves_a_cursor_or_ends_a_line_is_shown_raw() {
        for encoding in [Encoding::Text, Encoding::Json] {
            let text = "\"a\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{2028}\u{2029}é\"".replace('\u{1b}', "");
            let shown = member(encoding, text.as_bytes());
            assert!(shown.contains(r"\u007f\u0085\u009b31m\u2028\u2029é"), "{encoding:?}: {shown}");
        }
        assert!(member(Encoding::Text, b"\x1b[2J").contains(r"\u001b[2J"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<u8>, text: String, printable in "[ -~\u{7f}-\u{a0}\u{2028}\u{2029}]{0,40}") {
            for bytes in [&bytes[..], text.as_bytes(), printable.as_bytes()] {
                for encoding in [Encoding::Text, Encoding::Base64, Encoding::Hex] {
                    let shown = member(encoding, bytes);
                    let (name, json) = shown.split_once(':').unwrap();
                    let codec = if name == "\"value_base64\"" { Encoding::Base64 } else { encoding };
                    let mut read = Vec::new();
                    prop_assert_eq!(codec.decode(json, &mut read), Ok(()));
                    prop_assert_eq!(&read[..], bytes);
                    prop_assert!(!shown.chars().any(char::is_control));
                }
            }
        }
    }
}

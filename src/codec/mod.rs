//! Key and value bytes ⇄ JSON: the one place where the bytes of a record get a meaning. Calls `error`.
//!
//! A new codec is a type that implements [`Codec`] in a file of its own, and a value of [`Encoding`].

mod binary;
mod embedded;
pub mod framed;
mod msgpack;
mod number;
pub mod path;
pub mod schema;
mod text;
mod view;

pub use binary::{Base64, Hex, Uuid};
pub use embedded::Embedded;
pub use msgpack::MessagePack;
pub use number::Number;
pub use path::Path;
pub use text::{Text, first_quote, is_unescaped, plain_len, write_string, write_string_of};
pub use view::{SchemaUsed, Shown, View};

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

/// What the bytes of a key or value are, and so how they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Text.
    #[default]
    Text,
    /// JSON, or else text.
    Json,
    /// Any bytes, shown in base64.
    Base64,
    /// Any bytes, shown in hexadecimal.
    Hex,
    /// A number.
    Number(Number),
    /// A UUID.
    Uuid,
    /// MessagePack.
    MessagePack,
}

impl Codec for Encoding {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Text => Text.encode(out, field, bytes),
            other => other.encode_other(out, field, bytes),
        }
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Text => Text.decode(json, out),
            Self::Json => Embedded.decode(json, out),
            Self::Base64 => Base64.decode(json, out),
            Self::Hex => Hex.decode(json, out),
            Self::Number(number) => number.decode(json, out),
            Self::Uuid => Uuid.decode(json, out),
            Self::MessagePack => MessagePack.decode(json, out),
        }
    }
}

impl Encoding {
    /// Those that have no parameter.
    const PLAIN: [Self; 6] = [Self::Text, Self::Json, Self::Base64, Self::Hex, Self::Uuid, Self::MessagePack];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN.into_iter().chain(Number::ALL.iter().map(|number| Self::Number(*number)))
    }

    /// The encoding of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self, String> {
        Self::all().find(|encoding| encoding.name() == name).ok_or_else(|| {
            let hint = crate::error::did_you_mean(name, Self::all().map(Self::name));
            format!("unknown form {name:?}{hint}")
        })
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Number(number) => number.name(),
            Self::Uuid => "uuid",
            Self::MessagePack => "msgpack",
        }
    }

    /// What it is, for people.
    pub fn described(self) -> &'static str {
        match self {
            Self::Text => "Text; base64 in a field of its own if the bytes are not UTF-8",
            Self::Json => "JSON, embedded as is if it is valid, otherwise as text",
            Self::Base64 => "Any bytes, in base64",
            Self::Hex => "Any bytes, in lowercase hexadecimal",
            Self::Number(number) => number.described(),
            Self::Uuid => "A UUID of 16 bytes",
            Self::MessagePack => "MessagePack, as JSON",
        }
    }

    /// The encoding of a field whose name ends like that, where the name says it.
    pub fn of_suffix(suffix: &str) -> Option<Self> {
        match suffix {
            Base64::SUFFIX => Some(Self::Base64),
            Hex::SUFFIX => Some(Self::Hex),
            Uuid::SUFFIX => Some(Self::Uuid),
            MessagePack::SUFFIX => Some(Self::MessagePack),
            _ => Number::ALL.iter().find(|number| number.suffix() == suffix).map(|number| Self::Number(*number)),
        }
    }

    /// Appends `bytes` as plain text. What is not of this encoding is shown in base64, so that nothing is dropped.
    #[inline]
    pub fn write_text(self, out: &mut Vec<u8>, bytes: &[u8]) {
        let is_decoded = match self {
            Self::Text => {
                out.extend_from_slice(bytes);
                true
            }
            Self::Json => {
                Embedded.write_text(out, bytes);
                true
            }
            Self::Hex => {
                Hex.write_text(out, bytes);
                true
            }
            Self::Base64 => false,
            Self::Number(number) => number.write_text(out, bytes),
            Self::Uuid => Uuid.write_text(out, bytes),
            Self::MessagePack => MessagePack.write_text(out, bytes),
        };
        if !is_decoded {
            Base64.write_text(out, bytes);
        }
    }

    /// Appends the bytes that `text` stands for.
    ///
    /// # Errors
    /// What was expected.
    #[inline]
    pub fn parse_text(self, text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if self == Self::Text {
            out.extend_from_slice(text);
            return Ok(());
        }
        let text = std::str::from_utf8(text).map_err(|_| format!("expected {} as text", self.name()))?;
        match self {
            Self::Text => Ok(()),
            Self::Json => Embedded.parse_text(text, out),
            Self::Base64 => Base64.parse_text(text, out),
            Self::Hex => Hex.parse_text(text, out),
            Self::Number(number) => number.parse_text(text, out),
            Self::Uuid => Uuid.parse_text(text, out),
            Self::MessagePack => MessagePack.parse_text(text, out),
        }
    }

    /// Out of line, so that the code for text stays small.
    #[inline(never)]
    fn encode_other(self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Text => Text.encode(out, field, bytes),
            Self::Json => Embedded.encode(out, field, bytes),
            Self::Base64 => Base64.encode(out, field, bytes),
            Self::Hex => Hex.encode(out, field, bytes),
            Self::Number(number) => number.encode(out, field, bytes),
            Self::Uuid => Uuid.encode(out, field, bytes),
            Self::MessagePack => MessagePack.encode(out, field, bytes),
        }
    }
}

/// Appends `"field`; the caller appends what follows.
#[inline]
fn open_name(out: &mut Vec<u8>, field: &str) {
    out.push(b'"');
    out.extend_from_slice(field.as_bytes());
}

/// Appends `"field`, the `suffix` that says how to read the value back, and the colon behind it.
fn open_member(out: &mut Vec<u8>, field: &str, suffix: &str) {
    open_name(out, field);
    out.extend_from_slice(suffix.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a member with the JSON that `write` appends, or with `bytes` in base64 where `write` says that they are not of
/// its codec.
fn encode_or_base64(
    out: &mut Vec<u8>,
    field: &str,
    suffix: &str,
    bytes: &[u8],
    write: impl FnOnce(&mut Vec<u8>) -> bool,
) -> Result<()> {
    let start = out.len();
    open_member(out, field, suffix);
    if write(out) {
        return Ok(());
    }
    out.truncate(start);
    Base64.encode(out, field, bytes)
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
        let number = |name, bytes: &[u8]| member(Encoding::named(name).unwrap(), bytes);
        assert_eq!(number("i64", &(-5i64).to_be_bytes()), r#""value_i64":-5"#);
        assert_eq!(number("u32-le", &7u32.to_le_bytes()), r#""value_u32_le":7"#);
        assert_eq!(number("f32", &0.1f32.to_be_bytes()), r#""value_f32":0.1"#);
        assert_eq!(number("i64", b"abc"), r#""value_base64":"YWJj""#);
        assert_eq!(number("f64", &f64::NAN.to_be_bytes()), r#""value_base64":"f/gAAAAAAAA=""#);
        assert_eq!(number("uuid", &[0xab; 16]), r#""value_uuid":"abababab-abab-abab-abab-abababababab""#);
        assert_eq!(
            member(Encoding::MessagePack, b"\x82\xa1a\x93\x01\xc0\xc3\xa1b\xa2\xc2\x9b"),
            r#""value_msgpack":{"a":[1,null,true],"b":"\u009b"}"#
        );
    }

    #[test]
    fn what_json_cannot_hold_of_messagepack_is_shown_raw() {
        for bytes in [
            &b"\xc4\x01a"[..],
            b"\xd4\x01\x00",
            b"\x81\x01\x01",
            b"\xc0\xc0",
            b"\xa1",
            b"",
            b"\xca\x7f\xc0\0\0",
            b"\xa1\xff",
        ] {
            assert!(member(Encoding::MessagePack, bytes).starts_with(r#""value_base64":""#), "{bytes:?}");
        }
        let deep = [&[0x91; 100_000][..], b"\xc0"].concat();
        assert!(member(Encoding::MessagePack, &deep).starts_with(r#""value_base64":""#));
    }

    #[test]
    fn text_that_is_not_of_an_encoding_names_what_was_expected() {
        let why =
            |name, text: &str| Encoding::named(name).unwrap().parse_text(text.as_bytes(), &mut Vec::new()).unwrap_err();
        assert_eq!(why("i8", "300"), "expected a signed 8-bit integer");
        assert!(why("hex", "0g").contains("hexadecimal digits"));
        assert!(why("base64", "?").contains("expected base64"));
        assert!(why("uuid", "12").contains("expected a UUID"));
        assert!(why("json", "{").contains("expected JSON"));
        assert!(why("msgpack", "{} x").contains("expected JSON"));
        assert!(Encoding::named("bas64").unwrap_err().contains("did you mean base64?"));
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
        fn what_is_shown_is_read_back(bytes in prop::collection::vec(any::<u8>(), 0..20), index: prop::sample::Index) {
            let encodings: Vec<Encoding> = Encoding::all().filter(|e| !matches!(e, Encoding::Json | Encoding::MessagePack)).collect();
            let encoding = *index.get(&encodings);
            let shown = member(encoding, &bytes);
            let (name, json) = shown.split_once(':').unwrap();
            let suffix = name.trim_matches('"').strip_prefix("value").unwrap();
            let codec = Encoding::of_suffix(suffix).unwrap_or(Encoding::Text);
            let mut read = Vec::new();
            prop_assert_eq!(codec.decode(json, &mut read), Ok(()));
            prop_assert_eq!(&read, &bytes);
            let mut text = Vec::new();
            encoding.write_text(&mut text, &bytes);
            if encoding == Encoding::Text || suffix.trim_start_matches('_') == encoding.name().replace('-', "_") {
                read.clear();
                prop_assert_eq!(encoding.parse_text(&text, &mut read), Ok(()));
                prop_assert_eq!(&read, &bytes);
            }
        }

        #[test]
        fn json_is_the_same_as_messagepack(json in path::tests::any_json()) {
            let (text, mut packed, mut shown) = (json.to_string(), Vec::new(), Vec::new());
            MessagePack.parse_text(&text, &mut packed).unwrap();
            prop_assert!(MessagePack.write_text(&mut shown, &packed));
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&shown).unwrap(), json);
        }

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

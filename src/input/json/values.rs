//! The values of fields: how each kind is read, and what is wrong with one.

use super::cursor::{Cursor, Malformed, Value};
use crate::codec::framed::{Origin, Written};
use crate::codec::{Codec, Encoding};
use crate::input::BadLine;
use crate::registry::SchemaId;

/// A key or value, or another text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part<'a> {
    pub(super) bytes: Bytes<'a>,
    pub(super) written: Written<'a>,
}

/// Where a key or value is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Bytes<'a> {
    #[default]
    Absent,
    Null,
    /// In the line.
    Plain(&'a [u8]),
    /// In memory.
    Decoded,
}

impl<'a> Bytes<'a> {
    pub(super) fn get(self, decoded: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Plain(bytes) => Some(bytes),
            Self::Decoded => Some(decoded),
        }
    }
}

/// Why a line cannot be read.
pub(super) enum Wrong {
    /// It is not JSON.
    Malformed,
    Bad(BadLine),
}

impl From<Malformed> for Wrong {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

pub(super) fn bad(cursor: &Cursor<'_>, what: String) -> Wrong {
    Wrong::Bad(BadLine::at(cursor.at().max(1), what))
}

/// Reads an integer, or null.
pub(super) fn integer<T: TryFrom<i64>>(
    cursor: &mut Cursor<'_>,
    name: &[u8],
    into: &mut Option<T>,
) -> Result<(), Wrong> {
    let found = match cursor.value()? {
        Value::Null => return Ok(()),
        Value::Integer(number) => T::try_from(number).ok(),
        Value::Plain(_) | Value::Json(_) => None,
    };
    let name = || String::from_utf8_lossy(name);
    let Some(found) = found else {
        return Err(bad(cursor, format!("{}: expected an integer of {} bits", name(), 8 * size_of::<T>())));
    };
    if into.replace(found).is_some() {
        return Err(twice(cursor, &name()));
    }
    Ok(())
}

pub(super) fn twice(cursor: &Cursor<'_>, name: &str) -> Wrong {
    bad(cursor, format!("{name} given twice"))
}

/// What a field with bytes holds.
pub(super) enum Field {
    Key,
    Value,
}

/// What the field `name` holds, and how its bytes are shown: `value_hex` says it itself.
pub(super) fn field(name: &[u8], key_as: Encoding, value_as: Encoding) -> Option<(Field, Encoding)> {
    let of_suffix = |suffix| Encoding::of_suffix(std::str::from_utf8(suffix).ok()?);
    if let Some(suffix) = name.strip_prefix(b"value") {
        let encoding = if suffix.is_empty() { Some(value_as) } else { of_suffix(suffix) };
        return Some((Field::Value, encoding?));
    }
    let suffix = name.strip_prefix(b"key")?;
    let encoding = if suffix.is_empty() { Some(key_as) } else { of_suffix(suffix) };
    Some((Field::Key, encoding?))
}

/// Reads a key or value by its codec; null is null.
#[inline]
pub(super) fn coded<'a>(
    cursor: &mut Cursor<'a>,
    name: &[u8],
    codec: Encoding,
    into: &mut Part<'a>,
    memory: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let start = cursor.at();
    match cursor.value()? {
        Value::Plain(text) if codec == Encoding::Text && into.bytes == Bytes::Absent => {
            into.bytes = Bytes::Plain(text);
            into.written.origin = Origin::JsonString;
            Ok(())
        }
        value => decoded(cursor, start, value, name, codec, into, memory),
    }
}

/// Decodes a value that was read since `start`, and is not plain text.
#[inline(never)]
fn decoded<'a>(
    cursor: &Cursor<'a>,
    start: usize,
    value: Value<'a>,
    name: &[u8],
    codec: Encoding,
    into: &mut Part<'a>,
    memory: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let shown = || String::from_utf8_lossy(name);
    if into.bytes != Bytes::Absent {
        return Err(twice(cursor, &shown()));
    }
    into.bytes = match value {
        Value::Null => Bytes::Null,
        _ => {
            memory.clear();
            let json = cursor.since(start);
            codec.decode(json, memory).map_err(|why| {
                // A string may have escapes that JSON does not have.
                let begin = cursor.at() - json.len();
                match json.starts_with('"').then(|| serde_json::from_str::<String>(json)) {
                    Some(Err(error)) => {
                        let BadLine { byte, what, .. } = BadLine::from(error);
                        Wrong::Bad(BadLine::at(begin + byte.unwrap_or(1), format!("{}: {what}", shown())))
                    }
                    _ => bad(cursor, format!("{}: {why}", shown())),
                }
            })?;
            Bytes::Decoded
        }
    };
    into.written.origin = match (codec, value) {
        // Its name says what it is.
        _ if name.contains(&b'_') => Origin::Bytes,
        (_, Value::Null) | (Encoding::Json, _) => Origin::Text,
        (Encoding::Text, Value::Json(json)) if json.starts_with('"') => Origin::JsonString,
        (Encoding::Text, _) => Origin::Text,
        _ => Origin::Bytes,
    };
    Ok(())
}

/// The part and kind of a field like `value_schema_id`.
pub(super) fn named_schema(name: &[u8]) -> Option<(Field, &str)> {
    let kind = |part: &[u8]| std::str::from_utf8(name.strip_prefix(part)?.strip_prefix(b"_schema_")?).ok();
    kind(b"value").map(|kind| (Field::Value, kind)).or_else(|| kind(b"key").map(|kind| (Field::Key, kind)))
}

/// Reads what names the schema of a key or value.
pub(super) fn schema<'a>(cursor: &mut Cursor<'a>, name: &[u8], kind: &str, part: &mut Part<'a>) -> Result<(), Wrong> {
    let start = cursor.at();
    let value = cursor.value()?;
    let wrong = |why: String| bad(cursor, format!("{}: {why}", String::from_utf8_lossy(name)));
    let schema = &mut part.written.schema;
    match (kind, value) {
        (_, Value::Null) => {}
        // The name of a message has no character that would be escaped.
        ("message", Value::Plain(message)) => schema.message = std::str::from_utf8(message).ok(),
        ("message", _) => return Err(wrong("expected the name of a message".to_owned())),
        _ => schema.id = Some(SchemaId::of_field(kind, cursor.since(start)).map_err(wrong)?),
    }
    Ok(())
}

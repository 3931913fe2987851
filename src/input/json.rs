//! JSON lines → records: the objects that `consume` writes, read back exactly.

use super::{BadLine, Read};
use crate::codec::framed::{Origin, Written};
use crate::codec::{Codec, Encoding, SchemaUsed};
use crate::record::{HeaderBuf, PartitionId, RecordRef, Timestamp};
use crate::registry::SchemaId;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The fields of the object that people are told of.
const FIELDS: &[&str] = &[
    "topic",
    "partition",
    "offset",
    "timestamp",
    "timestamp_type",
    "key",
    "key_base64",
    "key_hex",
    "value",
    "value_base64",
    "value_hex",
    "value_schema_id",
    "headers",
];

/// What holds for every line.
#[derive(Debug, Default)]
pub struct JsonOptions {
    /// Whether fields that are not the object's are ignored.
    pub ignore_unknown: bool,
    /// Headers of every record, after its own.
    pub extra_headers: HeaderBuf,
    /// The key of records that name none.
    pub default_key: Option<Vec<u8>>,
    /// The timestamp of records that name none.
    pub default_timestamp: Option<Timestamp>,
    /// What stands in `key`.
    pub key_as: Encoding,
    /// What stands in `value`.
    pub value_as: Encoding,
}

/// Reads lines that hold one object each.
#[derive(Debug, Default)]
pub struct JsonReader {
    options: JsonOptions,
    fields: Fields,
}

/// The fields of one line; the memory is used again for the next.
#[derive(Debug, Default)]
struct Fields {
    topic: Option<String>,
    partition: Option<PartitionId>,
    timestamp: Option<Timestamp>,
    key: Bytes,
    value: Bytes,
    headers: HeaderBuf,
}

/// A key or value: absent, null, or bytes.
#[derive(Debug, Default)]
struct Bytes {
    given: bool,
    null: bool,
    bytes: Vec<u8>,
    origin: Origin,
    schema_id: Option<SchemaId>,
    schema_message: Option<String>,
}

impl Bytes {
    fn clear(&mut self) {
        (self.given, self.null) = (false, false);
        (self.schema_id, self.schema_message) = (None, None);
        self.bytes.clear();
    }

    fn get(&self) -> Option<&[u8]> {
        (self.given && !self.null).then_some(&self.bytes[..])
    }

    fn written(&self) -> Written<'_> {
        let schema = SchemaUsed { id: self.schema_id, message: self.schema_message.as_deref() };
        let origin = if self.given { self.origin } else { Origin::Text };
        Written { origin, schema }
    }
}

impl JsonReader {
    /// A reader of lines for which `options` hold.
    pub fn new(options: JsonOptions) -> Self {
        Self { options, fields: Fields::default() }
    }

    /// The record of `line`; `None` when the line is blank.
    ///
    /// # Errors
    /// It is no such object; the error says at which byte.
    pub fn read<'a>(&'a mut self, line: &[u8]) -> Result<Option<Read<'a>>, BadLine> {
        // Editors on Windows begin a file with a byte order mark; it is nothing that JSON could begin with.
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let Self { options, fields } = self;
        fields.topic = None;
        fields.partition = None;
        fields.timestamp = None;
        fields.key.clear();
        fields.value.clear();
        fields.headers.clear();
        let mut parser = serde_json::Deserializer::from_slice(line);
        let seed = Object { fields, options };
        seed.deserialize(&mut parser).and_then(|()| parser.end()).map_err(BadLine::from)?;
        fields.headers.extend(options.extra_headers.as_headers());
        let record = RecordRef {
            offset: 0,
            timestamp: fields.timestamp.or(options.default_timestamp),
            key: if fields.key.given { fields.key.get() } else { options.default_key.as_deref() },
            value: fields.value.get(),
            headers: fields.headers.as_headers(),
        };
        Ok(Some(Read {
            topic: fields.topic.as_deref(),
            partition: fields.partition,
            record,
            key: fields.key.written(),
            value: fields.value.written(),
        }))
    }
}

struct Object<'a> {
    fields: &'a mut Fields,
    options: &'a JsonOptions,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object as `kpipe consume` writes it")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { fields, options } = self;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*name {
                "topic" => fields.topic = map.next_value()?,
                "partition" => fields.partition = map.next_value()?,
                "timestamp" => fields.timestamp = map.next_value()?,
                "offset" => drop(map.next_value::<i64>()?),
                "timestamp_type" => drop(map.next_value::<&str>()?),
                "headers" => map.next_value_seed(HeaderList(&mut fields.headers))?,
                // What consume says of a record that it could not decode.
                "error" => drop(map.next_value::<IgnoredAny>()?),
                name => match field(name, options.key_as, options.value_as) {
                    Some((Field::Key, encoding)) => coded(&mut map, &mut fields.key, name, encoding)?,
                    Some((Field::Value, encoding)) => coded(&mut map, &mut fields.value, name, encoding)?,
                    None if named_schema(name).is_some() => fields.read_schema(name, &mut map)?,
                    None if options.ignore_unknown => drop(map.next_value::<IgnoredAny>()?),
                    None => {
                        let hint = crate::error::did_you_mean(name, FIELDS.iter().copied());
                        return Err(A::Error::custom(format!(
                            "unknown field {name:?}{hint} (use --ignore-unknown to ignore it)"
                        )));
                    }
                },
            }
        }
        Ok(())
    }
}

/// What a field with bytes holds.
enum Field {
    Key,
    Value,
}

/// What the field `name` holds, and how its bytes are shown: `value_hex` says it itself.
fn field(name: &str, key_as: Encoding, value_as: Encoding) -> Option<(Field, Encoding)> {
    if let Some(suffix) = name.strip_prefix("value") {
        let encoding = if suffix.is_empty() { Some(value_as) } else { Encoding::of_suffix(suffix) };
        return Some((Field::Value, encoding?));
    }
    let suffix = name.strip_prefix("key")?;
    let encoding = if suffix.is_empty() { Some(key_as) } else { Encoding::of_suffix(suffix) };
    Some((Field::Key, encoding?))
}

/// The part and kind of a field like `value_schema_id`.
fn named_schema(name: &str) -> Option<(Field, &str)> {
    let kind = |part: &str| name.strip_prefix(part)?.strip_prefix("_schema_");
    kind("value").map(|kind| (Field::Value, kind)).or_else(|| kind("key").map(|kind| (Field::Key, kind)))
}

impl Fields {
    /// Reads what names the schema of a key or value.
    fn read_schema<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let raw = map.next_value::<&'de RawValue>()?.get();
        let Some((field, kind)) = named_schema(name) else { return Ok(()) };
        let into = match field {
            Field::Key => &mut self.key,
            Field::Value => &mut self.value,
        };
        let wrong = |why: String| A::Error::custom(format!("{name}: {why}"));
        if kind == "message" {
            into.schema_message = serde_json::from_str(raw).map_err(|_| wrong("expected a string".to_owned()))?;
        } else if raw != "null" {
            into.schema_id = Some(SchemaId::of_field(kind, raw).map_err(wrong)?);
        }
        Ok(())
    }
}

/// Reads a key or value by its codec; null is null.
fn coded<'de, A: MapAccess<'de>>(map: &mut A, into: &mut Bytes, name: &str, codec: Encoding) -> Result<(), A::Error> {
    let raw = map.next_value::<&'de RawValue>()?.get();
    take(into, name)?;
    if raw == "null" {
        into.null = true;
        return Ok(());
    }
    into.origin = match codec {
        // Its name says what it is.
        _ if name.contains('_') => Origin::Bytes,
        Encoding::Text if raw.starts_with('"') => Origin::JsonString,
        Encoding::Text | Encoding::Json => Origin::Text,
        _ => Origin::Bytes,
    };
    codec.decode(raw, &mut into.bytes).map_err(|e| A::Error::custom(format!("{name}: {e}")))
}

fn take<E: serde::de::Error>(into: &mut Bytes, name: &str) -> Result<(), E> {
    if std::mem::replace(&mut into.given, true) {
        return Err(E::custom(format!("{name} given twice, in several forms")));
    }
    Ok(())
}

struct HeaderList<'a>(&'a mut HeaderBuf);

impl<'de> DeserializeSeed<'de> for HeaderList<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for HeaderList<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of headers like {\"key\":\"trace\",\"value\":\"abc\"}, or a map like {\"trace\":\"abc\"}")
    }

    /// Other tools write headers as a map, which cannot hold a name twice.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut value = Bytes::default();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            value.clear();
            coded(&mut map, &mut value, &name, Encoding::Text)?;
            self.0.push(name.as_bytes(), value.get());
        }
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(OneHeader(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

struct OneHeader<'a>(&'a mut HeaderBuf);

impl<'de> DeserializeSeed<'de> for OneHeader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneHeader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header like {\"key\":\"trace\",\"value\":\"abc\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut key = Bytes::default();
        let mut value = Bytes::default();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match field(&name, Encoding::Text, Encoding::Text) {
                Some((Field::Key, encoding)) => coded(&mut map, &mut key, &name, encoding)?,
                Some((Field::Value, encoding)) => coded(&mut map, &mut value, &name, encoding)?,
                None => return Err(A::Error::custom(format!("unknown field {name:?} in a header"))),
            }
        }
        let name = key.get().ok_or_else(|| A::Error::custom("a header without a key"))?;
        self.0.push(name, value.get());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(line: &str) -> BadLine {
        JsonReader::default().read(line.as_bytes()).unwrap_err()
    }

    #[test]
    fn null_empty_and_absent_are_told_apart() {
        let mut reader = JsonReader::new(JsonOptions { default_key: Some(b"d".to_vec()), ..Default::default() });
        let mut key = |line: &str| reader.read(line.as_bytes()).unwrap().unwrap().record.key.map(<[u8]>::to_vec);
        assert_eq!(key(r#"{"key":null}"#), None);
        assert_eq!(key(r#"{"key":""}"#), Some(vec![]));
        assert_eq!(key(r#"{"value":"v"}"#), Some(b"d".to_vec()));
        assert_eq!(key(r#"{"key_base64":"/w=="}"#), Some(vec![0xff]));
        assert_eq!(key(r#"{"key":{"a": 1}}"#), Some(br#"{"a": 1}"#.to_vec()));
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let mut reader = JsonReader::default();
        let read = reader.read("\u{feff}{\"value\":\"v\"}".as_bytes()).unwrap().unwrap();
        assert_eq!(read.record.value, Some(&b"v"[..]));
    }

    #[test]
    fn a_malformed_line_says_what_and_where() {
        assert_eq!(bad(r#"{"value":"v""#).byte, Some(12));
        assert!(bad(r#"{"vlaue":"v"}"#).what.contains("did you mean value?"));
        assert!(bad(r#"{"key":"a","key_base64":"YQ=="}"#).what.contains("given twice"));
        assert!(bad(r#"{"key_base64":"!"}"#).what.contains("key_base64"));
        assert!(bad(r#"[1]"#).what.contains("kpipe consume"));
        assert!(bad(r#"{} x"#).what.contains("trailing"));
        assert!(bad(r#"{"headers":[{"value":"x"}]}"#).what.contains("without a key"));
    }

    #[test]
    fn every_form_that_consume_writes_is_read() {
        let mut reader = JsonReader::new(JsonOptions { value_as: Encoding::Hex, ..Default::default() });
        let mut value = |line: &str| reader.read(line.as_bytes()).unwrap().unwrap().record.value.map(<[u8]>::to_vec);
        assert_eq!(value(r#"{"value":"ff00"}"#), Some(vec![0xff, 0]));
        assert_eq!(value(r#"{"value_i16":-2}"#), Some(vec![0xff, 0xfe]));
        assert_eq!(value(r#"{"value_u32_le":1}"#), Some(vec![1, 0, 0, 0]));
        assert_eq!(value(r#"{"value_uuid":"00000000-0000-0000-0000-00000000000a"}"#).unwrap()[15], 10);
        assert_eq!(value(r#"{"value_msgpack":[1]}"#), Some(vec![0x91, 1]));
        assert_eq!(value(r#"{"value_hex":null}"#), None);
        assert!(bad(r#"{"value_i8":300}"#).what.contains("value_i8: expected a signed 8-bit integer"));
        assert!(bad(r#"{"value_i9":300}"#).what.contains("unknown field"));
    }

    #[test]
    fn headers_may_be_a_map() {
        let mut reader = JsonReader::default();
        let read = reader.read(br#"{"headers":{"a":"1","b":null,"c":{"x":1}}}"#).unwrap().unwrap();
        let headers: Vec<_> = read.record.headers.iter().map(|header| (header.key, header.value)).collect();
        let expected: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"1")), (b"b", None), (b"c", Some(br#"{"x":1}"#))];
        assert_eq!(headers, expected);
        assert!(reader.read(br#"{"headers":null}"#).unwrap().unwrap().record.headers.is_empty());
        assert!(bad(r#"{"headers":"a"}"#).what.contains("or a map"));
    }

    #[test]
    fn what_a_line_leaves_out_does_not_come_from_the_line_before() {
        let mut reader = JsonReader::default();
        let full =
            br#"{"topic":"t","partition":3,"timestamp":5,"key":"k","value":"v","headers":[{"key":"a","value":"b"}]}"#;
        reader.read(full).unwrap();
        let read = reader.read(b"{}").unwrap().unwrap();
        assert_eq!((read.topic, read.partition, read.record.timestamp), (None, None, None));
        assert!(read.record.key.is_none() && read.record.value.is_none() && read.record.headers.is_empty());
    }
}

//! JSON lines → records: the objects that `consume` writes, read back exactly.

use super::{BadLine, Read};
use crate::codec::{Base64, Codec, Text};
use crate::record::{HeaderBuf, PartitionId, RecordRef, Timestamp};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Every field of the object.
const FIELDS: &[&str] = &[
    "topic",
    "partition",
    "offset",
    "timestamp",
    "timestamp_type",
    "key",
    "key_base64",
    "value",
    "value_base64",
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
}

impl Bytes {
    fn get(&self) -> Option<&[u8]> {
        (self.given && !self.null).then_some(&self.bytes[..])
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
        for bytes in [&mut fields.key, &mut fields.value] {
            (bytes.given, bytes.null) = (false, false);
            bytes.bytes.clear();
        }
        fields.headers.clear();
        let mut parser = serde_json::Deserializer::from_slice(line);
        let seed = Object { fields, ignore_unknown: options.ignore_unknown };
        seed.deserialize(&mut parser).and_then(|()| parser.end()).map_err(BadLine::from)?;
        fields.headers.extend(options.extra_headers.as_headers());
        let record = RecordRef {
            offset: 0,
            timestamp: fields.timestamp.or(options.default_timestamp),
            key: if fields.key.given { fields.key.get() } else { options.default_key.as_deref() },
            value: fields.value.get(),
            headers: fields.headers.as_headers(),
        };
        Ok(Some(Read { topic: fields.topic.as_deref(), partition: fields.partition, record }))
    }
}

struct Object<'a> {
    fields: &'a mut Fields,
    ignore_unknown: bool,
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
        let fields = self.fields;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*name {
                "topic" => fields.topic = map.next_value()?,
                "partition" => fields.partition = map.next_value()?,
                "timestamp" => fields.timestamp = map.next_value()?,
                "offset" => drop(map.next_value::<i64>()?),
                "timestamp_type" => drop(map.next_value::<&str>()?),
                "key" => coded(&mut map, &mut fields.key, "key", &Text)?,
                "key_base64" => coded(&mut map, &mut fields.key, "key_base64", &Base64)?,
                "value" => coded(&mut map, &mut fields.value, "value", &Text)?,
                "value_base64" => coded(&mut map, &mut fields.value, "value_base64", &Base64)?,
                "headers" => map.next_value_seed(HeaderList(&mut fields.headers))?,
                _ if self.ignore_unknown => drop(map.next_value::<IgnoredAny>()?),
                unknown => {
                    let hint = crate::error::did_you_mean(unknown, FIELDS.iter().copied());
                    return Err(A::Error::custom(format!(
                        "unknown field {unknown:?}{hint} (use --ignore-unknown to ignore it)"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Reads a key or value by its codec; null is null.
fn coded<'de, A: MapAccess<'de>>(
    map: &mut A,
    into: &mut Bytes,
    name: &str,
    codec: &impl Codec,
) -> Result<(), A::Error> {
    let raw = map.next_value::<&'de RawValue>()?.get();
    take(into, name)?;
    if raw == "null" {
        into.null = true;
        return Ok(());
    }
    codec.decode(raw, &mut into.bytes).map_err(|e| A::Error::custom(format!("{name}: {e}")))
}

fn take<E: serde::de::Error>(into: &mut Bytes, name: &str) -> Result<(), E> {
    if std::mem::replace(&mut into.given, true) {
        return Err(E::custom(format!("{name} given twice, as text or as base64")));
    }
    Ok(())
}

struct HeaderList<'a>(&'a mut HeaderBuf);

impl<'de> DeserializeSeed<'de> for HeaderList<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for HeaderList<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of headers like {\"key\":\"trace\",\"value\":\"abc\"}")
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
            match &*name {
                "key" => coded(&mut map, &mut key, "key", &Text)?,
                "key_base64" => coded(&mut map, &mut key, "key_base64", &Base64)?,
                "value" => coded(&mut map, &mut value, "value", &Text)?,
                "value_base64" => coded(&mut map, &mut value, "value_base64", &Base64)?,
                unknown => return Err(A::Error::custom(format!("unknown field {unknown:?} in a header"))),
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

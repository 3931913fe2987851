//! JSON lines → records: the objects that `consume` writes, read back exactly.

mod cursor;
mod values;

use super::{BadLine, Read};
use crate::codec::Encoding;
use crate::record::{HeaderBuf, Offset, PartitionId, RecordRef, Timestamp};
use cursor::{Cursor, Value};
use serde_json::value::RawValue;
use values::{Bytes, Field, Part, Wrong, bad, coded, field, integer, named_schema, schema, twice};

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
    memory: Memory,
}

/// What of a line does not stand in it as it is; the memory is used again for the next line.
#[derive(Debug, Default)]
struct Memory {
    topic: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: HeaderBuf,
    /// Of a header.
    name: Vec<u8>,
    header_value: Vec<u8>,
}

/// The fields of a line.
#[derive(Debug, Default)]
struct Fields<'a> {
    topic: Part<'a>,
    partition: Option<PartitionId>,
    /// Where it was read; without a meaning here.
    offset: Option<Offset>,
    timestamp: Option<Timestamp>,
    key: Part<'a>,
    value: Part<'a>,
}

impl JsonReader {
    /// A reader of lines for which `options` hold.
    pub fn new(options: JsonOptions) -> Self {
        Self { options, memory: Memory::default() }
    }

    /// The record of `line`; `None` when the line is blank.
    ///
    /// # Errors
    /// It is no such object; the error says at which byte.
    #[inline]
    pub fn read<'a>(&'a mut self, line: &'a [u8]) -> Result<Option<Read<'a>>, BadLine> {
        // Editors on Windows begin a file with a byte order mark; it is nothing that JSON could begin with.
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let Self { options, memory } = self;
        let fields = memory.read(line, options).map_err(|wrong| match wrong {
            Wrong::Bad(bad) => bad,
            Wrong::Malformed => why_malformed(line),
        })?;
        memory.headers.extend(options.extra_headers.as_headers());
        let record = RecordRef {
            offset: 0,
            timestamp: fields.timestamp.or(options.default_timestamp),
            key: match fields.key.bytes {
                Bytes::Absent => options.default_key.as_deref(),
                key => key.get(&memory.key),
            },
            value: fields.value.bytes.get(&memory.value),
            headers: memory.headers.as_headers(),
        };
        // A string of JSON is UTF-8.
        let topic = fields.topic.bytes.get(&memory.topic).and_then(|topic| std::str::from_utf8(topic).ok());
        let (key, value) = (fields.key.written, fields.value.written);
        Ok(Some(Read { topic, partition: fields.partition, record, key, value }))
    }
}

/// What serde_json says of a line.
fn why_malformed(line: &[u8]) -> BadLine {
    match serde_json::from_slice::<&RawValue>(line) {
        Err(error) => {
            let mut bad = BadLine::from(error);
            if bad.what.starts_with("control character") {
                bad.byte = bad.byte.map(|before| before + 1); // in a value that is not read
            }
            bad
        }
        Ok(_) => BadLine::at(1, "expected an object as `kpipe consume` writes it".to_owned()),
    }
}

impl Memory {
    fn read<'a>(&mut self, line: &'a [u8], options: &JsonOptions) -> Result<Fields<'a>, Wrong> {
        self.headers.clear();
        let mut fields = Fields::default();
        let mut cursor = Cursor::new(line);
        let mut members = cursor.object()?;
        while cursor.has_next(&mut members)? {
            let name = cursor.name()?;
            match &*name {
                b"topic" => {
                    if !matches!(cursor.peek(), Some(b'"' | b'n')) {
                        return Err(bad(&cursor, "topic: expected a string".to_owned()));
                    }
                    coded(&mut cursor, &name, Encoding::Text, &mut fields.topic, &mut self.topic)?;
                }
                b"key" => coded(&mut cursor, &name, options.key_as, &mut fields.key, &mut self.key)?,
                b"value" => coded(&mut cursor, &name, options.value_as, &mut fields.value, &mut self.value)?,
                b"partition" => integer(&mut cursor, &name, &mut fields.partition)?,
                b"timestamp" => integer(&mut cursor, &name, &mut fields.timestamp)?,
                b"offset" => integer(&mut cursor, &name, &mut fields.offset)?,
                b"timestamp_type" => cursor.skip()?,
                b"headers" => self.headers(&mut cursor)?,
                // What consume reports of a record that it could not decode.
                b"error" => cursor.skip()?,
                name => match field(name, options.key_as, options.value_as) {
                    Some((Field::Key, encoding)) => {
                        coded(&mut cursor, name, encoding, &mut fields.key, &mut self.key)?;
                    }
                    Some((Field::Value, encoding)) => {
                        coded(&mut cursor, name, encoding, &mut fields.value, &mut self.value)?;
                    }
                    None if let Some((field, kind)) = named_schema(name) => {
                        let part = match field {
                            Field::Key => &mut fields.key,
                            Field::Value => &mut fields.value,
                        };
                        schema(&mut cursor, name, kind, part)?;
                    }
                    None if options.ignore_unknown => cursor.skip()?,
                    None => {
                        let name = String::from_utf8_lossy(name);
                        let hint = crate::error::did_you_mean(&name, FIELDS.iter().copied());
                        let what = format!("unknown field {name:?}{hint} (use --ignore-unknown to ignore it)");
                        return Err(bad(&cursor, what));
                    }
                },
            }
        }
        cursor.end()?;
        Ok(fields)
    }

    /// Reads an array of headers, or the map that other tools write, which cannot hold a name twice.
    fn headers(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Wrong> {
        let expected = |cursor: &Cursor<'_>| {
            let array = r#"an array like [{"key":"trace","value":"abc"}], or a map like {"trace":"abc"}"#;
            Err(bad(cursor, format!("headers: expected {array}")))
        };
        if !self.headers.as_headers().is_empty() {
            return Err(twice(cursor, "headers"));
        }
        match cursor.peek() {
            Some(b'[') => {
                let mut list = cursor.array()?;
                while cursor.has_next(&mut list)? {
                    if cursor.peek() != Some(b'{') {
                        return expected(cursor);
                    }
                    self.header(cursor)?;
                }
            }
            Some(b'{') => {
                let mut map = cursor.object()?;
                while cursor.has_next(&mut map)? {
                    let name = cursor.name()?;
                    let mut value = Part::default();
                    coded(cursor, &name, Encoding::Text, &mut value, &mut self.header_value)?;
                    self.headers.push(&name, value.bytes.get(&self.header_value));
                }
            }
            _ if cursor.value()? == Value::Null => {}
            _ => return expected(cursor),
        }
        Ok(())
    }

    /// Reads a header like `{"key":"trace","value":"abc"}`.
    fn header(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Wrong> {
        let mut members = cursor.object()?;
        let (mut key, mut value) = (Part::default(), Part::default());
        while cursor.has_next(&mut members)? {
            let name = cursor.name()?;
            match field(&name, Encoding::Text, Encoding::Text) {
                Some((Field::Key, encoding)) => coded(cursor, &name, encoding, &mut key, &mut self.name)?,
                Some((Field::Value, encoding)) => coded(cursor, &name, encoding, &mut value, &mut self.header_value)?,
                None => {
                    return Err(bad(cursor, format!("unknown field {:?} in a header", String::from_utf8_lossy(&name))));
                }
            }
        }
        let name = key.bytes.get(&self.name).ok_or_else(|| bad(cursor, "a header without a key".to_owned()))?;
        self.headers.push(name, value.bytes.get(&self.header_value));
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
        let escape = bad(r#"{"value":"a\q"}"#);
        assert!(escape.what.contains("value: invalid escape") && escape.byte == Some(13), "{escape:?}");
        let lone = bad(r#"{"value":"a\ud800b"}"#);
        assert!(lone.what.contains("value: ") && lone.byte.is_some_and(|byte| byte < 20), "{lone:?}");
        let control = bad("{\"value\":\"a\tb\"}");
        assert!(control.what.contains("control character") && control.byte == Some(12), "{control:?}");
        assert!(bad(r#"{"topic":5}"#).what.contains("topic: expected a string"));
        assert!(bad(r#"{"partition":1e9}"#).what.contains("partition: expected an integer of 32 bits"));
        assert!(bad(r#"{"headers":[{"value":"x"}]}"#).what.contains("without a key"));
        assert!(bad(r#"{"headers":["x"]}"#).what.contains("headers: expected an array"));
        for twice in ["key", "timestamp", "partition", "offset"] {
            let line = format!(r#"{{"{twice}":1,"value":"v","{twice}":2}}"#);
            assert_eq!(bad(&line).what, format!("{twice} given twice"));
        }
        assert_eq!(bad(r#"{"headers":{"a":"1"},"headers":{"a":"2"}}"#).what, "headers given twice");
    }

    /// What is not read has to be JSON, too.
    #[test]
    fn an_ignored_string_is_checked() {
        for wrong in ["{\"error\":\"a\u{1}b\"}", r#"{"timestamp_type":"\q"}"#, r#"{"x":"\u12"}"#] {
            let mut reader = JsonReader::new(JsonOptions { ignore_unknown: true, ..Default::default() });
            assert!(reader.read(wrong.as_bytes()).is_err(), "{wrong}");
            let control = reader.read(b"{\"x\":\"a\tb\"}").unwrap_err();
            assert_eq!(control.byte, Some(8), "{control:?}");
        }
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

//! Records as JSON objects. Written by hand, for it is the way of every record; parsing is serde_json's.

use super::Encoding;
use crate::record::{Header, PartitionId, RecordRef, TimestampType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Writes a record as one line of JSON.
#[derive(Debug)]
pub struct JsonWriter {
    key: Encoding,
    value: Encoding,
    /// `{"topic":"t","partition":0`, the same for a whole batch.
    head: Vec<u8>,
    timestamp_type: TimestampType,
    nulls_known: bool,
}

impl JsonWriter {
    pub(super) fn new(key: Encoding, value: Encoding) -> Self {
        Self { key, value, head: Vec::new(), timestamp_type: TimestampType::Create, nulls_known: true }
    }

    /// To be called before records of this place, and of this kind, are written.
    pub(super) fn begin(
        &mut self,
        topic: &str,
        partition: Option<PartitionId>,
        timestamp_type: TimestampType,
        nulls_known: bool,
    ) {
        self.head.clear();
        self.head.extend_from_slice(b"{\"topic\":");
        string(&mut self.head, topic);
        if let Some(partition) = partition {
            self.head.extend_from_slice(b",\"partition\":");
            integer(&mut self.head, i64::from(partition));
        }
        self.timestamp_type = timestamp_type;
        self.nulls_known = nulls_known;
    }

    #[inline]
    pub(super) fn write(&self, out: &mut Vec<u8>, record: &RecordRef<'_>) {
        out.extend_from_slice(&self.head);
        if record.offset >= 0 {
            out.extend_from_slice(b",\"offset\":");
            integer(out, record.offset);
        }
        if let Some(timestamp) = record.timestamp {
            out.extend_from_slice(b",\"timestamp\":");
            integer(out, timestamp);
            if self.timestamp_type == TimestampType::Append {
                out.extend_from_slice(b",\"timestamp_type\":\"append\"");
            }
        }
        // An engine that cannot tell null from empty leaves the field out rather than guess.
        let known = |bytes: Option<&[u8]>| self.nulls_known || bytes.is_some_and(|bytes| !bytes.is_empty());
        if known(record.key) {
            field(out, "key", record.key, self.key);
        }
        if known(record.value) {
            field(out, "value", record.value, self.value);
        }
        if !record.headers.is_empty() {
            out.extend_from_slice(b",\"headers\":[");
            for (index, header) in record.headers.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_header(out, &header);
            }
            out.push(b']');
        }
        out.push(b'}');
    }
}

fn write_header(out: &mut Vec<u8>, header: &Header<'_>) {
    let start = out.len();
    field(out, "key", Some(header.key), Encoding::Text);
    out[start] = b'{'; // where the comma stands
    field(out, "value", header.value, Encoding::Text);
    out.push(b'}');
}

/// `,"name":…`, or `,"name_base64":…` where the bytes are no text.
#[inline]
fn field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>, encoding: Encoding) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    let Some(bytes) = bytes else {
        out.extend_from_slice(b"\":null");
        return;
    };
    match encoding {
        Encoding::Text => text(out, bytes),
        Encoding::Json => match serde_json::from_slice::<&serde_json::value::RawValue>(bytes) {
            Ok(_) => {
                out.extend_from_slice(b"\":");
                // Line breaks in valid JSON only stand between its parts; one object stays on one line.
                out.extend(bytes.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            }
            Err(_) => text(out, bytes),
        },
        Encoding::Base64 => base64(out, bytes),
        Encoding::Hex => {
            out.extend_from_slice(b"_hex\":\"");
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
            out.push(b'"');
        }
    }
}

#[inline]
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        out.extend_from_slice(b"\":\"");
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(b"\":");
            string(out, text);
        }
        Err(_) => base64(out, bytes),
    }
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"_base64\":\"");
    let start = out.len();
    let len = base64::encoded_len(bytes.len(), true).unwrap_or(usize::MAX);
    out.resize(start.saturating_add(len), 0);
    // Err cannot be: the slice has just the length.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// Whether all bytes are ASCII that JSON takes as it stands. Without a branch a byte, so that it is vectorised.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let special = |byte: u8| !(0x20..0x80).contains(&byte) | (byte == b'"') | (byte == b'\\');
    let (chunks, rest) = bytes.as_chunks::<32>();
    chunks.iter().all(|chunk| !chunk.iter().fold(false, |any, &byte| any | special(byte)))
        && !rest.iter().fold(false, |any, &byte| any | special(byte))
}

/// A JSON string with what must be escaped escaped.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => &control(byte),
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain_from..index]);
        out.extend_from_slice(escape);
        plain_from = index + 1;
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

fn control(byte: u8) -> [u8; 6] {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]
}

#[inline]
fn integer(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::JsonReader;
    use crate::record::{HeaderBuf, Headers};
    use proptest::prelude::*;

    /// The line of `record` in partition 3 of topic t.
    fn line_of(record: &RecordRef<'_>, value: Encoding, timestamp_type: TimestampType, nulls_known: bool) -> String {
        let mut writer = JsonWriter::new(Encoding::Text, value);
        writer.begin("t", Some(3), timestamp_type, nulls_known);
        let mut out = Vec::new();
        writer.write(&mut out, record);
        String::from_utf8(out).unwrap()
    }

    fn line(record: &RecordRef<'_>, value: Encoding) -> String {
        line_of(record, value, TimestampType::Create, true)
    }

    const PLAIN: RecordRef<'static> =
        RecordRef { offset: 42, timestamp: Some(7), key: None, value: Some(b"v"), headers: Headers::encoded(0, &[]) };

    #[test]
    fn a_record_looks_as_the_design_says() {
        let mut headers = HeaderBuf::default();
        headers.push(b"trace", Some(b"abc"));
        let record = RecordRef { key: Some(b"k"), headers: headers.as_headers(), ..PLAIN };
        assert_eq!(
            line(&record, Encoding::Text),
            r#"{"topic":"t","partition":3,"offset":42,"timestamp":7,"key":"k","value":"v","headers":[{"key":"trace","value":"abc"}]}"#
        );
        assert!(
            line_of(&PLAIN, Encoding::Text, TimestampType::Append, true)
                .contains(r#""timestamp":7,"timestamp_type":"append","key":null"#)
        );
        let record = RecordRef { timestamp: None, value: Some(b""), ..PLAIN };
        assert_eq!(
            line_of(&record, Encoding::Text, TimestampType::Create, false),
            r#"{"topic":"t","partition":3,"offset":42}"#
        );
    }

    #[test]
    fn values_are_shown_as_asked() {
        let value = |bytes: &'static [u8], encoding| line(&RecordRef { value: Some(bytes), ..PLAIN }, encoding);
        assert!(value(b"{\"a\":\n1}", Encoding::Json).ends_with(r#""value":{"a": 1}}"#));
        assert!(value(b"{nonsense", Encoding::Json).ends_with(r#""value":"{nonsense"}"#));
        assert!(value(b"\xff", Encoding::Text).ends_with(r#""value_base64":"/w=="}"#));
        assert!(value(b"v", Encoding::Base64).ends_with(r#""value_base64":"dg=="}"#));
        assert!(value(b"\x0f\xf0", Encoding::Hex).ends_with(r#""value_hex":"0ff0"}"#));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            key: Option<Vec<u8>>, value: Option<Vec<u8>>, text: Option<String>, timestamp in 0..i64::MAX,
            headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        ) {
            let mut buf = HeaderBuf::default();
            headers.iter().for_each(|(key, value)| buf.push(key, value.as_deref()));
            let value = text.map(String::into_bytes).or(value);
            let record = RecordRef {
                offset: 0, timestamp: Some(timestamp), key: key.as_deref(), value: value.as_deref(), headers: buf.as_headers(),
            };
            let line = line(&record, Encoding::Text);
            prop_assert!(!line.contains('\n'));
            let mut reader = JsonReader::default();
            let read = reader.read(line.as_bytes()).unwrap().unwrap();
            prop_assert_eq!((read.topic, read.partition), (Some("t"), Some(3)));
            prop_assert_eq!(read.record, record);
        }
    }
}

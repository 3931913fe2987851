//! Records as JSON objects. Written by hand, because it is the record path; parsing is serde_json's.

use super::Format;
use crate::codec::{Base64, Codec, Encoding, Shown, Text, View, write_string};
use crate::error::Result;
use crate::record::{Batch, Header, PartitionId, RecordRef, TimestampType};

/// One JSON object per record.
#[derive(Debug)]
pub struct JsonFormat {
    json: JsonWriter,
    delimiter: Vec<u8>,
}

impl JsonFormat {
    pub fn new(key: Encoding, value: Encoding, delimiter: &[u8]) -> Self {
        Self { json: JsonWriter::new(key, value), delimiter: delimiter.to_vec() }
    }
}

impl Format for JsonFormat {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.json.begin(&batch.topic, Some(batch.partition), batch.timestamp_type, batch.nulls_known);
        Ok(())
    }

    #[inline(always)] // in both places of ConsumeRun::write
    fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, view: &View<'_>) -> Result<()> {
        self.json.write(out, record, view)?;
        out.extend_from_slice(&self.delimiter);
        Ok(())
    }

    fn is_visible(&self) -> bool {
        true
    }
}

/// Writes a record as one line of JSON.
#[derive(Debug)]
pub(super) struct JsonWriter {
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

    /// Prepares for records of this topic partition and kind.
    pub(super) fn begin(
        &mut self,
        topic: &str,
        partition: Option<PartitionId>,
        timestamp_type: TimestampType,
        nulls_known: bool,
    ) {
        self.head.clear();
        self.head.extend_from_slice(b"{\"topic\":");
        write_string(&mut self.head, topic);
        if let Some(partition) = partition {
            self.head.extend_from_slice(b",\"partition\":");
            integer(&mut self.head, i64::from(partition));
        }
        self.timestamp_type = timestamp_type;
        self.nulls_known = nulls_known;
    }

    #[inline(always)]
    pub(super) fn write(&self, out: &mut Vec<u8>, record: &RecordRef<'_>, view: &View<'_>) -> Result<()> {
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
        // An engine that does not distinguish null from empty leaves the field out rather than guess.
        let known = |bytes: Option<&[u8]>| self.nulls_known || bytes.is_some_and(|bytes| !bytes.is_empty());
        if known(record.key) {
            shown_field(out, "key", record.key, &self.key, &view.key)?;
        }
        if known(record.value) {
            shown_field(out, "value", record.value, &self.value, &view.value)?;
        }
        if !record.headers.is_empty() {
            out.extend_from_slice(b",\"headers\":[");
            for (index, header) in record.headers.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_header(out, &header)?;
            }
            out.push(b']');
        }
        if matches!(view, View { key: Shown::Undecodable { .. }, .. } | View { value: Shown::Undecodable { .. }, .. }) {
            write_error(out, view);
        }
        out.push(b'}');
        Ok(())
    }
}

/// A key or value as `shown` says.
#[inline]
fn shown_field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>, codec: &Encoding, shown: &Shown<'_>) -> Result<()> {
    match (shown, bytes) {
        (Shown::Plain, _) | (_, None) => field(out, name, bytes, codec),
        (Shown::Undecodable { .. }, _) => field(out, name, bytes, &Base64),
        (Shown::Json { json, schema }, Some(_)) => {
            let member = |out: &mut Vec<u8>, suffix: &str| {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(suffix.as_bytes());
            };
            member(out, "\":");
            out.extend_from_slice(json);
            if let Some(id) = schema.id {
                member(out, "_schema_");
                out.extend_from_slice(id.field().as_bytes());
                out.extend_from_slice(b"\":");
                id.write_json(out);
            }
            if let Some(message) = schema.message {
                member(out, "_schema_message\":");
                write_string(out, message);
            }
            Ok(())
        }
    }
}

/// `,"error":"value: …"`, for a key or value that does not decode.
#[cold]
fn write_error(out: &mut Vec<u8>, view: &View<'_>) {
    let mut error = String::new();
    for (name, shown) in [("key", view.key), ("value", view.value)] {
        if let Shown::Undecodable { why } = shown {
            let semicolon = if error.is_empty() { "" } else { "; " };
            error.push_str(&format!("{semicolon}{name}: {why}"));
        }
    }
    out.extend_from_slice(b",\"error\":");
    write_string(out, &error);
}

fn write_header(out: &mut Vec<u8>, header: &Header<'_>) -> Result<()> {
    out.push(b'{');
    Text.encode(out, "key", header.key)?;
    field(out, "value", header.value, &Text)?;
    out.push(b'}');
    Ok(())
}

/// `,"name":…`, or `,"name_base64":…` where the bytes are not text.
#[inline]
fn field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>, codec: &impl Codec) -> Result<()> {
    out.push(b',');
    match bytes {
        Some(bytes) => codec.encode(out, name, bytes),
        None => {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":null");
            Ok(())
        }
    }
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
        writer.write(&mut out, record, &View::PLAIN).unwrap();
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

//! Records as rows of CSV (RFC 4180) or TSV. Quoting is done here, in place behind the field that was written: it is four
//! lines, and a writer of its own would copy each field once more. Reading is `csv-core`'s.

use super::Format;
use super::template::write_part;
use crate::codec::{Encoding, View};
use crate::error::Result;
use crate::record::{Batch, PartitionId, RecordRef};
use crate::template::{Form, Part, Template, TimeForm, What};
use std::str::FromStr;
use std::sync::Arc;

/// A column: what it holds and what the header row calls it.
#[derive(Debug, Clone)]
pub struct Column {
    name: String,
    parts: Vec<What>,
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = match text {
            "topic" => vec![What::Topic],
            "partition" => vec![What::Partition],
            "offset" => vec![What::Offset],
            "timestamp" => vec![What::Timestamp(TimeForm::Milliseconds)],
            "key" => vec![What::Key(Form::Default)],
            "value" => vec![What::Value(Form::Default)],
            "headers" => vec![What::Headers],
            path if path.starts_with('.') => vec![What::Value(Form::Field(path.parse()?))],
            template if template.contains('%') => {
                let template: Template = template.parse().map_err(|e: crate::template::Malformed| e.to_string())?;
                template.parts().iter().map(|part: &Part| part.what.clone()).collect()
            }
            unknown => {
                let hint = crate::error::did_you_mean(unknown, Self::NAMES);
                let names = Self::NAMES.join(", ");
                return Err(format!(
                    "unknown column {unknown:?}{hint} (expected {names}, a field of a JSON value like .id, or a template like %h{{name}})"
                ));
            }
        };
        Ok(Self { name: text.to_owned(), parts })
    }
}

impl Column {
    /// Those that a name alone stands for; all but the last are the columns where none are chosen.
    pub const NAMES: [&str; 7] = ["topic", "partition", "offset", "timestamp", "key", "value", "headers"];

    /// The columns where none are chosen.
    ///
    /// # Errors
    /// None: every name is one of a column.
    pub fn defaults() -> Result<Vec<Self>, String> {
        Self::NAMES[..6].iter().map(|name| name.parse()).collect()
    }
}

/// Rows of fields.
#[derive(Debug)]
pub struct CsvFormat {
    columns: Vec<Column>,
    /// Between fields: a comma or a tab.
    separator: u8,
    delimiter: Vec<u8>,
    has_header: bool,
    topic: Arc<str>,
    partition: PartitionId,
}

impl CsvFormat {
    /// Rows of `columns`, each followed by `delimiter`, after a row of their names if `has_header`. Keys and values
    /// without a form of their own are written as `key` and `value` say.
    pub fn new(
        mut columns: Vec<Column>,
        separator: u8,
        delimiter: &[u8],
        has_header: bool,
        key: Encoding,
        value: Encoding,
    ) -> Self {
        for what in columns.iter_mut().flat_map(|column| &mut column.parts) {
            what.set_default(key, value);
        }
        Self { columns, separator, delimiter: delimiter.to_vec(), has_header, topic: Arc::from(""), partition: 0 }
    }
}

impl Format for CsvFormat {
    fn head(&mut self, out: &mut Vec<u8>) {
        if !self.has_header {
            return;
        }
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.push(self.separator);
            }
            let start = out.len();
            out.extend_from_slice(column.name.as_bytes());
            quote_if_needed(out, start, self.separator);
        }
        out.extend_from_slice(&self.delimiter);
    }

    fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.topic = batch.topic.clone();
        self.partition = batch.partition;
        Ok(())
    }

    #[inline]
    fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, view: &View<'_>) -> Result<()> {
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.push(self.separator);
            }
            let start = out.len();
            for what in &column.parts {
                write_part(out, what, &self.topic, self.partition, record, view);
            }
            // Null is an empty field; empty bytes are quoted, as is a row's only field, for a blank line is no row.
            let is_empty = out.len() == start;
            let is_known = || match &column.parts[..] {
                [What::Key(_)] => record.key.is_some(),
                [What::Value(Form::Encoded(_))] => record.value.is_some(),
                _ => false,
            };
            if is_empty && (self.columns.len() == 1 || is_known()) {
                out.extend_from_slice(b"\"\"");
            } else {
                quote_if_needed(out, start, self.separator);
            }
        }
        out.extend_from_slice(&self.delimiter);
        Ok(())
    }
}

/// Quotes the field that begins at `start`, if a reader would take it for something else.
#[inline]
fn quote_if_needed(out: &mut Vec<u8>, start: usize, separator: u8) {
    let field = &out[start..];
    let is_special = |byte: u8| (byte == separator) | (byte == b'"') | (byte == b'\n') | (byte == b'\r');
    // Without a branch for each byte, so that it is vectorized.
    if field.iter().fold(false, |any, &byte| any | is_special(byte)) {
        quote(out, start);
    }
}

/// Moves the field back by its opening quote and the quotes that are doubled, from its end on.
#[cold]
fn quote(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    let quotes = memchr::memchr_iter(b'"', &out[start..]).count();
    out.resize(end + quotes + 2, b'"');
    let mut to = out.len() - 1;
    for from in (start..end).rev() {
        to -= 1;
        out[to] = out[from];
        if out[from] == b'"' {
            to -= 1;
            out[to] = b'"';
        }
    }
    out[start] = b'"';
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;
    use proptest::prelude::*;

    fn rows(columns: &str, separator: u8, records: &[RecordRef<'_>]) -> Vec<u8> {
        let columns = columns.split(',').map(|name| name.parse().unwrap()).collect();
        let mut format = CsvFormat::new(columns, separator, b"\n", true, Encoding::Text, Encoding::Text);
        format.topic = Arc::from("t");
        let mut out = Vec::new();
        format.head(&mut out);
        records.iter().for_each(|record| format.write(&mut out, record, &View::PLAIN).unwrap());
        out
    }

    const PLAIN: RecordRef<'static> =
        RecordRef { offset: 42, timestamp: Some(7), key: None, value: Some(b"v"), headers: Headers::encoded(0, &[]) };

    #[test]
    fn fields_are_quoted_where_they_have_to_be() {
        let value = br#"{"id":"a,b","n":1}"#;
        let record = RecordRef { key: Some(b""), value: Some(value), ..PLAIN };
        let text = |columns, separator, records: &[_]| String::from_utf8(rows(columns, separator, records)).unwrap();
        assert_eq!(
            text("topic,partition,offset,timestamp,key,value,.id,.n,.x,%o/%p", b',', &[PLAIN, record]),
            "topic,partition,offset,timestamp,key,value,.id,.n,.x,%o/%p\n\
             t,0,42,7,,v,,,,42/0\n\
             t,0,42,7,\"\",\"{\"\"id\"\":\"\"a,b\"\",\"\"n\"\":1}\",\"a,b\",1,,42/0\n"
        );
        let record = RecordRef { key: Some(b"a\tb"), value: Some(b"c,d"), ..PLAIN };
        assert_eq!(text("key,value", b'\t', &[record]), "key\tvalue\n\"a\tb\"\tc,d\n");
        assert_eq!(text("key", b',', &[PLAIN]), "key\n\"\"\n");
        assert!("partion".parse::<Column>().unwrap_err().contains("did you mean partition?"));
        assert!(".a[".parse::<Column>().is_err() && "%q".parse::<Column>().is_err());
    }

    proptest! {
        #[test]
        fn every_field_is_read_back(fields in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), "[\",\n\r\ta]{0,6}"), 1..4), tabs: bool) {
            let records: Vec<_> = fields.iter().map(|(key, value)| RecordRef { key: Some(key), value: Some(value.as_bytes()), ..PLAIN }).collect();
            let separator = if tabs { b'\t' } else { b',' };
            let text = rows("key,value", separator, &records);
            let mut reader = csv_core::ReaderBuilder::new().delimiter(separator).build();
            let (mut rest, mut read) = (&text[..], Vec::new());
            loop {
                let (mut field, mut ends) = ([0; 100], [0; 3]);
                let (result, len, _, count) = reader.read_record(rest, &mut field, &mut ends);
                rest = &rest[len..];
                match result {
                    csv_core::ReadRecordResult::Record => {
                        prop_assert_eq!(count, 2);
                        read.push((field[..ends[0]].to_vec(), field[ends[0]..ends[1]].to_vec()));
                    }
                    csv_core::ReadRecordResult::InputEmpty => {}
                    csv_core::ReadRecordResult::End => break,
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            let written: Vec<_> = records.iter().map(|record| (record.key.unwrap().to_vec(), record.value.unwrap().to_vec())).collect();
            prop_assert_eq!(&read[1..], &written[..]);
        }
    }
}

//! CSV and TSV → records: each row becomes a key, a value and headers by the names of its columns.

mod rows;

use super::frame::Frame;
use super::{BadLine, Decoded};
use crate::codec::{Encoding, write_string, write_string_of};
use crate::error::did_you_mean;
use crate::record::{HeaderBuf, RecordRef, Timestamp};
pub use rows::CsvSplitter;

/// What the columns of a row become.
#[derive(Debug, Default)]
pub struct CsvOptions {
    /// The names of the columns, where the input has no header row.
    pub columns: Option<Vec<String>>,
    /// The column that is the key.
    pub key: Option<String>,
    /// What becomes the value.
    pub value: CsvValue,
    /// Columns that become headers.
    pub headers: Vec<String>,
    /// Whether an empty field is null.
    pub empty_is_null: bool,
    /// Headers of every record, after its own.
    pub extra_headers: HeaderBuf,
    /// The key where no column is one.
    pub default_key: Option<Vec<u8>>,
    /// The timestamp of every record.
    pub timestamp: Option<Timestamp>,
    /// What stands in the column of the key.
    pub key_as: Encoding,
    /// What stands in the column of the value.
    pub value_as: Encoding,
}

/// What becomes the value of a row.
#[derive(Debug, Default)]
pub enum CsvValue {
    /// A JSON object of all columns that become nothing else.
    #[default]
    Rest,
    /// A JSON object of these columns.
    Object(Vec<String>),
    /// One column, as it is.
    Column(String),
}

/// Reads a row as a record.
#[derive(Debug)]
pub struct CsvReader {
    options: CsvOptions,
    layout: Option<Layout>,
    value: Vec<u8>,
    headers: HeaderBuf,
    decoded: Decoded,
}

/// What each column becomes, by its index.
#[derive(Debug)]
struct Layout {
    width: usize,
    key: Option<usize>,
    value: ValueLayout,
    headers: Vec<(usize, String)>,
}

#[derive(Debug)]
enum ValueLayout {
    Column(usize),
    /// Each column with what stands before its value: `{"name":`, then `,"name":`.
    Object(Vec<(usize, Vec<u8>)>),
}

impl CsvReader {
    pub fn new(options: CsvOptions) -> Self {
        let (value, headers, decoded) = (Vec::new(), HeaderBuf::default(), Decoded::default());
        Self { options, layout: None, value, headers, decoded }
    }

    /// Another source begins, with a header row of its own.
    pub fn next_source(&mut self) {
        self.layout = None;
    }

    /// The row as a line of CSV, with every field in quotes.
    pub(super) fn text(&self, frame: &Frame<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(frame.bytes.len() + 3 * frame.ends.len());
        for (index, field) in frame.fields().enumerate() {
            line.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            for byte in field {
                line.extend_from_slice(if *byte == b'"' { b"\"\"" } else { std::slice::from_ref(byte) });
            }
            line.push(b'"');
        }
        line
    }

    /// The record of a row; `None` for the header row.
    ///
    /// # Errors
    /// The row has another number of fields than the header, or a field is not what it should be.
    pub fn read<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Option<RecordRef<'a>>, BadLine> {
        let Self { options, layout, value, headers, decoded } = self;
        if layout.is_none() {
            let names = match &options.columns {
                Some(names) => names.clone(),
                None => header_names(frame)?,
            };
            *layout = Some(Layout::of(&names, options).map_err(BadLine::unusable)?);
            if options.columns.is_none() {
                return Ok(None);
            }
        }
        let Some(layout) = layout else { return Ok(None) };
        if frame.ends.len() != layout.width {
            let (found, expected) = (frame.ends.len(), layout.width);
            return Err(BadLine::new(format!("{found} fields, where the header has {expected}")));
        }
        headers.clear();
        for (index, name) in &layout.headers {
            headers.push(name.as_bytes(), options.or_null(field(frame, *index)));
        }
        headers.extend(options.extra_headers.as_headers());
        let key = match layout.key {
            Some(index) => options.or_null(field(frame, index)),
            None => options.default_key.as_deref(),
        };
        let (key_as, value_as) = (layout.key.map_or(Encoding::Text, |_| options.key_as), options.value_as);
        let (value, value_as) = match &layout.value {
            ValueLayout::Column(index) => (options.or_null(field(frame, *index)), value_as),
            ValueLayout::Object(members) => {
                value.clear();
                options.write_object(value, members, frame)?;
                (Some(&value[..]), Encoding::Text)
            }
        };
        let (key, value) = decoded.decode(key, key_as, value, value_as)?;
        Ok(Some(RecordRef { offset: 0, timestamp: options.timestamp, key, value, headers: headers.as_headers() }))
    }
}

/// A field of a row that has the header's number of fields.
#[inline]
fn field<'a>(frame: &Frame<'a>, index: usize) -> &'a [u8] {
    let start = if index == 0 { 0 } else { frame.ends[index - 1] };
    &frame.bytes[start..frame.ends[index]]
}

fn header_names(frame: &Frame<'_>) -> Result<Vec<String>, BadLine> {
    let name = |field: &[u8]| String::from_utf8(field.to_vec());
    let names: Result<_, _> = frame.fields().map(name).collect();
    names.map_err(|_| BadLine::unusable("a column's name is not UTF-8".to_owned()))
}

impl CsvOptions {
    fn or_null<'a>(&self, field: &'a [u8]) -> Option<&'a [u8]> {
        (!(self.empty_is_null && field.is_empty())).then_some(field)
    }

    fn write_object(&self, out: &mut Vec<u8>, members: &[(usize, Vec<u8>)], frame: &Frame<'_>) -> Result<(), BadLine> {
        for (index, begin) in members {
            out.extend_from_slice(begin);
            match self.or_null(field(frame, *index)) {
                None => out.extend_from_slice(b"null"),
                Some(field) => write_string_of(out, field).map_err(|_| {
                    BadLine::new(format!("field {} is not UTF-8 (--value-column takes one column as it is)", index + 1))
                })?,
            }
        }
        out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        Ok(())
    }
}

impl Layout {
    fn of(names: &[String], options: &CsvOptions) -> Result<Self, String> {
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(format!("two columns have the name {name:?}"));
            }
        }
        let index = |wanted: &String| {
            names.iter().position(|name| name == wanted).ok_or_else(|| {
                let hint = did_you_mean(wanted, names.iter().map(String::as_str));
                format!("no column {wanted:?}{hint} (the columns are {})", names.join(", "))
            })
        };
        let key = options.key.as_ref().map(index).transpose()?;
        let headers: Result<Vec<_>, String> =
            options.headers.iter().map(|name| Ok((index(name)?, name.clone()))).collect();
        let headers = headers?;
        let members = match &options.value {
            CsvValue::Column(name) => {
                let value = ValueLayout::Column(index(name)?);
                return Ok(Self { width: names.len(), key, value, headers });
            }
            CsvValue::Object(wanted) => wanted.iter().map(index).collect::<Result<Vec<_>, _>>()?,
            CsvValue::Rest => {
                let is_used = |index: &usize| key == Some(*index) || headers.iter().any(|(header, _)| header == index);
                (0..names.len()).filter(|index| !is_used(index)).collect()
            }
        };
        let begin = |(n, index): (usize, usize)| {
            let mut begin = vec![if n == 0 { b'{' } else { b',' }];
            write_string(&mut begin, &names[index]);
            begin.push(b':');
            (index, begin)
        };
        let value = ValueLayout::Object(members.into_iter().enumerate().map(begin).collect());
        Ok(Self { width: names.len(), key, value, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ops::ControlFlow;

    type Row = (Option<String>, Option<String>, Vec<(String, Option<String>)>);

    /// The records of `text`, or what is wrong with it and where.
    fn read(options: CsvOptions, text: &str, step: usize) -> Result<Vec<Row>, String> {
        let (mut splitter, mut reader, mut rows) = (CsvSplitter::new(b',', 1000), CsvReader::new(options), Vec::new());
        let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut each = |frame: Frame<'_>| match reader.read(&frame) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(record)) => {
                let headers = record.headers.iter().map(|header| (owned(header.key), header.value.map(owned)));
                rows.push((record.key.map(owned), record.value.map(owned), headers.collect()));
                ControlFlow::Continue(())
            }
            Err(bad) => ControlFlow::Break(format!("{}: {}", frame.place, bad.what)),
        };
        let mut flow = ControlFlow::Continue(());
        for chunk in text.as_bytes().chunks(step) {
            flow = splitter.feed(chunk, &mut each).map_err(|bad| bad.what)?;
            if flow.is_break() {
                break;
            }
        }
        if flow.is_continue() {
            flow = splitter.finish(&mut each).map_err(|bad| bad.what)?;
        }
        match flow {
            ControlFlow::Break(why) => Err(why),
            ControlFlow::Continue(()) => Ok(rows),
        }
    }

    fn values(options: CsvOptions, text: &str) -> Result<Vec<String>, String> {
        Ok(read(options, text, 7)?.into_iter().map(|(_, value, _)| value.unwrap_or_default()).collect())
    }

    #[test]
    fn a_row_becomes_a_json_object_of_its_columns() {
        let text = "\u{feff}id,\"full name\",note\r\n1,Ann,\"two\r\nlines, \"\"quoted\"\"\"\r\n\r\n2,,x";
        let plain = values(CsvOptions::default(), text);
        let expected = [
            r#"{"id":"1","full name":"Ann","note":"two\r\nlines, \"quoted\""}"#,
            r#"{"id":"2","full name":"","note":"x"}"#,
        ];
        assert_eq!(plain.unwrap(), expected);
        let options = CsvOptions {
            key: Some("id".to_owned()),
            headers: vec!["note".to_owned()],
            empty_is_null: true,
            ..CsvOptions::default()
        };
        let rows = read(options, text, 3).unwrap();
        let (key, value, headers) = &rows[1];
        assert_eq!((key.as_deref(), value.as_deref()), (Some("2"), Some(r#"{"full name":null}"#)));
        assert_eq!(headers, &[("note".to_owned(), Some("x".to_owned()))]);
        let options = CsvOptions {
            columns: Some(vec!["a".to_owned(), "b".to_owned()]),
            value: CsvValue::Column("b".to_owned()),
            ..CsvOptions::default()
        };
        assert_eq!(values(options, "1,x\n2,y\n").unwrap(), ["x", "y"]);
        assert!(values(CsvOptions::default(), "").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_by_line() {
        let wrong = |options, text: &str| values(options, text).unwrap_err();
        let plain = CsvOptions::default;
        assert_eq!(wrong(plain(), "a,b\n\n\"x\ny\",1\n1,2,3\n"), ", line 5: 3 fields, where the header has 2");
        assert_eq!(wrong(plain(), "a,b\r\n1,2\r\n1\r\n"), ", line 3: 1 fields, where the header has 2");
        assert!(wrong(plain(), "a,a\n").contains("two columns have the name \"a\""));
        assert!(wrong(plain(), "a,b\n1,\"2\n").contains("not closed"));
        let options = CsvOptions { key: Some("user_d".to_owned()), ..plain() };
        assert!(wrong(options, "user_id,b\n").contains("did you mean user_id?"));
        let options = CsvOptions { key: Some("a".to_owned()), key_as: Encoding::named("i8").unwrap(), ..plain() };
        assert_eq!(wrong(options, "a,b\nx,1\n"), ", line 2: the key: expected a signed 8-bit integer");
        let long = format!("a\n{}\n", "x".repeat(5000));
        assert!(wrong(plain(), &long).contains("longer than --max-record-size 1000"));
    }

    proptest! {
        #[test]
        fn chunks_do_not_show(text in "a,b\n(\"?[a\",\n\r]{0,9}\"?,\"?[b\",\n]{0,9}\"?\r?\n){0,4}", step in 1..9usize) {
            prop_assert_eq!(read(CsvOptions::default(), &text, step), read(CsvOptions::default(), &text, usize::MAX));
        }
    }
}

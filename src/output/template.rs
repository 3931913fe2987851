//! Records as a template has them. Null is written as nothing, except where a form has a word for it.

use super::Format;
use crate::codec::{Encoding, Shown, View, path};
use crate::error::Result;
use crate::record::{Batch, PartitionId, RecordRef, Timestamp};
use crate::template::{Form, Part, Template, TimeForm, What};
use std::sync::Arc;

/// A template, filled in for each record.
#[derive(Debug)]
pub struct TemplateFormat {
    template: Template,
    topic: Arc<str>,
    partition: PartitionId,
}

impl TemplateFormat {
    /// Keys and values without a form of their own are written as `key` and `value` say.
    pub fn new(template: Template, key: Encoding, value: Encoding) -> Self {
        Self { template: template.with_defaults(key, value), topic: Arc::from(""), partition: 0 }
    }
}

impl Format for TemplateFormat {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.topic = batch.topic.clone();
        self.partition = batch.partition;
        Ok(())
    }

    #[inline(always)] // as JsonFormat's
    fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, view: &View<'_>) -> Result<()> {
        for Part { what, .. } in self.template.parts() {
            // What most templates consist of needs no call.
            match (what, view) {
                (What::Literal(bytes), _) => out.extend_from_slice(bytes),
                (What::Key(Form::Encoded(Encoding::Text)), View { key: Shown::Plain, .. }) => {
                    out.extend_from_slice(record.key.unwrap_or_default());
                }
                (What::Value(Form::Encoded(Encoding::Text)), View { value: Shown::Plain, .. }) => {
                    out.extend_from_slice(record.value.unwrap_or_default());
                }
                _ => write_part(out, what, &self.topic, self.partition, record, view),
            }
        }
        Ok(())
    }
}

/// Appends what a part of a template stands for in a record of this topic partition.
#[inline(never)]
pub(super) fn write_part(
    out: &mut Vec<u8>,
    what: &What,
    topic: &str,
    partition: PartitionId,
    record: &RecordRef<'_>,
    view: &View<'_>,
) {
    match what {
        What::Literal(bytes) => out.extend_from_slice(bytes),
        What::Key(Form::Encoded(Encoding::Text)) => {
            view.key.write_text(out, Encoding::Text, record.key.unwrap_or_default());
        }
        What::Value(Form::Encoded(Encoding::Text)) => {
            view.value.write_text(out, Encoding::Text, record.value.unwrap_or_default());
        }
        What::Key(form) => write_form(out, form, record.key, view.key),
        What::Value(form) => write_form(out, form, record.value, view.value),
        What::Topic => out.extend_from_slice(topic.as_bytes()),
        What::Partition => integer(out, i64::from(partition)),
        What::Offset => integer(out, record.offset),
        What::Timestamp(form) => write_time(out, form, record.timestamp),
        What::KeyLen => integer(out, len_of(record.key)),
        What::ValueLen => integer(out, len_of(record.value)),
        What::ValueLenBinary => out.extend_from_slice(&(len_of(record.value) as i32).to_be_bytes()),
        What::Headers => write_headers(out, record),
        What::Header(name) => {
            let named = record.headers.last(name);
            out.extend_from_slice(named.and_then(|header| header.value).unwrap_or_default());
        }
    }
}

/// The length as kcat has it: -1 for null.
fn len_of(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

#[inline]
fn integer(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Fields, and JSON and text are of what a schema gave; other encodings, and lengths, are of the record's own bytes.
fn write_form(out: &mut Vec<u8>, form: &Form, bytes: Option<&[u8]>, shown: Shown<'_>) {
    match (form, bytes) {
        (Form::Encoded(Encoding::Json), None) => out.extend_from_slice(b"null"),
        (_, None) => {}
        (Form::Default, Some(bytes)) => shown.write_text(out, Encoding::Text, bytes),
        (Form::Encoded(Encoding::Json), Some(bytes)) => shown.write_text(out, Encoding::Json, bytes),
        (Form::Encoded(encoding), Some(bytes)) => encoding.write_text(out, bytes),
        (Form::Field(field), Some(bytes)) => write_field(out, field, shown.text(Some(bytes)).unwrap_or_default()),
    }
}

/// Appends the text of a field; nothing where there is no such field.
fn write_field(out: &mut Vec<u8>, field: &path::Path, json: &[u8]) {
    let Some(found) = field.find(json) else { return };
    let start = out.len();
    if path::write_text(out, found).is_err() {
        // A string with broken escapes is shown as it stands.
        out.truncate(start);
        out.extend_from_slice(found);
    }
}

/// Appends a time; one that no calendar has in milliseconds, and an unknown one as kcat has it, -1.
pub(super) fn write_time(out: &mut Vec<u8>, form: &TimeForm, timestamp: Option<Timestamp>) {
    const RFC3339: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let milliseconds = timestamp.unwrap_or(-1);
    let start = out.len();
    let is_written = match (form, timestamp.map(jiff::Timestamp::from_millisecond)) {
        (TimeForm::Rfc3339, Some(Ok(time))) => RFC3339.print_timestamp(&time, &mut *out).is_ok(),
        (TimeForm::Pattern(pattern), Some(Ok(time))) => {
            jiff::fmt::strtime::BrokenDownTime::from(time).format(pattern, &mut *out).is_ok()
        }
        _ => false,
    };
    if !is_written {
        out.truncate(start);
        integer(out, milliseconds);
    }
}

/// `name=value,name=value`; a null value is NULL, as kcat has it.
fn write_headers(out: &mut Vec<u8>, record: &RecordRef<'_>) {
    for (index, header) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(header.key);
        out.push(b'=');
        out.extend_from_slice(header.value.unwrap_or(b"NULL"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{HeaderBuf, Headers};

    fn written(template: &str, record: &RecordRef<'_>) -> Vec<u8> {
        let mut format = TemplateFormat::new(template.parse().unwrap(), Encoding::Text, Encoding::Text);
        (format.topic, format.partition) = (Arc::from("t"), 3);
        let mut out = Vec::new();
        format.write(&mut out, record, &View::PLAIN).unwrap();
        out
    }

    fn text(template: &str, record: &RecordRef<'_>) -> String {
        String::from_utf8(written(template, record)).unwrap()
    }

    #[test]
    fn a_record_is_written_as_the_template_says() {
        let mut headers = HeaderBuf::default();
        for (name, value) in [("a", Some("1")), ("b", None), ("c", Some("")), ("a", Some("2"))] {
            headers.push(name.as_bytes(), value.map(str::as_bytes));
        }
        let record = RecordRef {
            offset: 42,
            timestamp: Some(1_795_418_062_647),
            key: Some(&[0, 0, 0, 7]),
            value: Some(br#"{"user":{"id":5,"name":"a\tb"},"n":null}"#),
            headers: headers.as_headers(),
        };
        for (template, expected) in [
            ("%t/%p@%o", "t/3@42"),
            ("%K %S", "4 40"),
            ("%k{i32} %k{hex}", "7 00000007"),
            ("%s{.user.id}|%s{.user.name}|%s{.n}|%s{.none}|%s{.user}", "5|a\tb|null||{\"id\":5,\"name\":\"a\\tb\"}"),
            ("%T", "1795418062647"),
            ("%T{rfc3339}", "2026-11-23T07:14:22.647Z"),
            ("%T{%Y-%m-%d}", "2026-11-23"),
            ("%h", "a=1,b=NULL,c=,a=2"),
            ("%h{a}%h{b}%h{x}", "2"),
            ("%s{i64}", "eyJ1c2VyIjp7ImlkIjo1LCJuYW1lIjoiYVx0YiJ9LCJuIjpudWxsfQ=="),
        ] {
            assert_eq!(text(template, &record), expected, "{template}");
        }
        assert_eq!(written("%R", &record), [0, 0, 0, 40]);
    }

    #[test]
    fn null_and_what_is_not_known_have_their_signs() {
        let record = RecordRef { offset: 0, timestamp: None, key: None, value: None, headers: Headers::default() };
        assert_eq!(text("%k|%s|%K|%S|%T|%s{json}|%s{hex}|%s{.a}|%h", &record), "||-1|-1|-1|null|||");
        assert_eq!(written("%R", &record), [0xff; 4]);
        let record = RecordRef { timestamp: Some(i64::MAX), ..record };
        assert_eq!(text("%T{rfc3339} %T{%Y}", &record), format!("{0} {0}", i64::MAX));
    }
}

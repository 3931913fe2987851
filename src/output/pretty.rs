//! Records for people: one line each, with colors where a terminal shows them.

use super::Format;
use super::template::write_time;
use crate::codec::{Encoding, Shown, View};
use crate::error::Result;
use crate::record::{Batch, RecordRef};
use crate::template::TimeForm;
use crate::text::escaped;
use serde_json::value::RawValue;
use std::io::Write;

/// Time, topic partition and offset, key, value, headers.
#[derive(Debug)]
pub struct PrettyFormat {
    key: Encoding,
    value: Encoding,
    has_colors: bool,
    delimiter: Vec<u8>,
    /// `topic partition/`, the same for a whole batch.
    place: Vec<u8>,
    text: Vec<u8>,
}

/// SGR codes that every terminal has.
#[derive(Debug, Clone, Copy)]
enum Color {
    Faint = 2,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Magenta = 35,
    Cyan = 36,
}

impl PrettyFormat {
    /// Keys and values are shown as `key` and `value` say.
    pub fn new(key: Encoding, value: Encoding, has_colors: bool, delimiter: &[u8]) -> Self {
        Self { key, value, has_colors, delimiter: delimiter.to_vec(), place: Vec::new(), text: Vec::new() }
    }

    fn colored(&self, out: &mut Vec<u8>, color: Color, text: &[u8]) {
        if self.has_colors {
            // A Vec takes all.
            let _ = write!(out, "\x1b[{}m", color as u8);
        }
        out.extend_from_slice(text);
        if self.has_colors {
            out.extend_from_slice(b"\x1b[0m");
        }
    }

    /// Shows a key or value; `plain` is the color of one that is not JSON.
    fn shown(
        &mut self,
        out: &mut Vec<u8>,
        encoding: Encoding,
        shown: Shown<'_>,
        plain: Option<Color>,
        bytes: Option<&[u8]>,
    ) {
        let Some(bytes) = bytes else { return self.colored(out, Color::Faint, b"null") };
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        shown.write_text(&mut text, encoding, bytes);
        if plain.is_none() && is_structured(&text) {
            self.json(out, &text);
        } else {
            let visible = visible(&text);
            match plain {
                Some(color) => self.colored(out, color, visible.as_bytes()),
                None => out.extend_from_slice(visible.as_bytes()),
            }
        }
        self.text = text;
    }

    /// Shows valid JSON on one line, each kind of value in its color.
    fn json(&self, out: &mut Vec<u8>, json: &[u8]) {
        let mut at = 0;
        while at < json.len() {
            let (len, color) = match json[at] {
                b'"' => {
                    let len = string_len(&json[at..]);
                    let next = json[at + len..].iter().find(|byte| !byte.is_ascii_whitespace());
                    (len, Some(if next == Some(&b':') { Color::Blue } else { Color::Green }))
                }
                b'\n' | b'\r' | b'\t' => {
                    out.push(b' ');
                    at += 1;
                    continue;
                }
                b'-' | b'0'..=b'9' => (word_len(&json[at..]), Some(Color::Yellow)),
                b'a'..=b'z' => (word_len(&json[at..]), Some(Color::Magenta)),
                _ => (1, None),
            };
            let token = &json[at..at + len];
            match color {
                Some(color) => self.colored(out, color, visible(token).as_bytes()),
                None => out.extend_from_slice(token),
            }
            at += len;
        }
    }
}

impl Format for PrettyFormat {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.place = format!("{} {}/", escaped(&batch.topic), batch.partition).into_bytes();
        Ok(())
    }

    fn write(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>, view: &View<'_>) -> Result<()> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        match record.timestamp {
            Some(_) => write_time(&mut text, &TimeForm::Rfc3339, record.timestamp),
            None => text.push(b'-'),
        }
        self.colored(out, Color::Faint, &text);
        text.clear();
        text.extend_from_slice(&self.place);
        text.extend_from_slice(itoa::Buffer::new().format(record.offset).as_bytes());
        out.push(b' ');
        self.colored(out, Color::Cyan, &text);
        self.text = text;
        out.push(b' ');
        self.shown(out, self.key, view.key, Some(Color::Green), record.key);
        out.push(b' ');
        self.shown(out, self.value, view.value, None, record.value);
        for header in record.headers.iter() {
            out.push(b' ');
            self.colored(out, Color::Faint, visible(header.key).as_bytes());
            out.push(b'=');
            self.shown(out, Encoding::Text, Shown::Plain, Some(Color::Faint), header.value);
        }
        out.extend_from_slice(&self.delimiter);
        Ok(())
    }

    fn is_visible(&self) -> bool {
        true
    }
}

/// Whether it is a JSON object or array.
fn is_structured(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) && serde_json::from_slice::<&RawValue>(text).is_ok()
}

/// The bytes that a JSON string takes, with its quotes.
fn string_len(json: &[u8]) -> usize {
    let mut at = 1;
    while at < json.len() && json[at] != b'"' {
        at += if json[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(json.len())
}

/// The bytes of a number, or of true, false or null.
fn word_len(json: &[u8]) -> usize {
    json.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')).count().max(1)
}

/// Bytes of others for a terminal: nothing in them acts on it, and what is not UTF-8 is shown as escapes.
fn visible(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&escaped(chunk.valid()));
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::HeaderBuf;

    fn line(has_colors: bool, key: Option<&[u8]>, value: Option<&[u8]>) -> String {
        let mut headers = HeaderBuf::default();
        headers.push(b"h", Some(b"\x1b[2J"));
        let mut format = PrettyFormat::new(Encoding::Text, Encoding::Text, has_colors, b"\n");
        format.place = b"t 0/".to_vec();
        let record = RecordRef { offset: 42, timestamp: Some(0), key, value, headers: headers.as_headers() };
        let mut out = Vec::new();
        format.write(&mut out, &record, &View::PLAIN).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_one_line_in_which_nothing_acts_on_a_terminal() {
        assert_eq!(
            line(false, Some(b"k\x07\xff"), Some(b"{\"a\":\n\"\xc2\x9b\"}")),
            "1970-01-01T00:00:00.000Z t 0/42 k\\x07\\xff {\"a\": \"\\u{9b}\"} h=\\x1b[2J\n"
        );
        assert_eq!(
            line(false, None, Some(b"two\nlines")),
            "1970-01-01T00:00:00.000Z t 0/42 null two\\nlines h=\\x1b[2J\n"
        );
    }

    #[test]
    fn each_kind_of_value_has_its_color() {
        let shown = line(true, Some(b"k"), Some(br#"{"a":[1,"x\"",true]}"#));
        for token in
            ["\x1b[34m\"a\"\x1b[0m:[", "\x1b[33m1\x1b[0m,", "\x1b[32m\"x\\\"\"\x1b[0m,", "\x1b[35mtrue\x1b[0m]}"]
        {
            assert!(shown.contains(token), "{shown:?} lacks {token:?}");
        }
        let plain: String =
            shown.split('\x1b').map(|part| part.split_once('m').map_or(part, |(_, text)| text)).collect();
        assert_eq!(plain, line(false, Some(b"k"), Some(br#"{"a":[1,"x\"",true]}"#)));
    }
}

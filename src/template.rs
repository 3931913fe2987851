//! Templates of records, as kcat's `-f` has them: read once into a flat list of parts, which `output` writes and `input`
//! reads back. Calls `codec`, `error` and `text`.

use crate::codec::{Encoding, Path};
use crate::text::{escape, escaped};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// What a record looks like.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Debug, Clone)]
pub struct Part {
    pub what: What,
    /// Where it stands in the text.
    span: Range<usize>,
}

/// What a part stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Bytes as they are.
    Literal(Vec<u8>),
    /// `%t`
    Topic,
    /// `%p`
    Partition,
    /// `%o`
    Offset,
    /// `%T`
    Timestamp(TimeForm),
    /// `%k`
    Key(Form),
    /// `%s`
    Value(Form),
    /// `%K`: in decimal digits, -1 for null.
    KeyLen,
    /// `%S`: in decimal digits, -1 for null.
    ValueLen,
    /// `%R`: four bytes, big-endian, -1 for null.
    ValueLenBinary,
    /// `%h`: `name=value,name=value`.
    Headers,
    /// `%h{name}`
    Header(Vec<u8>),
}

impl What {
    /// Has a key or value without a form of its own written in these encodings.
    pub fn set_default(&mut self, key: Encoding, value: Encoding) {
        match self {
            Self::Key(form @ Form::Default) => *form = Form::Encoded(key),
            Self::Value(form @ Form::Default) => *form = Form::Encoded(value),
            _ => {}
        }
    }
}

/// How a key or value is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// As the command line says.
    Default,
    /// In an encoding.
    Encoded(Encoding),
    /// A field of the JSON.
    Field(Path),
}

/// How a timestamp is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeForm {
    /// Milliseconds since 1970.
    Milliseconds,
    /// As RFC 3339 has it, in UTC, with milliseconds.
    Rfc3339,
    /// A pattern of strftime, in UTC.
    Pattern(String),
}

/// The tokens, for people.
const TOKENS: &str = "%s %k %t %p %o %T %h %S %K %R %%";

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    why: String,
    text: String,
    at: usize,
}

impl fmt::Display for Malformed {
    /// Points at the place with a caret below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = escaped(&self.text[..self.at]).chars().count();
        write!(f, "{}\n  {}\n  {:before$}^", self.why, escaped(&self.text), "")
    }
}

impl std::error::Error for Malformed {}

impl FromStr for Template {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parser = Parser { text, at: 0, parts: Vec::new() };
        while parser.at < text.len() {
            parser.next().map_err(|(at, why)| Malformed { why, text: text.to_owned(), at })?;
        }
        Ok(Self { text: text.to_owned(), parts: parser.parts })
    }
}

impl Template {
    /// A value, and what ends it.
    pub fn value(delimiter: &[u8]) -> Self {
        Self::of([What::Value(Form::Default), What::Literal(delimiter.to_vec())])
    }

    /// A key, a value, and what ends them.
    pub fn key_value(key_delimiter: &[u8], delimiter: &[u8]) -> Self {
        let literal = |bytes: &[u8]| What::Literal(bytes.to_vec());
        Self::of([What::Key(Form::Default), literal(key_delimiter), What::Value(Form::Default), literal(delimiter)])
    }

    fn of<const N: usize>(all: [What; N]) -> Self {
        Self { text: String::new(), parts: all.into_iter().map(|what| Part { what, span: 0..0 }).collect() }
    }

    /// Has keys and values without a form of their own written in these encodings.
    pub fn with_defaults(mut self, key: Encoding, value: Encoding) -> Self {
        self.parts.iter_mut().for_each(|part| part.what.set_default(key, value));
        self
    }

    /// Its parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What is wrong with a part of it.
    pub fn malformed(&self, part: &Part, why: &str) -> Malformed {
        Malformed { why: why.to_owned(), text: self.text.clone(), at: part.span.start }
    }
}

/// Why a template is malformed, and where.
type Wrong = (usize, String);

struct Parser<'a> {
    text: &'a str,
    at: usize,
    parts: Vec<Part>,
}

impl Parser<'_> {
    /// Reads what stands at `at`.
    fn next(&mut self) -> Result<(), Wrong> {
        let (start, rest) = (self.at, &self.text[self.at..]);
        match rest.as_bytes()[0] {
            b'%' => self.token()?,
            b'\\' => self.escaped()?,
            _ => {
                let len = rest.find(['%', '\\']).unwrap_or(rest.len());
                self.at += len;
                self.literal(start, &rest.as_bytes()[..len]);
            }
        }
        Ok(())
    }

    fn push(&mut self, start: usize, what: What) {
        self.parts.push(Part { what, span: start..self.at });
    }

    /// Appends to a literal, or begins one.
    fn literal(&mut self, start: usize, bytes: &[u8]) {
        match self.parts.last_mut() {
            Some(Part { what: What::Literal(literal), span }) => {
                literal.extend_from_slice(bytes);
                span.end = self.at;
            }
            _ => self.push(start, What::Literal(bytes.to_vec())),
        }
    }

    fn escaped(&mut self) -> Result<(), Wrong> {
        let (start, rest) = (self.at, &self.text[self.at + 1..]);
        // kcat takes any other character for itself; a letter or digit would rather be a mistake.
        let (byte, len) = match rest.chars().next() {
            Some(c) if c.is_ascii_punctuation() => (c as u8, 1),
            _ => escape(rest).map_err(|why| (start, why))?,
        };
        self.at += 1 + len;
        self.literal(start, &[byte]);
        Ok(())
    }

    fn token(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let Some(token) = self.text[start + 1..].chars().next() else {
            return Err((start, format!("a token is missing behind %: expected one of {TOKENS}")));
        };
        self.at += 1 + token.len_utf8();
        if token == '%' {
            self.literal(start, b"%");
            return Ok(());
        }
        if !"sktpoThSKR".contains(token) {
            return Err((start, format!("unknown token %{}: expected one of {TOKENS}", escaped(&token.to_string()))));
        }
        let brace = self.at;
        let braced = self.braced()?;
        let wrong = |why| (brace + 1, why);
        let what = match (token, braced) {
            ('s', form) => What::Value(value_form(form).map_err(wrong)?),
            ('k', form) => What::Key(value_form(form).map_err(wrong)?),
            ('T', form) => What::Timestamp(time_form(form).map_err(wrong)?),
            ('h', Some(name)) => What::Header(name.as_bytes().to_vec()),
            (other, Some(_)) => {
                return Err((brace, format!("%{other} takes no form in braces (a brace as such is \\{{)")));
            }
            ('h', None) => What::Headers,
            ('t', None) => What::Topic,
            ('p', None) => What::Partition,
            ('o', None) => What::Offset,
            ('S', None) => What::ValueLen,
            ('K', None) => What::KeyLen,
            (_, None) => What::ValueLenBinary,
        };
        self.push(start, what);
        Ok(())
    }

    /// Takes what stands in braces, if a brace follows.
    fn braced(&mut self) -> Result<Option<&str>, Wrong> {
        let Some(rest) = self.text[self.at..].strip_prefix('{') else { return Ok(None) };
        let not_closed = || (self.at, "the brace is not closed (a brace as such is \\{)".to_owned());
        let len = end_of_braces(rest).ok_or_else(not_closed)?;
        self.at += len + 2;
        Ok(Some(&rest[..len]))
    }
}

/// Where the closing brace stands, outside quotes.
fn end_of_braces(text: &str) -> Option<usize> {
    let mut is_quoted = false;
    text.find(|c| {
        is_quoted ^= c == '"';
        c == '}' && !is_quoted
    })
}

fn value_form(form: Option<&str>) -> Result<Form, String> {
    match form {
        None => Ok(Form::Default),
        Some(path) if path.starts_with('.') => Ok(Form::Field(path.parse()?)),
        Some(name) => Ok(Form::Encoded(Encoding::named(name)?)),
    }
}

fn time_form(form: Option<&str>) -> Result<TimeForm, String> {
    match form {
        None | Some("ms") => Ok(TimeForm::Milliseconds),
        Some("rfc3339") => Ok(TimeForm::Rfc3339),
        Some(pattern) if pattern.contains('%') => {
            match jiff::fmt::strtime::format(pattern, jiff::Timestamp::UNIX_EPOCH) {
                Ok(_) => Ok(TimeForm::Pattern(pattern.to_owned())),
                Err(e) => Err(e.to_string()),
            }
        }
        Some(other) => Err(format!("unknown form {other:?}: expected rfc3339, or a pattern like %Y-%m-%d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(text: &str) -> Vec<What> {
        let template: Template = text.parse().unwrap();
        template.parts().iter().map(|part| part.what.clone()).collect()
    }

    fn literal(text: &str) -> What {
        What::Literal(text.as_bytes().to_vec())
    }

    #[test]
    fn tokens_and_escapes_become_parts() {
        assert_eq!(whats("a%%\\t\\x41\\0\\%\\{é"), [literal("a%\tA\0%{é")]);
        assert_eq!(
            whats("%k\\t%s{base64}\\n"),
            [What::Key(Form::Default), literal("\t"), What::Value(Form::Encoded(Encoding::Base64)), literal("\n")]
        );
        assert_eq!(whats("%T{%Y-%m-%d}"), [What::Timestamp(TimeForm::Pattern("%Y-%m-%d".to_owned()))]);
        assert_eq!(whats("%s{.a.\"x}y\"}"), [What::Value(Form::Field(".a.\"x}y\"".parse().unwrap()))]);
        assert_eq!(whats("%h{trace}%h%R"), [What::Header(b"trace".to_vec()), What::Headers, What::ValueLenBinary]);
        assert_eq!(whats("%p\\{x}"), [What::Partition, literal("{x}")]);
        assert!(whats("").is_empty());
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, why, below) in [
            ("%k\\t%q", "unknown token %q", "      ^"),
            ("é%", "missing behind %", "   ^"),
            ("%s{bas64}", "did you mean base64?", "     ^"),
            ("%p{x}", "takes no form", "    ^"),
            ("%s{hex", "not closed", "    ^"),
            ("ab\\q", "supported escapes", "    ^"),
            ("\\x4", "two hexadecimal digits", "  ^"),
            ("%T{iso}", "expected rfc3339", "     ^"),
            ("%T{%!}", "!", "     ^"),
            ("%s{.a[}", "expected an index", "     ^"),
        ] {
            let shown = text.parse::<Template>().unwrap_err().to_string();
            assert!(shown.contains(why), "{shown}");
            assert_eq!(shown.lines().last(), Some(below), "{shown}");
        }
    }
}

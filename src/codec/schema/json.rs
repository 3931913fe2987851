//! JSON text: what writing and reading share.

use super::Unfit;
use crate::codec::path::{end_of_string, end_of_value, expect, skip_space};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How deep values may be nested; serde_json's limit for JSON.
pub const DEPTH: usize = 128;

/// Appends a number, or the string that stands for what JSON has no number for: `"NaN"`, `"Infinity"`, `"-Infinity"`.
#[inline]
pub fn write_double(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        return write_not_finite(out, value);
    }
    // Nothing fails: a vector takes all bytes, and the number is finite.
    let _ = serde_json::to_writer(out, &value);
}

/// As [`write_double`], with no more digits than a float needs.
#[inline]
pub fn write_float(out: &mut Vec<u8>, value: f32) {
    if !value.is_finite() {
        return write_not_finite(out, value.into());
    }
    let _ = serde_json::to_writer(out, &value);
}

fn write_not_finite(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(match value {
        f64::INFINITY => b"\"Infinity\"",
        f64::NEG_INFINITY => b"\"-Infinity\"",
        _ => b"\"NaN\"",
    });
}

/// The number that a string stands for.
pub fn not_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Appends a string with a character for each byte, as Avro's JSON encoding has bytes.
pub fn write_latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..0x7f => out.push(*byte),
            _ => {
                out.extend_from_slice(b"\\u00");
                crate::codec::Hex.write_text(out, &[*byte]);
            }
        }
    }
    out.push(b'"');
}

/// A JSON value within a text that is known to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// A whole text.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn parse(text: &'a str) -> Result<Self, Unfit> {
        let value: &RawValue = serde_json::from_str(text).map_err(|e| Unfit::new(format!("not JSON: {e}")))?;
        Ok(Self(value.get()))
    }

    /// As it stands.
    #[inline]
    pub fn text(self) -> &'a str {
        self.0
    }

    /// Its first byte, which tells what it is.
    #[inline]
    pub fn first(self) -> u8 {
        self.0.as_bytes().first().copied().unwrap_or(b' ')
    }

    /// The text of a string.
    ///
    /// # Errors
    /// It is something else, or holds half a surrogate pair.
    pub fn string(self, what: &str) -> Result<Cow<'a, str>, Unfit> {
        match self.0.as_bytes() {
            [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
                Ok(Cow::Borrowed(&self.0[1..self.0.len() - 1]))
            }
            [b'"', ..] => serde_json::from_str(self.0).map(Cow::Owned).map_err(|_| self.unfit(what)),
            _ => Err(self.unfit(what)),
        }
    }

    /// The members of an object, or the elements of an array.
    ///
    /// # Errors
    /// It is neither.
    pub fn items(self, what: &str) -> Result<Items<'a>, Unfit> {
        match self.first() {
            b'{' | b'[' => Ok(Items { text: self.0, at: skip_space(self.0.as_bytes(), 1) }),
            _ => Err(self.unfit(what)),
        }
    }

    /// That it is not what was expected.
    #[cold]
    pub fn unfit(self, what: &str) -> Unfit {
        Unfit::expected(what, self.0)
    }
}

/// Goes through what an object or array holds.
#[derive(Debug, Clone, Copy)]
pub struct Items<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Items<'a> {
    /// The next element.
    #[inline]
    pub fn element(&mut self) -> Option<Json<'a>> {
        let end = end_of_value(self.text.as_bytes(), self.at)?;
        let value = &self.text[self.at..end];
        let after = skip_space(self.text.as_bytes(), end);
        self.at = match self.text.as_bytes().get(after) {
            Some(b',') => skip_space(self.text.as_bytes(), after + 1),
            _ => self.text.len(),
        };
        Some(Json(value))
    }

    /// The next member: its name, as a JSON string, and its value.
    #[inline]
    pub fn member(&mut self) -> Option<(Json<'a>, Json<'a>)> {
        let end = end_of_string(self.text.as_bytes(), self.at)?;
        let name = &self.text[self.at..end];
        let colon = skip_space(self.text.as_bytes(), end);
        self.at = skip_space(self.text.as_bytes(), expect(self.text.as_bytes(), colon, b':')?);
        Some((Json(name), self.element()?))
    }
}

impl<'a> Json<'a> {
    /// The text of a number, also where it stands as a string.
    ///
    /// # Errors
    /// It is neither.
    pub fn number_or_string(self, what: &str) -> Result<Cow<'a, str>, Unfit> {
        match self.first() {
            b'"' => self.string(what),
            b'-' | b'0'..=b'9' => Ok(Cow::Borrowed(self.0)),
            _ => Err(self.unfit(what)),
        }
    }
}

//! JSON on one line, taken apart without a copy. Written by hand, because every record passes here: integers, null and
//! plain strings are taken as they stand. Anything else, and what is wrong with a line, is left to serde_json.

use crate::codec::path::{end_of_string, skip_space};
use crate::codec::{first_quote, is_unescaped, plain_len};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    /// What stands between the quotes of a string of printable ASCII without escapes.
    Plain(&'a [u8]),
    /// Any other value, as JSON.
    Json(&'a str),
}

/// The line is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a line from its beginning to its end.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
    /// Whether each quote begins or ends a string, as in most lines.
    is_unescaped: bool,
}

/// The items of an object or array that follow.
#[derive(Debug)]
pub(super) struct Items {
    close: u8,
    is_first: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0, is_unescaped: is_unescaped(line) }
    }

    /// Bytes before what is read next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The value that was read since `start`, as JSON.
    pub(super) fn since(&self, start: usize) -> &'a str {
        // What was read is UTF-8, value by value.
        std::str::from_utf8(&self.line[start..self.at]).unwrap_or_default().trim_ascii_start()
    }

    /// The byte that is read next, behind white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.at = skip_space(self.line, self.at);
        self.line.get(self.at).copied()
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Begins an object.
    pub(super) fn object(&mut self) -> Result<Items, Malformed> {
        self.take(b'{')?;
        Ok(Items { close: b'}', is_first: true })
    }

    /// Begins an array.
    pub(super) fn array(&mut self) -> Result<Items, Malformed> {
        self.take(b'[')?;
        Ok(Items { close: b']', is_first: true })
    }

    /// Whether another item follows; takes the comma before it, or what closes the object or array.
    #[inline]
    pub(super) fn has_next(&mut self, items: &mut Items) -> Result<bool, Malformed> {
        if self.peek() == Some(items.close) {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::replace(&mut items.is_first, false) {
            self.take(b',')?;
        }
        Ok(true)
    }

    /// The name of a member, with the colon behind it.
    #[inline]
    pub(super) fn name(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        if self.peek() != Some(b'"') {
            return Err(Malformed);
        }
        let name = match self.string()? {
            Value::Json(json) => Cow::Owned(serde_json::from_str::<String>(json).map_err(|_| Malformed)?.into_bytes()),
            Value::Plain(name) => Cow::Borrowed(name),
            Value::Null | Value::Integer(_) => return Err(Malformed),
        };
        self.take(b':')?;
        Ok(name)
    }

    /// A value.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Value<'a>, Malformed> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') if self.line[self.at..].starts_with(b"null") => {
                self.at += 4;
                Ok(Value::Null)
            }
            _ => self.other(),
        }
    }

    /// A value that nobody looks at: of a string, too, it is checked that it is JSON.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        match self.value()? {
            Value::Json(json) if json.starts_with('"') => {
                serde_json::from_str::<&RawValue>(json).map(drop).map_err(|_| Malformed)
            }
            _ => Ok(()),
        }
    }

    /// Ends the line.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_some() { Err(Malformed) } else { Ok(()) }
    }

    #[inline]
    fn string(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.at + 1;
        let rest = &self.line[start..];
        let len = match self.is_unescaped {
            true => first_quote(rest).ok_or(Malformed)?,
            false => plain_len(rest),
        };
        if rest.get(len) != Some(&b'"') {
            return self.escaped();
        }
        self.at = start + len + 1;
        Ok(Value::Plain(&rest[..len]))
    }

    /// A string with escapes or more than ASCII.
    fn escaped(&mut self) -> Result<Value<'a>, Malformed> {
        let end = end_of_string(self.line, self.at).ok_or(Malformed)?;
        let string = &self.line[self.at..end];
        self.at = end;
        std::str::from_utf8(string).map(Value::Json).map_err(|_| Malformed)
    }

    fn number(&mut self) -> Result<Value<'a>, Malformed> {
        let digits = &self.line[self.at..];
        let is_negative = digits[0] == b'-';
        let mut len = usize::from(is_negative);
        let mut number = 0i64;
        while let Some(digit @ b'0'..=b'9') = digits.get(len) {
            // One that does not fit is left to serde_json, like a fraction.
            let Some(more) = number.checked_mul(10).and_then(|n| n.checked_add(i64::from(digit - b'0'))) else {
                return self.other();
            };
            number = more;
            len += 1;
        }
        let first = usize::from(is_negative);
        let is_padded = digits.get(first) == Some(&b'0') && len > first + 1;
        if len == first || is_padded || matches!(digits.get(len), Some(b'.' | b'e' | b'E')) {
            return self.other();
        }
        self.at += len;
        Ok(Value::Integer(if is_negative { -number } else { number }))
    }

    fn other(&mut self) -> Result<Value<'a>, Malformed> {
        let rest = &self.line[self.at..];
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&'a RawValue>();
        let value = values.next().ok_or(Malformed)?.map_err(|_| Malformed)?;
        self.at += values.byte_offset();
        Ok(Value::Json(value.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The members of an object, each with its value as JSON.
    fn members(line: &str) -> Result<Vec<(String, String)>, Malformed> {
        let mut cursor = Cursor::new(line.as_bytes());
        let (mut items, mut all) = (cursor.object()?, Vec::new());
        while cursor.has_next(&mut items)? {
            let name = String::from_utf8(cursor.name()?.into_owned()).unwrap();
            let value = match cursor.value()? {
                Value::Null => "null".to_owned(),
                Value::Integer(number) => number.to_string(),
                Value::Plain(text) => format!("\"{}\"", std::str::from_utf8(text).unwrap()),
                Value::Json(json) => json.to_owned(),
            };
            all.push((name, value));
        }
        cursor.end()?;
        Ok(all)
    }

    #[test]
    fn values_that_need_no_work_are_taken_as_they_stand() {
        let mut cursor = Cursor::new(br#"[null, -0 ,12,"a b","",1.5,9223372036854775808,"\"","\u00e9",{"a":[1]}]"#);
        let mut items = cursor.array().unwrap();
        let mut values = Vec::new();
        while cursor.has_next(&mut items).unwrap() {
            values.push(cursor.value().unwrap());
        }
        let json = [r#"1.5"#, "9223372036854775808", r#""\"""#, r#""\u00e9""#, r#"{"a":[1]}"#].map(Value::Json);
        let plain = [Value::Null, Value::Integer(0), Value::Integer(12), Value::Plain(b"a b"), Value::Plain(b"")];
        assert_eq!(values, [plain, json].concat());
        assert_eq!(cursor.end(), Ok(()));
    }

    proptest! {
        /// What is taken for JSON is JSON, and the reverse, but for what stands in strings with escapes, which their
        /// readers check.
        #[test]
        fn a_line_is_taken_apart_as_serde_json_does(
            line in prop::collection::vec(prop::sample::select(vec![
                "{", "}", ",", ":", "\"a\"", "\"\\n\"", "\"é\"", "0", "-", "1", "01", ".5", "e3", "null", "nul", "true", "[", "]", " ",
            ]), 0..9)
        ) {
            let line = format!("{{{}", line.concat());
            let expected = serde_json::from_str::<std::collections::BTreeMap<String, &RawValue>>(&line);
            match (members(&line), expected) {
                (Ok(found), Ok(expected)) => {
                    let found: std::collections::BTreeMap<_, _> = found.into_iter().collect();
                    prop_assert_eq!(found.len(), expected.len());
                    for (name, value) in found {
                        let same = expected[&name].get() == value || (value == "0" && expected[&name].get() == "-0");
                        prop_assert!(same, "{}: {} {}", name, value, expected[&name]);
                    }
                }
                (found, expected) => prop_assert_eq!(found.is_ok(), expected.is_ok(), "{}", line),
            }
        }
    }
}

//! The messages of `google.protobuf` that have a form of their own in JSON: bytes → JSON.

use super::super::super::Undecodable;
use super::super::super::time::{Moment, write_fraction, write_moment};
use super::super::mask;
use super::super::program::{Kind, Known, Message, Shape};
use super::super::wire::{RawFields, Wire};
use super::{Decoder, Result, bad, write_integer};
use crate::codec::write_string;

/// Appends a message in its own form. `false`, with nothing appended, where it has none: then it is written like any other,
/// as an object of its fields.
pub fn write(
    decoder: Decoder<'_>,
    known: Known,
    message: &Message,
    bytes: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<bool> {
    match known {
        Known::Timestamp => Ok(seconds_and_nanos(bytes)?.is_some_and(|moment| moment.write_timestamp(out))),
        Known::Duration => Ok(seconds_and_nanos(bytes)?.is_some_and(|moment| moment.write_duration(out))),
        Known::FieldMask => write_mask(bytes, out),
        Known::Wrapper => wrapper(decoder, message, bytes, out),
        Known::Any => any(decoder, bytes, depth, out),
        Known::Struct => whole(decoder, message, bytes, depth, out, [b'{', b'}']),
        Known::ListValue => whole(decoder, message, bytes, depth, out, [b'[', b']']),
        Known::Value => value(decoder, message, bytes, depth, out),
    }
}

/// The fields of a timestamp or duration; `None` where there are others.
fn seconds_and_nanos(bytes: &[u8]) -> Result<Option<Moment>> {
    let mut moment = Moment { seconds: 0, nanos: 0 };
    let mut fields = RawFields::new(bytes);
    while let Some(raw) = fields.next().map_err(bad)? {
        match (raw.number, raw.value) {
            (1, Wire::Varint(seconds)) => moment.seconds = seconds as i64,
            (2, Wire::Varint(nanos)) => moment.nanos = nanos as i32,
            _ => return Ok(None),
        }
    }
    Ok(Some(moment))
}

/// Paths, in lower camel case and with commas; only where they can be read back from that.
fn write_mask(bytes: &[u8], out: &mut Vec<u8>) -> Result<bool> {
    let mut text = String::new();
    let mut fields = RawFields::new(bytes);
    while let Some(raw) = fields.next().map_err(bad)? {
        let (1, Wire::Bytes(path)) = (raw.number, raw.value) else { return Ok(false) };
        let path = std::str::from_utf8(path).map_err(|_| bad("a path is not UTF-8"))?;
        let camel = mask::lower_camel(path);
        if path.is_empty() || camel.contains(',') || mask::snake(&camel) != path {
            return Ok(false);
        }
        if !text.is_empty() {
            text.push(',');
        }
        text += &camel;
    }
    write_string(out, &text);
    Ok(true)
}

/// The value of a wrapper alone.
fn wrapper(decoder: Decoder<'_>, message: &Message, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool> {
    let Some(field) = message.fields.first() else { return Ok(false) };
    let mut value = field.kind.zero();
    let mut fields = RawFields::new(bytes);
    while let Some(raw) = fields.next().map_err(bad)? {
        if raw.number != field.number || !field.kind.accepts(&raw.value) {
            return Ok(false);
        }
        value = raw.value;
    }
    decoder.value(field.kind, value, 0, out).map(|()| true)
}

/// A message with its type: in the schema, or else as the bytes that it is.
fn any(decoder: Decoder<'_>, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<bool> {
    let (mut url, mut value) = (&b""[..], &b""[..]);
    let mut fields = RawFields::new(bytes);
    while let Some(raw) = fields.next().map_err(bad)? {
        match (raw.number, raw.value) {
            (1, Wire::Bytes(bytes)) => url = bytes,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => return Ok(false),
        }
    }
    let Ok(url) = std::str::from_utf8(url) else { return Ok(false) };
    let name = url.rsplit('/').next().unwrap_or_default();
    let Some(index) = decoder.program.by_name.get(name) else { return Ok(false) };
    let inner = decoder.program.message(*index);
    let start = out.len();
    out.extend_from_slice(b"{\"@type\":");
    write_string(out, url);
    let written = if inner.known.is_some() {
        out.extend_from_slice(b",\"value\":");
        decoder.message(*index, value, depth + 1, out)
    } else {
        decoder.check(depth + 1, out).and_then(|()| decoder.members(inner, value, depth + 1, out))
    };
    out.push(b'}');
    if written.is_err() {
        out.truncate(start);
    }
    Ok(written.is_ok())
}

/// A struct or list: what its only field holds.
fn whole(
    decoder: Decoder<'_>,
    message: &Message,
    bytes: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
    [open, close]: [u8; 2],
) -> Result<bool> {
    let Some(field) = message.fields.first() else { return Ok(false) };
    out.push(open);
    let mut fields = RawFields::new(bytes);
    let mut is_first = true;
    while let Some(raw) = fields.next().map_err(bad)? {
        let Wire::Bytes(element) = raw.value else { return Err(unknown(message, raw.number)) };
        if raw.number != field.number {
            return Err(unknown(message, raw.number));
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        decoder.check(depth, out)?;
        match field.shape {
            Shape::Map(key) => decoder.entry(key, field.kind, element, depth, out)?,
            _ => decoder.value(field.kind, raw.value, depth, out)?,
        }
    }
    out.push(close);
    Ok(true)
}

/// Any JSON.
fn value(decoder: Decoder<'_>, message: &Message, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<bool> {
    let mut last = None;
    let mut fields = RawFields::new(bytes);
    while let Some(raw) = fields.next().map_err(bad)? {
        let field = message.field_index(raw.number, 0).map(|index| &message.fields[index]);
        let field = field.filter(|field| field.accepts(&raw.value)).ok_or_else(|| unknown(message, raw.number))?;
        last = Some((field.kind, raw.value));
    }
    match last {
        Some((Kind::Double, Wire::Fixed64(bits))) if !f64::from_bits(bits).is_finite() => {
            Err(bad("a google.protobuf.Value is not a finite number, which JSON does not have"))
        }
        Some((kind, value)) => decoder.value(kind, value, depth, out).map(|()| true),
        None => {
            out.extend_from_slice(b"null");
            Ok(true)
        }
    }
}

fn unknown(message: &Message, number: u32) -> Undecodable {
    bad(format!("{} has an unknown field {number}", message.full_name))
}

impl Moment {
    /// `"2026-11-25T22:31:00Z"`; `false` beyond the years 1 to 9999.
    fn write_timestamp(self, out: &mut Vec<u8>) -> bool {
        const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
        if !RANGE.contains(&self.seconds) || !(0..1_000_000_000).contains(&self.nanos) {
            return false;
        }
        out.push(b'"');
        let is_written = write_moment(out, self);
        out.push(b'"');
        is_written
    }

    /// `"1.5s"`; `false` beyond 10,000 years, and where the signs differ.
    fn write_duration(self, out: &mut Vec<u8>) -> bool {
        let is_negative = self.seconds < 0 || self.nanos < 0;
        let is_mixed = (self.seconds < 0 && self.nanos > 0) || (self.seconds > 0 && self.nanos < 0);
        let (seconds, nanos) = (self.seconds.unsigned_abs(), self.nanos.unsigned_abs());
        if is_mixed || seconds > 315_576_000_000 || nanos > 999_999_999 {
            return false;
        }
        out.extend_from_slice(if is_negative { b"\"-" } else { b"\"" });
        write_integer(out, seconds);
        write_fraction(out, nanos);
        out.extend_from_slice(b"s\"");
        true
    }
}

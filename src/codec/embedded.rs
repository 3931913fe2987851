//! JSON that stands in the object as it is.

use super::text::unsafe_at;
use super::{Base64, Codec, Text, open_member, write_string};
use crate::error::Result;
use serde_json::value::RawValue;

/// Valid JSON; other bytes are text.
#[derive(Debug, Clone, Copy)]
pub struct Embedded;

impl Codec for Embedded {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        if !is_json(bytes) {
            return Text.encode(out, field, bytes);
        }
        open_member(out, field, "");
        write_on_one_line(out, bytes);
        Ok(())
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(json.as_bytes());
        Ok(())
    }
}

impl Embedded {
    /// Appends `bytes` as a JSON value: as they stand if they are one, else as a string, in base64 if they are not UTF-8.
    pub fn write_text(self, out: &mut Vec<u8>, bytes: &[u8]) {
        if is_json(bytes) {
            return write_on_one_line(out, bytes);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => write_string(out, text),
            Err(_) => Base64.write_string(out, bytes),
        }
    }

    /// Appends `text`, which has to be JSON.
    ///
    /// # Errors
    /// It is not.
    pub fn parse_text(self, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
        serde_json::from_str::<&RawValue>(text).map_err(|e| format!("expected JSON: {e}"))?;
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

/// Appends valid JSON, without what ends a line or moves a cursor.
pub(super) fn write_on_one_line(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = 0;
    for (index, byte) in bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b'\n' | b'\r' | 0x7f..)) {
        let (replacement, len): (&[u8], usize) = match (byte, unsafe_at(bytes, index)) {
            // Line breaks in valid JSON only stand between its parts; one object stays on one line.
            (b'\n' | b'\r', _) => (b" ", 1),
            // Such characters only stand in strings, where an escape means the same.
            (_, Some((escape, len))) => (&{ escape }, len),
            _ => continue,
        };
        out.extend_from_slice(&bytes[rest..index]);
        out.extend_from_slice(replacement);
        rest = index + len;
    }
    out.extend_from_slice(&bytes[rest..]);
}

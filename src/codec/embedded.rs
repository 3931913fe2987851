//! JSON that stands in the object as it is.

use super::text::unsafe_at;
use super::{Codec, Text, open_name};
use crate::error::Result;
use serde_json::value::RawValue;

/// Valid JSON; other bytes are text.
#[derive(Debug, Clone, Copy)]
pub struct Embedded;

impl Codec for Embedded {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        if serde_json::from_slice::<&RawValue>(bytes).is_err() {
            return Text.encode(out, field, bytes);
        }
        open_name(out, field);
        out.extend_from_slice(b"\":");
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
        Ok(())
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(json.as_bytes());
        Ok(())
    }
}

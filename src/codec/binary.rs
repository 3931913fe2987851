//! Any bytes: base64 and hexadecimal; and UUIDs.

use super::{Codec, encode_or_base64, open_member, string};
use crate::error::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Base64 (RFC 4648).
#[derive(Debug, Clone, Copy)]
pub struct Base64;

impl Base64 {
    /// How the name of a field in base64 ends.
    pub const SUFFIX: &str = "_base64";

    /// Appends `bytes` as a JSON string in base64.
    pub fn write_string(self, out: &mut Vec<u8>, bytes: &[u8]) {
        out.push(b'"');
        self.write_text(out, bytes);
        out.push(b'"');
    }

    /// Appends `bytes` in base64.
    pub fn write_text(self, out: &mut Vec<u8>, bytes: &[u8]) {
        let start = out.len();
        let len = base64::encoded_len(bytes.len(), true).unwrap_or(usize::MAX);
        out.resize(start.saturating_add(len), 0);
        // Err cannot be: the slice has just the length.
        let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }

    /// Appends the bytes that `text` stands for.
    ///
    /// # Errors
    /// It is not base64.
    pub fn parse_text(self, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
        STANDARD.decode_vec(text, out).map_err(|e| format!("expected base64: {e}"))
    }
}

impl Codec for Base64 {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        open_member(out, field, Self::SUFFIX);
        self.write_string(out, bytes);
        Ok(())
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        self.parse_text(&string(json)?, out)
    }
}

/// Lowercase hexadecimal.
#[derive(Debug, Clone, Copy)]
pub struct Hex;

impl Hex {
    /// How the name of a field in hexadecimal ends.
    pub const SUFFIX: &str = "_hex";

    /// Appends two digits for each byte.
    pub fn write_text(self, out: &mut Vec<u8>, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
    }

    /// Appends the bytes that `text` stands for.
    ///
    /// # Errors
    /// It is not hexadecimal.
    pub fn parse_text(self, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or("expected hexadecimal digits");
        if !rest.is_empty() {
            return Err("expected an even number of hexadecimal digits".to_owned());
        }
        for [high, low] in pairs {
            out.push((digit(*high)? << 4 | digit(*low)?) as u8);
        }
        Ok(())
    }
}

impl Codec for Hex {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        open_member(out, field, Self::SUFFIX);
        out.push(b'"');
        self.write_text(out, bytes);
        out.push(b'"');
        Ok(())
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        self.parse_text(&string(json)?, out)
    }
}

/// The 16 bytes of a UUID (RFC 9562).
#[derive(Debug, Clone, Copy)]
pub struct Uuid;

impl Uuid {
    /// How the name of a field with a UUID ends.
    pub const SUFFIX: &str = "_uuid";

    /// Appends the UUID with its hyphens; `false`, with nothing appended, where `bytes` are not 16.
    pub fn write_text(self, out: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let Ok(uuid) = uuid::Uuid::from_slice(bytes) else { return false };
        out.extend_from_slice(uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
        true
    }

    /// Appends the bytes of the UUID that `text` is.
    ///
    /// # Errors
    /// It is not a UUID.
    pub fn parse_text(self, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let uuid = uuid::Uuid::try_parse(text).map_err(|e| format!("expected a UUID: {e}"))?;
        out.extend_from_slice(uuid.as_bytes());
        Ok(())
    }
}

impl Codec for Uuid {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        encode_or_base64(out, field, Self::SUFFIX, bytes, |out| {
            out.push(b'"');
            let is_uuid = self.write_text(out, bytes);
            out.push(b'"');
            is_uuid
        })
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        self.parse_text(&string(json)?, out)
    }
}

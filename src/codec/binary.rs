//! Any bytes: base64 and hexadecimal.

use super::{Codec, open_name, string};
use crate::error::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Base64 (RFC 4648), in a field whose name ends in `_base64`.
#[derive(Debug, Clone, Copy)]
pub struct Base64;

impl Codec for Base64 {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        open_name(out, field);
        out.extend_from_slice(b"_base64\":\"");
        let start = out.len();
        let len = base64::encoded_len(bytes.len(), true).unwrap_or(usize::MAX);
        out.resize(start.saturating_add(len), 0);
        // Err cannot be: the slice has just the length.
        let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
        out.push(b'"');
        Ok(())
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        STANDARD.decode_vec(&*string(json)?, out).map_err(|e| e.to_string())
    }
}

/// Lowercase hexadecimal, in a field whose name ends in `_hex`.
#[derive(Debug, Clone, Copy)]
pub struct Hex;

impl Codec for Hex {
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        open_name(out, field);
        out.extend_from_slice(b"_hex\":\"");
        out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
        out.push(b'"');
        Ok(())
    }

    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let text = string(json)?;
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

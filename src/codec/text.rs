//! Text: a JSON string where the bytes are UTF-8, else base64. Written by hand, because every record passes here.

use super::{Base64, Codec, open_member, open_name, string};
use crate::error::Result;

/// UTF-8 text.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl Codec for Text {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>, field: &str, bytes: &[u8]) -> Result<()> {
        if is_plain(bytes) {
            open_name(out, field);
            out.extend_from_slice(b"\":\"");
            out.extend_from_slice(bytes);
            out.push(b'"');
            return Ok(());
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                open_member(out, field, "");
                write_string(out, text);
                Ok(())
            }
            Err(_) => Base64.encode(out, field, bytes),
        }
    }

    /// A string is its text; any other JSON is its own text.
    fn decode(&self, json: &str, out: &mut Vec<u8>) -> Result<(), String> {
        if json.starts_with('"') {
            out.extend_from_slice(string(json)?.as_bytes());
        } else {
            out.extend_from_slice(json.as_bytes());
        }
        Ok(())
    }
}

/// Appends `bytes` as a JSON string.
///
/// # Errors
/// They are not UTF-8.
#[inline]
pub fn write_string_of(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), std::str::Utf8Error> {
    if is_plain(bytes) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return Ok(());
    }
    write_string(out, std::str::from_utf8(bytes)?);
    Ok(())
}

/// Whether all bytes are ASCII that JSON takes as it stands. Without a branch for each byte, so that it is vectorized.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let special = |byte: u8| !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\');
    let (chunks, rest) = bytes.as_chunks::<32>();
    chunks.iter().all(|chunk| !chunk.iter().fold(false, |any, &byte| any | special(byte)))
        && !rest.iter().fold(false, |any, &byte| any | special(byte))
}

/// Appends `text` as a JSON string. What a terminal or a JavaScript parser would take for more than a character is
/// escaped too: DEL, C1 controls, U+2028, U+2029 and the controls of bidirectional text.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let (escape, len): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0..0x20 => (&escaped(0, byte), 1),
            _ => match unsafe_at(bytes, index) {
                Some((escape, len)) => (&{ escape }, len),
                None => continue,
            },
        };
        out.extend_from_slice(&bytes[plain_from..index]);
        out.extend_from_slice(escape);
        plain_from = index + len;
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

/// The escape of the character at `index` and its length in bytes, if it is not one that JSON itself forbids, but still
/// one not to be shown.
#[inline]
pub(super) fn unsafe_at(bytes: &[u8], index: usize) -> Option<([u8; 6], usize)> {
    match (bytes[index], bytes.get(index + 1), bytes.get(index + 2)) {
        (0x7f, ..) => Some((escaped(0, 0x7f), 1)),
        (0xc2, Some(&low @ 0x80..=0x9f), _) => Some((escaped(0, low), 2)),
        (0xd8, Some(0x9c), _) => Some((escaped(0x06, 0x1c), 2)),
        (0xe2, Some(0x80), Some(&low @ (0x8e | 0x8f | 0xa8..=0xae))) => Some((escaped(0x20, low - 0x80), 3)),
        (0xe2, Some(0x81), Some(&low @ 0xa6..=0xa9)) => Some((escaped(0x20, low - 0x40), 3)),
        _ => None,
    }
}

/// A UTF-16 code unit as JSON escapes it: `\u` and four digits.
fn escaped(high: u8, low: u8) -> [u8; 6] {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    [b'\\', b'u', digit(high >> 4), digit(high & 15), digit(low >> 4), digit(low & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_no_character_that_acts_on_a_terminal_and_loses_none() {
        for c in ('\0'..=char::MAX).filter(|c| c.len_utf8() < 4) {
            let text = format!("a{c}b");
            let mut out = Vec::new();
            write_string(&mut out, &text);
            let json = String::from_utf8(out).unwrap();
            assert!(matches!(crate::text::escaped(&json), std::borrow::Cow::Borrowed(_)), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}

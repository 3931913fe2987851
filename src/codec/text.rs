//! Text: a JSON string where the bytes are UTF-8, else base64. Written by hand, because every record passes here.

use super::{Base64, Codec, open_member, open_name};
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
            read_string(out, json).ok_or("expected a string")?;
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

/// Whether all bytes are ASCII that JSON takes as it stands.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    has_none(bytes, is_special)
}

/// Whether all bytes are printable ASCII and none is a backslash, so that each quote in JSON begins or ends a string.
#[inline]
pub fn is_unescaped(bytes: &[u8]) -> bool {
    has_none(bytes, |byte| byte != b'"' && is_special(byte))
}

#[inline]
fn has_none(bytes: &[u8], is: impl Fn(u8) -> bool + Copy) -> bool {
    let (chunks, rest) = bytes.as_chunks::<32>();
    !chunks.iter().any(|chunk| has_any(chunk, is)) && !has_any(rest, is)
}

/// How many bytes at the beginning are ASCII that JSON takes as it stands.
#[inline]
pub fn plain_len(bytes: &[u8]) -> usize {
    let plain = 16 * bytes.as_chunks::<16>().0.iter().take_while(|chunk| !has_any(*chunk, is_special)).count();
    let (words, rest) = bytes[plain..].as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return plain + 8 * index + (special.trailing_zeros() / 8) as usize;
        }
    }
    bytes.len() - rest.len() + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

/// Whether a byte is not ASCII, or JSON or a terminal would take it for something else.
#[inline]
fn is_special(byte: u8) -> bool {
    !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\')
}

/// Without a branch for each byte, so that it is vectorized.
#[inline]
fn has_any(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |any, &byte| any | is(byte))
}

/// Where the first quote is: one that is near costs no call.
#[inline]
pub fn first_quote(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let near = &words[..words.len().min(2)];
    for (index, word) in near.iter().enumerate() {
        let quotes = equal_bytes(u64::from_le_bytes(*word), b'"') & HIGHEST;
        if quotes != 0 {
            return Some(8 * index + (quotes.trailing_zeros() / 8) as usize);
        }
    }
    let near = 8 * near.len();
    memchr::memchr(b'"', &bytes[near..]).map(|at| near + at)
}

// Of eight bytes that are looked at together, the highest bit of the first one found is the lowest bit of HIGHEST that is
// set. Those above it may be of others, for a borrow or carry goes upwards.
const EACH: u64 = 0x0101_0101_0101_0101;
const HIGHEST: u64 = EACH << 7;

#[inline]
fn special_bytes(word: u64) -> u64 {
    let is_beyond_ascii = word.wrapping_add(EACH) | word;
    (bytes_below(word, 0x20) | equal_bytes(word, b'"') | equal_bytes(word, b'\\') | is_beyond_ascii) & HIGHEST
}

#[inline]
fn equal_bytes(word: u64, byte: u8) -> u64 {
    bytes_below(word ^ (EACH * u64::from(byte)), 1)
}

#[inline]
fn bytes_below(word: u64, least: u8) -> u64 {
    word.wrapping_sub(EACH * u64::from(least)) & !word
}

/// Appends the text of a JSON string; `None` if it is not one, with `out` possibly longer by a part of it.
pub fn read_string(out: &mut Vec<u8>, json: &str) -> Option<()> {
    let mut rest = json.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    loop {
        let len = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        let plain = &rest[..len];
        if plain.iter().fold(false, |any, byte| any | (*byte < 0x20) | (*byte == b'"')) {
            return None;
        }
        out.extend_from_slice(plain);
        let Some((escape, behind)) = rest[len..].split_first_chunk::<2>() else {
            // A backslash alone would have the closing quote for its own.
            return (len == rest.len()).then_some(());
        };
        rest = behind;
        out.push(match escape[1] {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = escaped_char(&mut rest)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
}

/// The character that stands behind `\u`, as one or two UTF-16 code units of four digits.
fn escaped_char(rest: &mut &[u8]) -> Option<char> {
    let first = code_unit(rest)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    *rest = rest.strip_prefix(b"\\u")?;
    let low = code_unit(rest)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    char::from_u32(0x10000 + ((first - 0xd800) << 10) + low)
}

fn code_unit(rest: &mut &[u8]) -> Option<u32> {
    let (digits, behind) = rest.split_first_chunk::<4>()?;
    *rest = behind;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Appends `text` as a JSON string. What a terminal or a JavaScript parser would take for more than a character is
/// escaped too: DEL, C1 controls, U+2028, U+2029 and the controls of bidirectional text.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let (mut plain_from, mut at) = (0, 0);
    while let Some(len) = bytes[at..].iter().position(|byte| MAY_BE_ESCAPED[usize::from(*byte)]) {
        at += len;
        let (escape, len): (&[u8], usize) = match bytes[at] {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            byte @ 0..0x20 => (&escaped(0, byte), 1),
            _ => match unsafe_at(bytes, at) {
                Some((escape, len)) => (&{ escape }, len),
                None => {
                    at += 1;
                    continue;
                }
            },
        };
        out.extend_from_slice(&bytes[plain_from..at]);
        out.extend_from_slice(escape);
        at += len;
        plain_from = at;
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

/// Whether a byte begins a character that [`write_string`] may escape.
static MAY_BE_ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, 0..0x20 | b'"' | b'\\' | 0x7f | 0xc2 | 0xd8 | 0xe2);
        byte += 1;
    }
    table
};

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
    use proptest::prelude::*;

    #[test]
    fn json_has_no_character_that_acts_on_a_terminal_and_loses_none() {
        for c in ('\0'..=char::MAX).filter(|c| c.len_utf8() < 4) {
            let text = format!("a{c}b");
            let mut out = Vec::new();
            write_string(&mut out, &text);
            let json = String::from_utf8(out).unwrap();
            assert!(matches!(crate::text::escaped(&json), std::borrow::Cow::Borrowed(_)), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            let mut read = Vec::new();
            assert_eq!(read_string(&mut read, &json), Some(()));
            assert_eq!(read, text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn plain_text_ends_before_the_first_special_byte(
            mut bytes in prop::collection::vec(prop::sample::select(b" !#[]^~az".to_vec()), 1..70),
            special in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
        ) {
            for (index, byte) in &special {
                let index = index.index(bytes.len());
                bytes[index] = *byte;
            }
            let expected = bytes.iter().position(|byte| is_special(*byte)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_len(&bytes), expected);
            prop_assert_eq!(is_plain(&bytes), expected == bytes.len());
            let is_unescaped = |byte: &u8| *byte == b'"' || !is_special(*byte);
            prop_assert_eq!(super::is_unescaped(&bytes), bytes.iter().all(is_unescaped));
            if let Some((index, _)) = special.first() {
                let index = index.index(bytes.len());
                bytes[index] = b'"';
            }
            prop_assert_eq!(first_quote(&bytes), bytes.iter().position(|byte| *byte == b'"'));
        }

        #[test]
        fn a_string_is_read_as_serde_json_reads_it(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", "é", "\"", "\\", "\\\\", "\\\"", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u", "\\u00e9",
                "\\ud83d", "\\ude00", "\\uDE00", "d83d", "\\x", "\n", "\u{7f}", "😀", "0", "g",
            ]), 0..8)
        ) {
            let json = format!("\"{}\"", parts.concat());
            let mut read = Vec::new();
            let read = read_string(&mut read, &json).map(|()| read);
            let expected = serde_json::from_str::<String>(&json).ok().map(String::into_bytes);
            prop_assert_eq!(read, expected, "{}", json);
        }
    }
}

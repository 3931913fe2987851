//! Zig-zag variable-length integers, as record batch v2 writes them (KIP-98, Protocol Buffers' `sint`).

/// The most bytes one number takes.
pub const MAX_LEN: usize = 10;

/// Writes `value` into `out` from `at`; returns the index after it. `out` must have [`MAX_LEN`] bytes left.
#[inline]
pub fn put(out: &mut [u8], mut at: usize, value: i64) -> usize {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

/// How many bytes `value` takes.
#[inline]
pub fn len(value: i64) -> usize {
    if zigzag(value) < 0x80 {
        return 1; // nearly all
    }
    (64 - (zigzag(value) | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends `value`.
pub fn write(out: &mut Vec<u8>, value: i64) {
    let mut buf = [0; MAX_LEN];
    let end = put(&mut buf, 0, value);
    out.extend_from_slice(&buf[..end]);
}

/// Appends a length and the bytes; null is the length -1.
pub fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            write(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => write(out, -1),
    }
}

/// Takes a number off the front; `None` when the bytes end first or it is longer than [`MAX_LEN`].
#[inline]
pub fn read(buf: &mut &[u8]) -> Option<i64> {
    read_unsigned(buf).map(unzigzag)
}

/// Takes a number without zig-zag off the front, as Protocol Buffers' `uint64` is written; `None` as in [`read`].
#[inline(always)]
pub fn read_unsigned(buf: &mut &[u8]) -> Option<u64> {
    // Nearly all lengths and deltas fit one byte or two.
    match **buf {
        [first @ ..0x80, ref rest @ ..] => {
            *buf = rest;
            Some(u64::from(first))
        }
        [first, second @ ..0x80, ref rest @ ..] => {
            *buf = rest;
            Some(u64::from(first & 0x7f) | u64::from(second) << 7)
        }
        _ => read_long(buf),
    }
}

#[inline(never)]
fn read_long(buf: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in buf.iter().take(MAX_LEN).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *buf = &buf[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends a number without zig-zag.
pub fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a length and that many bytes off the front; `Some(None)` is null, `None` malformed.
#[inline]
pub fn read_bytes<'a>(buf: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = read(buf)?;
    if len < 0 {
        return if len == -1 { Some(None) } else { None };
    }
    let (bytes, rest) = buf.split_at_checked(usize::try_from(len).ok()?)?;
    *buf = rest;
    Some(Some(bytes))
}

/// Zig-zag of 64 bits: small numbers of either sign become small ones without.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The number that [`zigzag`] was given.
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(value: i64, tail: Vec<u8>) {
            let mut out = Vec::new();
            write(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.extend_from_slice(&tail);
            let mut rest = &out[..];
            prop_assert_eq!(read(&mut rest), Some(value));
            prop_assert_eq!(rest, &tail[..]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            while read_bytes(&mut rest).is_some() {}
        }
    }
}

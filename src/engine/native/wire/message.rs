//! Decodes the schemas' messages without trusting the lengths in them.
//!
//! The schemas' decoder allocates whatever count an array announces. Here every count is held against the bytes
//! that are left, as each element takes one at least.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

/// Decodes a message. `flexible`: whether this version counts in varints (KIP-482).
///
/// # Errors
/// It is malformed; the text says how.
pub fn decode<M: Decodable>(bytes: &mut Bytes, version: i16, flexible: bool) -> Result<M, String> {
    if !flexible {
        // Counts look like any other 32-bit number here. A number that no count can be is read as one too many:
        // that changes nothing for a number, and ends an array before anything was allocated for it.
        let mut dry_run = Guarded { bytes: bytes.clone(), varint: 0, shift: 0, clamp: true };
        M::decode(&mut dry_run, version).map_err(|e| e.to_string())?;
    }
    let mut guarded = Guarded { bytes: std::mem::take(bytes), varint: 0, shift: 0, clamp: false };
    let decoded = M::decode(&mut guarded, version).map_err(|e| e.to_string());
    *bytes = guarded.bytes;
    decoded
}

struct Guarded {
    bytes: Bytes,
    /// The varint that is being read, and how many bits of it there are.
    varint: u64,
    shift: u32,
    /// Whether 32-bit numbers larger than the rest are read as the rest and one.
    clamp: bool,
}

impl Guarded {
    fn too_few(&self, requested: u64) -> TryGetError {
        let requested = usize::try_from(requested).unwrap_or(usize::MAX);
        TryGetError { requested, available: self.bytes.len() }
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// The schemas read booleans and varints with this, and only lengths and counts are varints: plus one, where
    /// zero is null.
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        self.varint |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte < 0x80 || self.shift >= 35 {
            let value = std::mem::take(&mut self.varint);
            self.shift = 0;
            // A tag is a small number of its own.
            if value > 127 && value > self.bytes.len() as u64 + 1 {
                return Err(self.too_few(value - 1));
            }
        }
        Ok(byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let value = self.bytes.try_get_i32()?;
        let most = i32::try_from(self.bytes.len()).unwrap_or(i32::MAX - 1) + 1;
        Ok(if self.clamp { value.min(most) } else { value })
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::{ApiKey, FetchResponse, MetadataRequest, MetadataResponse};
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    #[test]
    fn an_array_of_billions_is_refused_before_it_is_allocated() {
        let mut old = BytesMut::new();
        old.put_i32(i32::MAX);
        assert!(decode::<MetadataResponse>(&mut old.freeze(), 0, false).is_err());
        let mut new = BytesMut::new();
        new.put_i32(0);
        new.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(decode::<MetadataResponse>(&mut new.freeze(), 9, true).is_err());
    }

    #[test]
    fn numbers_that_are_no_counts_stay_as_they_are() {
        for version in 4..=16 {
            let answer = FetchResponse::default().with_throttle_time_ms(i32::MAX).with_error_code(7);
            let mut bytes = BytesMut::new();
            answer.encode(&mut bytes, version).unwrap();
            let flexible = ApiKey::Fetch.response_header_version(version) > 0;
            let read: FetchResponse = decode(&mut bytes.freeze(), version, flexible).unwrap();
            assert_eq!(read.throttle_time_ms, i32::MAX);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, version in 0i16..13) {
            let _ = decode::<MetadataResponse>(&mut bytes.clone().into(), version, version >= 9);
            let _ = decode::<MetadataRequest>(&mut bytes.clone().into(), version, version >= 9);
            let _ = decode::<FetchResponse>(&mut bytes.into(), version.max(4), version >= 12);
        }
    }
}

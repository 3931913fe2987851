//! Decodes the schemas' messages without trusting the lengths in them.
//!
//! The schemas' decoder allocates whatever count an array announces. Here every count is held against the bytes that
//! are left: an array of more than 64 Ki elements takes at least 16 bytes for each, so that what is allocated is a small
//! multiple of the message. A length of text or bytes may be all that is left, and looks like a count: which numbers are
//! lengths is found in dry runs, in which such a number is read as an empty length, and the bytes that it is followed
//! by are skipped when they are asked for.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::{ByteBuf, NotEnoughBytesError};
use std::collections::BTreeSet;

/// Any array may have so many elements.
const FEW: usize = 64 << 10;
/// An element of a larger one takes at least so many bytes.
const LEAST_ELEMENT: usize = 16;

/// Decodes a message. `flexible`: whether this version counts in varints (KIP-482).
///
/// # Errors
/// It is malformed; the text says how.
pub fn decode<M: Decodable>(bytes: &mut Bytes, version: i16, flexible: bool) -> Result<M, String> {
    let numbers = if flexible { Numbers::Any } else { Numbers::Counts };
    let mut lengths = BTreeSet::new();
    loop {
        let mut dry_run = Guarded::new(bytes.clone(), numbers, Pass::Dry, lengths);
        let read = M::decode(&mut dry_run, version);
        let (suspect, pending) = (dry_run.suspect, dry_run.pending);
        lengths = dry_run.lengths;
        match read {
            Ok(_) if pending.is_none() => break,
            Ok(_) => return Err("a count is larger than what is left".to_owned()),
            // Each large length takes a large part of what is left: there are few.
            Err(e) => suspect.filter(|at| lengths.insert(*at)).map(drop).ok_or_else(|| e.to_string())?,
        }
    }
    let mut guarded = Guarded::new(std::mem::take(bytes), numbers, Pass::Real, lengths);
    let decoded = M::decode(&mut guarded, version).map_err(|e| e.to_string());
    *bytes = guarded.bytes;
    decoded
}

/// What 32-bit numbers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// No counts: those are varints.
    Any,
    /// Counts, which look like any other. A large one is read as -2 in the dry run: that changes nothing for a number,
    /// and ends an array before anything is allocated for it. It also ends a length: the next dry run reads the last
    /// one as that, and fails if it is not followed by bytes.
    Counts,
}

/// Whether what is read is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Dry,
    Real,
}

struct Guarded {
    bytes: Bytes,
    numbers: Numbers,
    pass: Pass,
    /// Where large numbers stand that are lengths, by the bytes after them.
    lengths: BTreeSet<usize>,
    /// Where the last large number stands that may be one.
    suspect: Option<usize>,
    /// In the dry run: a large number that was read as an empty length.
    pending: Option<usize>,
    /// In the other: the varint that is being read, and how many bits of it there are.
    varint: u64,
    shift: u32,
}

impl Guarded {
    fn new(bytes: Bytes, numbers: Numbers, pass: Pass, lengths: BTreeSet<usize>) -> Self {
        Self { bytes, numbers, pass, lengths, suspect: None, pending: None, varint: 0, shift: 0 }
    }

    fn too_few(&self, requested: usize) -> TryGetError {
        TryGetError { requested, available: self.bytes.len() }
    }

    /// Whether a number is more than any count can be here.
    fn is_large(&self, number: usize) -> bool {
        number > (self.bytes.len() / LEAST_ELEMENT).max(FEW.min(self.bytes.len()))
    }

    /// Before anything but bytes is read: what was taken for a length is none.
    fn settle(&mut self) -> Result<(), TryGetError> {
        self.pending.take().map_or(Ok(()), |count| Err(self.too_few(count.saturating_mul(LEAST_ELEMENT))))
    }

    /// A number in an encoding in which any number may be a count, as the dry run reads it.
    fn counted(&mut self, value: i32) -> i32 {
        let number = usize::try_from(value).unwrap_or(0);
        let at = self.bytes.len();
        if !self.is_large(number) {
            value
        } else if self.lengths.contains(&at) {
            self.pending = Some(number);
            0
        } else {
            self.suspect = Some(at);
            -2
        }
    }

    /// Checks a number that was read; returns whether it is to be read as an empty length.
    fn is_skipped(&mut self, number: usize) -> Result<bool, TryGetError> {
        if !self.is_large(number) || self.lengths.contains(&self.bytes.len()) {
            return Ok(false);
        }
        if self.pass == Pass::Real || number > self.bytes.len() {
            return Err(self.too_few(number.saturating_mul(LEAST_ELEMENT)));
        }
        self.pending = Some(number);
        Ok(true)
    }

    /// In the dry run, a varint is looked at before its first byte is given out: plus one, where zero is null.
    fn skip_varint(&mut self) -> Result<bool, TryGetError> {
        let (mut value, mut size) = (0_u64, 0);
        for byte in self.bytes.iter().take(5) {
            value |= u64::from(byte & 0x7f) << (7 * size);
            size += 1;
            if *byte < 0x80 {
                break;
            }
        }
        // A tag is a small number of its own.
        if size < 2 || self.bytes.len() < size {
            return Ok(false);
        }
        let number = usize::try_from(value).unwrap_or(usize::MAX).saturating_sub(1);
        let before = self.bytes.clone();
        self.bytes.advance(size);
        let is_skipped = self.is_skipped(number)?;
        if !is_skipped {
            self.bytes = before;
        }
        Ok(is_skipped)
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

    /// The schemas read booleans and varints with this, and only lengths and counts are varints.
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        if self.shift == 0 {
            self.settle()?;
            if self.pass == Pass::Dry && self.skip_varint()? {
                return Ok(1); // an empty length, plus one
            }
        }
        let byte = self.bytes.try_get_u8()?;
        self.varint |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte < 0x80 || self.shift >= 35 {
            let value = std::mem::take(&mut self.varint);
            let is_long = std::mem::take(&mut self.shift) > 7;
            if is_long && self.pass == Pass::Real {
                self.is_skipped(usize::try_from(value).unwrap_or(usize::MAX).saturating_sub(1))?;
            }
        }
        Ok(byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        self.settle()?;
        let value = self.bytes.try_get_i32()?;
        Ok(match (self.numbers, self.pass) {
            (Numbers::Counts, Pass::Dry) => self.counted(value),
            _ => value,
        })
    }

    fn try_get_i16(&mut self) -> Result<i16, TryGetError> {
        self.settle()?;
        self.bytes.try_get_i16()
    }

    fn try_get_i64(&mut self) -> Result<i64, TryGetError> {
        self.settle()?;
        self.bytes.try_get_i64()
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.split_to(size)
    }

    fn try_get_bytes(&mut self, size: usize) -> Result<Bytes, NotEnoughBytesError> {
        let size = match self.pending.take() {
            Some(length) => {
                self.lengths.insert(self.bytes.len());
                length
            }
            None => size,
        };
        if size > self.bytes.len() { Err(NotEnoughBytesError) } else { Ok(self.bytes.split_to(size)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition;
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
    use kafka_protocol::messages::{
        ApiKey, ConsumerProtocolSubscription, FetchResponse, JoinGroupResponse, MetadataRequest, MetadataResponse,
    };
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

    /// Metadata whose brokers' array announces `count` elements, and has as many bytes as `len`.
    fn announced(count: u32, len: usize, flexible: bool) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i32(0);
        if flexible {
            let mut rest = count + 1;
            while rest >= 0x80 {
                bytes.put_u8(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.put_u8(rest as u8);
        } else {
            bytes.put_u32(count);
        }
        bytes.resize(bytes.len() + len, 0);
        bytes.freeze()
    }

    /// A count that the bytes could hold only as elements of a byte or two: nothing is allocated for it.
    #[test]
    fn a_count_whose_elements_would_be_too_small_is_refused() {
        let len = 4 << 20;
        let refused = decode::<MetadataResponse>(&mut announced(len as u32 / 2, len, true), 9, true).unwrap_err();
        assert!(refused.contains("Not enough bytes"), "{refused}");
        let mut old = announced(len as u32 / 2, len, false);
        assert!(decode::<MetadataResponse>(&mut old, 8, false).is_err());
        let mut fetched = announced(len as u32 / 2, len, false);
        assert!(decode::<FetchResponse>(&mut fetched, 4, false).is_err());
        let mut fetched = announced(len as u32 / 2, len, true);
        assert!(decode::<FetchResponse>(&mut fetched, 12, true).is_err());
    }

    #[test]
    fn records_may_take_all_that_is_left() {
        for version in 4..=17 {
            let records = Bytes::from(vec![7; 3 << 20]);
            let partition =
                |index| PartitionData::default().with_partition_index(index).with_records(Some(records.clone()));
            let partitions = (0..3).map(partition).collect();
            let topic = FetchableTopicResponse::default().with_partitions(partitions);
            let answer = FetchResponse::default().with_throttle_time_ms(100_000).with_responses(vec![topic]);
            let mut bytes = BytesMut::new();
            answer.encode(&mut bytes, version).unwrap();
            let flexible = ApiKey::Fetch.response_header_version(version) > 0;
            let mut bytes = bytes.freeze();
            let read: FetchResponse = decode(&mut bytes, version, flexible).unwrap();
            assert_eq!((read, bytes.len()), (answer, 0), "v{version}");
        }
    }

    /// Partitions have indexes, and brokers IDs, that are larger than what is left behind them.
    #[test]
    fn an_empty_answer_may_be_of_any_partition_and_name_any_broker() {
        for version in 4..=17 {
            for number in [0, 37, 944, 70_000, 1_000_002, i32::MAX] {
                for records in [0, 100, 3 << 20] {
                    let partition = PartitionData::default()
                        .with_partition_index(number)
                        .with_preferred_read_replica(kafka_protocol::messages::BrokerId(match version {
                            11.. => number,
                            _ => -1,
                        }))
                        .with_records(Some(Bytes::from(vec![7; records])));
                    let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
                    let answer = FetchResponse::default().with_responses(vec![topic]);
                    let mut bytes = BytesMut::new();
                    answer.encode(&mut bytes, version).unwrap();
                    let flexible = ApiKey::Fetch.response_header_version(version) > 0;
                    let read = decode::<FetchResponse>(&mut bytes.freeze(), version, flexible);
                    assert_eq!(read.as_ref(), Ok(&answer), "v{version}, {number}, {records} bytes");
                }
            }
        }
    }

    #[test]
    fn lengths_and_numbers_of_older_encodings_may_be_large_where_counts_may_not() {
        for version in 0..=5 {
            let metadata = Bytes::from(vec![7; 300 << 10]);
            let member = JoinGroupResponseMember::default().with_metadata(metadata);
            let answer = JoinGroupResponse::default().with_generation_id(1 << 20).with_members(vec![member; 30]);
            let mut bytes = BytesMut::new();
            answer.encode(&mut bytes, version).unwrap();
            let mut bytes = bytes.freeze();
            let read: JoinGroupResponse = decode(&mut bytes, version, false).unwrap();
            assert_eq!((&read, bytes.len()), (&answer, 0), "v{version}");
        }
        for (count, is_read) in [(60_000, true), (70_000, false)] {
            let topic = TopicPartition::default().with_partitions(vec![0; count]);
            let subscription = ConsumerProtocolSubscription::default().with_owned_partitions(vec![topic]);
            let mut bytes = BytesMut::new();
            subscription.encode(&mut bytes, 1).unwrap();
            let read = decode::<ConsumerProtocolSubscription>(&mut bytes.freeze(), 1, false);
            assert_eq!(read.is_ok(), is_read, "{count} partitions of a topic");
        }
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

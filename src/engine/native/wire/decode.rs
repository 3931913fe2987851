//! What a fetch returned → batches ready to be lent: checked, decompressed, aborted records left out.

use super::{APPEND_TIME, CONTROL, CRC_FROM, Codec, HEADER_LEN, TRANSACTIONAL, message_set};
use crate::record::{Batch, Offset, PartitionId, Timestamp, TimestampType};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// Which records of transactions are shown (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All, aborted and open ones too.
    Uncommitted,
    /// Those of committed transactions, and those of none.
    #[default]
    Committed,
}

/// Bytes from a broker that are no batch.
#[derive(Debug, thiserror::Error)]
pub enum Corrupt {
    /// The checksum does not fit.
    #[error("the batch at offset {base_offset} fails its CRC-32C check")]
    Checksum {
        /// The batch's base offset.
        base_offset: Offset,
    },
    /// A length or count that cannot be.
    #[error("the batch at offset {base_offset} is malformed: {what}")]
    Malformed {
        /// The batch's base offset.
        base_offset: Offset,
        /// What is wrong.
        what: &'static str,
    },
    /// A magic byte from the future.
    #[error("the batch at offset {base_offset} has format {magic}; kpipe knows 0, 1 and 2")]
    Magic {
        /// The batch's base offset.
        base_offset: Offset,
        /// The magic byte.
        magic: u8,
    },
    /// The codec refused it.
    #[error("the batch at offset {base_offset} cannot be decompressed ({codec}): {source}")]
    Compression {
        /// The batch's base offset.
        base_offset: Offset,
        /// The codec's name.
        codec: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

/// What stays the same for all batches of one fetched partition.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The offset that was asked for: records below it are not wanted.
    pub from: Offset,
    /// Records from here on are not wanted.
    pub until: Offset,
    /// Which records of transactions are shown.
    pub isolation: Isolation,
    /// Producers and the first offsets of their aborted transactions, as the fetch listed them.
    pub aborted: Vec<(i64, Offset)>,
}

/// One batch (or, before v2, one message) of a fetched partition, not yet looked into.
#[derive(Debug, Clone)]
pub struct RawBatch {
    bytes: Bytes,
}

impl RawBatch {
    fn i16(&self, at: usize) -> i16 {
        (&self.bytes[at..]).get_i16()
    }

    fn i32(&self, at: usize) -> i32 {
        (&self.bytes[at..]).get_i32()
    }

    fn i64(&self, at: usize) -> i64 {
        (&self.bytes[at..]).get_i64()
    }

    fn base_offset(&self) -> Offset {
        self.i64(0)
    }

    /// Its format: 2 since Kafka 0.11. What is said of `RawBatch` below holds for that one only.
    pub fn magic(&self) -> u8 {
        self.bytes[16]
    }

    /// Whether its checksum fits.
    pub fn is_intact(&self) -> bool {
        crc32c::crc32c(&self.bytes[CRC_FROM..]) == self.i32(17) as u32
    }

    fn attributes(&self) -> i16 {
        self.i16(21)
    }

    /// Whether it holds a transaction's marker instead of records (KIP-98).
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// Whether it is part of a transaction (KIP-98).
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// How far its last offset is from its first.
    pub fn last_offset_delta(&self) -> i32 {
        self.i32(23)
    }

    /// Epoch of the leader that wrote it (KIP-101); -1 before v2.
    pub fn leader_epoch(&self) -> i32 {
        if self.magic() >= 2 { self.i32(12) } else { -1 }
    }

    /// Its latest timestamp.
    pub fn max_timestamp(&self) -> Timestamp {
        self.i64(35)
    }

    /// Producer id, producer epoch and first sequence number; -1 without idempotence (KIP-98).
    pub fn producer(&self) -> (i64, i16, i32) {
        (self.i64(43), self.i16(51), self.i32(53))
    }

    /// How many records it says it holds.
    pub fn record_count(&self) -> i32 {
        self.i32(57)
    }

    /// The batch as a leader stores it: at its offset, with its epoch, and the broker's time where that counts.
    pub fn placed(&self, base_offset: Offset, leader_epoch: i32, append_time: Option<Timestamp>) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        (&mut bytes[..]).put_i64(base_offset);
        (&mut bytes[12..]).put_i32(leader_epoch);
        if let Some(now) = append_time {
            (&mut bytes[21..]).put_i16(self.attributes() | APPEND_TIME);
            (&mut bytes[35..]).put_i64(now);
            let checksum = crc32c::crc32c(&bytes[CRC_FROM..]);
            (&mut bytes[17..]).put_u32(checksum);
        }
        Self { bytes: bytes.freeze() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its size on the wire.
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How it is compressed; `None` when that is unknown.
    pub fn codec(&self) -> Option<Codec> {
        match self.magic() {
            2 => Codec::from_attributes(self.attributes()),
            _ => Codec::from_attributes(i16::from(self.bytes[17])),
        }
    }

    /// The offset after the last this batch covers; compaction may have removed the record there.
    pub fn next_offset(&self) -> Offset {
        match self.magic() {
            2 => self.base_offset().wrapping_add(i64::from(self.last_offset_delta())).wrapping_add(1),
            // A wrapper message carries the offset of its last inner one.
            _ => self.base_offset().wrapping_add(1),
        }
    }
}

/// Cuts what a fetch returned into batches. The broker may cut the last one short: that one is left out.
///
/// # Errors
/// A length that cannot be.
pub fn batches(mut set: Bytes) -> Result<Vec<RawBatch>, Corrupt> {
    let mut all = Vec::new();
    // 17: base offset, length, leader epoch (or checksum), magic
    while set.len() >= 17 {
        let base_offset = (&set[..]).get_i64();
        let len = (&set[8..]).get_i32();
        let magic = set[16];
        let least = if magic >= 2 { HEADER_LEN - 12 } else { 14 };
        if len < least as i32 {
            return Err(Corrupt::Malformed { base_offset, what: "its length is too small" });
        }
        if set.len() < 12 + len as usize {
            break;
        }
        all.push(RawBatch { bytes: set.split_to(12 + len as usize) });
    }
    Ok(all)
}

impl Decoder {
    /// Checks and decompresses `raw`, in order. What is found before a corrupt batch is returned with the error.
    pub fn decode(mut self, raw: Vec<RawBatch>) -> (Vec<Batch>, Option<Corrupt>) {
        let mut out = Vec::with_capacity(raw.len());
        self.aborted.sort_by_key(|&(_, first)| std::cmp::Reverse(first));
        let mut aborting = Vec::new();
        for batch in raw {
            match self.decode_one(&batch, &mut aborting) {
                Ok(Some(batch)) => out.push(batch),
                Ok(None) => {}
                Err(corrupt) => return (out, Some(corrupt)),
            }
        }
        (out, None)
    }

    /// `aborting`: producers whose transaction, aborted later, is open at this point of the log.
    fn decode_one(&mut self, raw: &RawBatch, aborting: &mut Vec<i64>) -> Result<Option<Batch>, Corrupt> {
        let base_offset = raw.base_offset();
        match raw.magic() {
            0 | 1 => return message_set::decode(self, &raw.bytes),
            2 => {}
            magic => return Err(Corrupt::Magic { base_offset, magic }),
        }
        if !raw.is_intact() {
            return Err(Corrupt::Checksum { base_offset });
        }
        let attributes = raw.attributes();
        let producer_id = raw.i64(43);
        let count = u32::try_from(raw.record_count())
            .map_err(|_| Corrupt::Malformed { base_offset, what: "a negative count" })?;
        while let Some(&(producer, _)) = self.aborted.last().filter(|(_, first)| *first < raw.next_offset()) {
            aborting.push(producer);
            self.aborted.pop();
        }
        if raw.is_control() {
            // A marker ends the producer's transaction; the next one may be committed.
            aborting.retain(|&producer| producer != producer_id);
            return Ok(None);
        }
        let hidden =
            self.isolation == Isolation::Committed && raw.is_transactional() && aborting.contains(&producer_id);
        if hidden || raw.next_offset() <= self.from {
            return Ok(None);
        }
        let codec = Codec::from_attributes(attributes)
            .ok_or(Corrupt::Malformed { base_offset, what: "an unknown compression codec" })?;
        let records = match codec {
            Codec::None => raw.bytes.slice(HEADER_LEN..),
            codec => codec
                .decompress(&raw.bytes[HEADER_LEN..])
                .map_err(|source| Corrupt::Compression { base_offset, codec: codec.name(), source })?
                .into(),
        };
        let append = attributes & APPEND_TIME != 0;
        Ok(Some(Batch {
            topic: self.topic.clone(),
            partition: self.partition,
            base_offset,
            // With append time the broker keeps it as the batch's largest timestamp.
            base_timestamp: Some(if append { raw.max_timestamp() } else { raw.i64(27) }),
            timestamp_type: if append { TimestampType::Append } else { TimestampType::Create },
            nulls_known: true,
            leader_epoch: raw.leader_epoch(),
            from: self.from,
            until: self.until,
            next_offset: raw.next_offset().min(self.until),
            count,
            records,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Compression, ProducerStamp, cut};
    use super::*;
    use crate::record::{HeaderBuf, RecordRef};
    use bytes::BytesMut;
    use proptest::prelude::*;

    type Owned = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn decoder() -> Decoder {
        Decoder {
            topic: "t".into(),
            partition: 3,
            from: 0,
            until: i64::MAX,
            isolation: Isolation::Committed,
            aborted: Vec::new(),
        }
    }

    fn seal(records: &[Owned], codec: Codec) -> super::super::Sealed {
        let mut builder = BatchBuilder::default();
        for (key, value, timestamp, headers) in records {
            let mut buf = HeaderBuf::default();
            headers.iter().for_each(|(k, v)| buf.push(k, v.as_deref()));
            let record = RecordRef {
                offset: 0,
                timestamp: Some(*timestamp),
                key: key.as_deref(),
                value: value.as_deref(),
                headers: buf.as_headers(),
            };
            builder.append(&record, 0);
        }
        let mut sealed = builder.seal(BytesMut::new());
        if codec != Codec::None {
            sealed.records = Compression { codec, level: None }.compress(&sealed.records).unwrap().into();
            sealed.codec = codec;
        }
        sealed
    }

    fn wire(sealed: &super::super::Sealed, stamp: ProducerStamp) -> Vec<u8> {
        [&sealed.header(stamp)[..], &sealed.records].concat()
    }

    fn read(batches: &[Batch]) -> Vec<Owned> {
        let own = |r: RecordRef<'_>| {
            let headers = r.headers.iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
            (r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec), r.timestamp.unwrap(), headers)
        };
        batches.iter().flat_map(Batch::records).map(|r| own(r.unwrap())).collect()
    }

    fn records() -> impl Strategy<Value = Vec<Owned>> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        let header = (prop::collection::vec(any::<u8>(), 0..9), bytes());
        let record = (bytes(), bytes(), 0..4_000_000_000_000i64, prop::collection::vec(header, 0..3));
        prop::collection::vec(record, 1..30)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(records in records(), codec in 0..5i16) {
            let bytes = wire(&seal(&records, Codec::from_attributes(codec).unwrap()), ProducerStamp::NONE);
            let (batches, corrupt) = decoder().decode(batches(bytes.into()).unwrap());
            prop_assert!(corrupt.is_none());
            prop_assert_eq!(read(&batches), records);
        }

        #[test]
        fn the_parts_of_a_batch_hold_its_records(records in records(), at: Vec<prop::sample::Index>) {
            let mut at: Vec<usize> = at.iter().map(|at| at.index(records.len())).filter(|&at| at > 0).collect();
            at.sort_unstable();
            at.dedup();
            let parts = cut(&seal(&records, Codec::None), &at).unwrap();
            prop_assert_eq!(parts.len(), at.len() + 1);
            let bytes: Vec<_> = parts.iter().map(|part| wire(part, ProducerStamp::NONE)).collect();
            let (batches, _) = decoder().decode(batches(bytes.concat().into()).unwrap());
            prop_assert_eq!(read(&batches), records);
        }

        #[test]
        fn a_damaged_batch_is_refused(records in records(), at: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = wire(&seal(&records, Codec::None), ProducerStamp::NONE);
            // Base offset and leader epoch are the broker's to change: the checksum leaves them out.
            let at = 16 + at.index(bytes.len() - 16);
            bytes[at] ^= 1 << bit;
            if let Ok(raw) = batches(bytes.into()) {
                let (batches, corrupt) = decoder().decode(raw);
                prop_assert!(corrupt.is_some() || batches.is_empty());
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, magic in 0..4u8) {
            let mut bytes = bytes;
            if bytes.len() > 16 {
                bytes[16] = magic;
                let len = bytes.len() as i32 - 12;
                bytes[8..12].copy_from_slice(&len.to_be_bytes());
            }
            if let Ok(raw) = batches(bytes.into()) {
                let (batches, _) = decoder().decode(raw);
                batches.iter().flat_map(Batch::records).for_each(drop);
            }
        }
    }

    #[test]
    fn a_batch_cut_short_at_the_end_is_left_for_the_next_fetch() {
        let whole = wire(&seal(&[(None, Some(b"v".to_vec()), 1, vec![])], Codec::None), ProducerStamp::NONE);
        let cut = [&whole[..], &whole[..whole.len() - 1]].concat();
        assert_eq!(batches(cut.into()).unwrap().len(), 1);
    }

    #[test]
    fn aborted_records_are_shown_only_to_those_who_ask() {
        let stamp = ProducerStamp { producer_id: 7, producer_epoch: 0, base_sequence: 0, transactional: true };
        let one = |value: &str| seal(&[(None, Some(value.into()), 1, vec![])], Codec::None);
        let place = |mut bytes: Vec<u8>, offset: i64| {
            bytes[..8].copy_from_slice(&offset.to_be_bytes());
            bytes
        };
        let control = |offset: i64| {
            let mut bytes = wire(&one("marker"), stamp);
            bytes[22] |= CONTROL as u8;
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            place(bytes, offset)
        };
        let set = [
            place(wire(&one("aborted"), stamp), 0),
            place(wire(&one("outside"), ProducerStamp::NONE), 1),
            control(2),
            place(wire(&one("committed"), stamp), 3),
            control(4),
        ]
        .concat();
        let values = |isolation| {
            let decoder = Decoder { isolation, aborted: vec![(7, 0)], ..decoder() };
            let (batches, corrupt) = decoder.decode(batches(set.clone().into()).unwrap());
            assert!(corrupt.is_none());
            read(&batches).into_iter().map(|r| String::from_utf8(r.1.unwrap()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(values(Isolation::Committed), ["outside", "committed"]);
        assert_eq!(values(Isolation::Uncommitted), ["aborted", "outside", "committed"]);
    }
}

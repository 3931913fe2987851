//! What a fetch returned → batches ready to be lent: checked, decompressed, aborted records left out.

#[cfg(test)]
mod tests;

use super::{
    APPEND_TIME, CONTROL, CRC_FROM, Codec, Corrupt, Damage, Decoder, HEADER_LEN, Isolation, TRANSACTIONAL, message_set,
};
use crate::record::{Batch, Offset, Timestamp, TimestampType};
use bytes::{Buf, BufMut, Bytes, BytesMut};

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

    /// Its first offset.
    pub fn base_offset(&self) -> Offset {
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

    /// The batch with other records, of which there are `count`; offsets and timestamps stay.
    pub fn with_records(&self, records: &[u8], count: i32) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..HEADER_LEN]);
        bytes.extend_from_slice(records);
        let len = (bytes.len() - 12) as i32;
        (&mut bytes[8..]).put_i32(len);
        (&mut bytes[57..]).put_i32(count);
        let checksum = crc32c::crc32c(&bytes[CRC_FROM..]);
        (&mut bytes[17..]).put_u32(checksum);
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
            return Err(Corrupt::malformed(base_offset, "its length is too small"));
        }
        if set.len() < 12 + len as usize {
            break;
        }
        all.push(RawBatch { bytes: set.split_to(12 + len as usize) });
    }
    Ok(all)
}

/// Decodes the batches of one fetched partition, one at each call of `next`, so that the caller decides how much is
/// unpacked at a time. Batches without a visible record, that is markers, aborted and empty ones, move
/// `next_offset` of the batch before them, or come as a batch without records. Ends after the first corrupt batch.
#[derive(Debug)]
pub struct Batches {
    decoder: Decoder,
    /// Producers whose transaction, aborted later, is open at this point of the log.
    aborting: Vec<i64>,
    raw: std::vec::IntoIter<RawBatch>,
    /// What was looked at and not returned yet.
    ahead: Option<Result<Looked, Corrupt>>,
    /// Whether records are only to be counted.
    counts: bool,
}

/// A checked batch, and whether any of its records is visible.
#[derive(Debug)]
struct Looked {
    raw: RawBatch,
    visible: bool,
}

impl Decoder {
    /// Checks and decompresses `raw`, in order, one batch at a time.
    pub fn batches(mut self, raw: Vec<RawBatch>) -> Batches {
        self.aborted.sort_by_key(|&(_, first)| std::cmp::Reverse(first));
        Batches { decoder: self, aborting: Vec::new(), raw: raw.into_iter(), ahead: None, counts: false }
    }

    /// Checks and decompresses all of `raw`. What precedes a corrupt batch is returned with the error.
    pub fn decode(self, raw: Vec<RawBatch>) -> (Vec<Batch>, Option<Corrupt>) {
        let mut out = Vec::with_capacity(raw.len());
        for batch in self.batches(raw) {
            match batch {
                Ok(batch) => out.push(batch),
                Err(corrupt) => return (out, Some(corrupt)),
            }
        }
        (out, None)
    }

    /// A batch of this partition that covers the offsets of `raw`.
    fn batch(&self, raw: &RawBatch, base_timestamp: Timestamp, count: u32, records: Bytes) -> Batch {
        let append = raw.magic() >= 2 && raw.attributes() & APPEND_TIME != 0;
        Batch {
            topic: self.topic.clone(),
            partition: self.partition,
            base_offset: raw.base_offset(),
            base_timestamp: Some(base_timestamp),
            timestamp_type: if append { TimestampType::Append } else { TimestampType::Create },
            nulls_known: true,
            leader_epoch: raw.leader_epoch(),
            from: self.from,
            until: self.until,
            next_offset: raw.next_offset().min(self.until),
            count,
            records,
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        let looked = self.ahead.take().or_else(|| self.look())?;
        let mut batch = match looked.and_then(|looked| self.unpack(&looked)) {
            Ok(batch) => batch,
            Err(corrupt) => {
                self.raw = Vec::new().into_iter();
                return Some(Err(corrupt));
            }
        };
        // What is not visible is passed over together with the batch before it, under the same leader epoch.
        loop {
            match self.look() {
                Some(Ok(Looked { raw, visible: false })) if raw.leader_epoch() == batch.leader_epoch => {
                    batch.next_offset = raw.next_offset().min(batch.until);
                }
                ahead => {
                    self.ahead = ahead;
                    return Some(Ok(batch));
                }
            }
        }
    }
}

impl Batches {
    /// Leaves batches packed of which all records are visible: their headers have the counts.
    pub fn counting(mut self) -> Self {
        self.counts = true;
        self
    }

    /// Whether the header tells how many records of the batch are lent. Compaction keeps its count true.
    fn is_counted(&self, raw: &RawBatch) -> bool {
        self.counts && raw.base_offset() >= self.decoder.from && raw.next_offset() <= self.decoder.until
    }

    /// Checks the next batch that goes beyond what was read so far: offsets only advance.
    fn look(&mut self) -> Option<Result<Looked, Corrupt>> {
        let from = self.decoder.from;
        let raw = self.raw.by_ref().find(|raw| raw.next_offset() > from)?;
        Some(self.is_visible(&raw).map(|visible| {
            if !visible {
                self.decoder.from = raw.next_offset();
            }
            Looked { raw, visible }
        }))
    }

    fn is_visible(&mut self, raw: &RawBatch) -> Result<bool, Corrupt> {
        let base_offset = raw.base_offset();
        match raw.magic() {
            0 | 1 => return Ok(true),
            2 => {}
            magic => return Err(Corrupt { base_offset, damage: Damage::Magic(magic) }),
        }
        if !raw.is_intact() {
            return Err(Corrupt { base_offset, damage: Damage::Checksum });
        }
        let (count, last_delta) = (raw.record_count(), raw.last_offset_delta());
        if count < 0 || last_delta < 0 || i64::from(count) > i64::from(last_delta) + 1 {
            return Err(Corrupt::malformed(base_offset, "its record count does not fit its offsets"));
        }
        let producer_id = raw.producer().0;
        while let Some(&(producer, _)) = self.decoder.aborted.last().filter(|(_, first)| *first < raw.next_offset()) {
            self.aborting.push(producer);
            self.decoder.aborted.pop();
        }
        if raw.is_control() {
            // A marker ends the producer's transaction; the next one may be committed.
            self.aborting.retain(|&producer| producer != producer_id);
            return Ok(false);
        }
        let hidden = self.decoder.isolation == Isolation::Committed
            && raw.is_transactional()
            && self.aborting.contains(&producer_id);
        Ok(!hidden)
    }

    /// The batch with its records; records before what was read so far are not lent again.
    fn unpack(&mut self, looked: &Looked) -> Result<Batch, Corrupt> {
        let Looked { raw, visible } = looked;
        let batch = match (visible, raw.magic()) {
            (false, _) => self.decoder.batch(raw, raw.max_timestamp(), 0, Bytes::new()),
            (true, 2) if self.is_counted(raw) => {
                self.decoder.batch(raw, raw.max_timestamp(), raw.record_count() as u32, Bytes::new())
            }
            (true, 2) => self.decoder.unpack(raw)?,
            (true, _) => message_set::decode(&self.decoder, &raw.bytes)?,
        };
        self.decoder.from = raw.next_offset();
        Ok(batch)
    }
}

impl Decoder {
    fn unpack(&self, raw: &RawBatch) -> Result<Batch, Corrupt> {
        let base_offset = raw.base_offset();
        let codec = raw.codec().ok_or_else(|| Corrupt::malformed(base_offset, "an unknown compression codec"))?;
        let records = match codec {
            Codec::None => raw.bytes.slice(HEADER_LEN..),
            codec => codec
                .decompress_within(&raw.bytes[HEADER_LEN..], self.max_unpacked)
                .map_err(|source| Corrupt { base_offset, damage: Damage::Compression { codec: codec.name(), source } })?
                .into(),
        };
        // With append time the broker keeps it as the batch's largest timestamp.
        let append = raw.attributes() & APPEND_TIME != 0;
        let base_timestamp = if append { raw.max_timestamp() } else { raw.i64(27) };
        Ok(self.batch(raw, base_timestamp, raw.record_count() as u32, records))
    }
}

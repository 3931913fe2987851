//! Records → record batch v2 (KIP-98, <https://kafka.apache.org/documentation/#recordbatch>).

use super::{CRC_FROM, Codec, TRANSACTIONAL};
use crate::record::{Batch, PartitionId, RecordRef, Timestamp, encode, varint};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// A batch's header: base offset to record count.
pub const HEADER_LEN: usize = 61;
/// Base offset and batch length: what stands before the part that the length counts.
const LOG_OVERHEAD: usize = 12;

/// The open batch of one partition: each record's bytes are written once, straight into it.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    records: BytesMut,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    count: i32,
}

/// A closed batch, still without the header: that is stamped at each send, for a retry may need a new one.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The encoded records, compressed when `codec` says so.
    pub records: Bytes,
    /// How `records` is compressed.
    pub codec: Codec,
    /// How many records it holds; at least 1.
    pub count: i32,
    /// What the records' timestamps count from.
    pub base_timestamp: Timestamp,
    /// The latest record's.
    pub max_timestamp: Timestamp,
}

/// Who produces a batch, and its place in that producer's sequence (KIP-98); all -1 without idempotence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Given by InitProducerId.
    pub producer_id: i64,
    /// Rises when the producer starts again or its state is lost.
    pub producer_epoch: i16,
    /// The first record's sequence number in its partition.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
}

impl ProducerStamp {
    /// A producer without idempotence.
    pub const NONE: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, transactional: false };
}

impl BatchBuilder {
    /// Bytes the batch takes so far, header included, before compression.
    pub fn len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Whether there is no record in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The most bytes `record` can take in a batch, header not included.
    pub fn upper_bound(record: &RecordRef<'_>) -> usize {
        let lengths = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        // length, attributes, two deltas, two lengths, header count
        lengths + record.headers.as_bytes().len() + 6 * varint::MAX_LEN + 1
    }

    /// Adds `record`; its timestamp, when it has none, is `now`.
    #[inline]
    pub fn append(&mut self, record: &RecordRef<'_>, now: Timestamp) {
        let timestamp = record.timestamp.unwrap_or(now);
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        } else {
            self.max_timestamp = self.max_timestamp.max(timestamp);
        }
        encode(&mut self.records, record, timestamp.wrapping_sub(self.base_timestamp), self.count);
        self.count += 1;
    }

    /// Closes the batch and opens the next; the next takes the memory of `spare`, whatever is in it.
    pub fn seal(&mut self, mut spare: BytesMut) -> Sealed {
        spare.clear();
        let records = std::mem::replace(&mut self.records, spare).freeze();
        let count = std::mem::take(&mut self.count);
        Sealed {
            records,
            codec: Codec::None,
            count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        }
    }
}

impl Sealed {
    /// Bytes on the wire: header and records.
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// The batch's header, checksum included.
    pub fn header(&self, stamp: ProducerStamp) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            header[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        let attributes = self.codec as i16 | if stamp.transactional { TRANSACTIONAL } else { 0 };
        put(&0i64.to_be_bytes()); // base offset: the broker's to set
        put(&((self.len() - LOG_OVERHEAD) as i32).to_be_bytes());
        put(&(-1i32).to_be_bytes()); // partition leader epoch: the broker's to set
        put(&[2]); // magic
        put(&[0; 4]); // checksum, below
        put(&attributes.to_be_bytes());
        put(&(self.count - 1).to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&stamp.producer_id.to_be_bytes());
        put(&stamp.producer_epoch.to_be_bytes());
        put(&stamp.base_sequence.to_be_bytes());
        put(&self.count.to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[CRC_FROM..]), &self.records);
        header[CRC_FROM - 4..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        header
    }
}

/// The records of a sealed batch, to be read again; `None` when they cannot be decompressed.
pub fn view(batch: &Sealed, topic: Arc<str>, partition: PartitionId) -> Option<Batch> {
    let records = match batch.codec {
        Codec::None => batch.records.clone(),
        codec => codec.decompress(&batch.records).ok()?.into(),
    };
    Some(Batch::unplaced(topic, partition, Some(batch.base_timestamp), batch.count as u32, records))
}

/// Cuts a batch before each of the records `at`, counted from 0 in ascending order, into uncompressed ones.
/// `None` when its records cannot be read back.
pub fn cut(batch: &Sealed, at: &[usize]) -> Option<Vec<Sealed>> {
    let whole = view(batch, "".into(), 0)?;
    let (mut parts, mut builder) = (Vec::with_capacity(at.len() + 1), BatchBuilder::default());
    for (index, record) in whole.records().enumerate() {
        if at.get(parts.len()) == Some(&index) {
            parts.push(builder.seal(BytesMut::new()));
        }
        builder.append(&record.ok()?, batch.base_timestamp);
    }
    parts.push(builder.seal(BytesMut::new()));
    Some(parts)
}

//! The control batch that ends a transaction (KIP-98).

use super::{Outcome, Stamp};
use crate::engine::native::wire::{HEADER_LEN, RawBatch, batches};
use crate::record::Timestamp;
use bytes::{BufMut, BytesMut};

/// Part of a transaction, and holds its marker.
const TRANSACTIONAL_CONTROL: i16 = 1 << 4 | 1 << 5;
/// Where the part of a batch begins that its checksum covers.
const CRC_FROM: usize = 21;

/// A batch of one marker, at offset 0.
pub(super) fn batch(of: Stamp, outcome: Outcome, now: Timestamp) -> Option<RawBatch> {
    // Length, attributes, timestamp and offset delta of the record; its key (version, type); its value (version,
    // coordinator epoch); no headers. Lengths are zigzag varints.
    let record = [32, 0, 0, 0, 8, 0, 0, 0, outcome as u8, 12, 0, 0, 0, 0, 0, 0, 0];
    let mut batch = BytesMut::new();
    batch.put_i64(0); // base offset
    batch.put_i32(49 + record.len() as i32); // length of what follows
    batch.put_i32(-1); // leader epoch
    batch.put_u8(2);
    batch.put_u32(0); // checksum
    batch.put_i16(TRANSACTIONAL_CONTROL);
    batch.put_i32(0); // last offset delta
    batch.put_i64(now);
    batch.put_i64(now);
    batch.put_i64(of.producer_id);
    batch.put_i16(of.epoch);
    batch.put_i32(-1); // sequence
    batch.put_i32(1); // records
    batch.put_slice(&record);
    let checksum = crc32c::crc32c(&batch[CRC_FROM..]);
    (&mut batch[17..]).put_u32(checksum);
    batches(batch.freeze()).ok()?.pop()
}

/// How a transaction ended, if the batch is the marker of one.
pub(super) fn outcome(batch: &RawBatch) -> Option<Outcome> {
    /// Where the type is, after length, attributes, two deltas, the key's length and its version.
    const TYPE: usize = HEADER_LEN + 7;
    let kind = batch.bytes().get(TYPE..TYPE + 2).filter(|_| batch.is_control())?;
    match kind {
        [0, 0] => Some(Outcome::Abort),
        [0, 1] => Some(Outcome::Commit),
        _ => None,
    }
}

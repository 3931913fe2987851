//! A batch of records on the way out, and the records it lends.

use super::{Headers, Offset, PartitionId, RecordRef, Timestamp, TimestampType, varint};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Records of one partition, fetched, checked and decompressed, in offset order.
///
/// The bytes are those of a record batch v2 (KIP-98) after its header; what an engine fetched in an older
/// form it brings into this one.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// What each record's offset counts from.
    pub base_offset: Offset,
    /// What each record's timestamp counts from; `None` when the engine cannot know timestamps.
    pub base_timestamp: Option<Timestamp>,
    /// With [`TimestampType::Append`] every record has `base_timestamp`.
    pub timestamp_type: TimestampType,
    /// Whether null and empty are told apart; the `kafka` crate cannot.
    pub nulls_known: bool,
    /// Epoch of the leader that wrote the batch (KIP-101); -1 when unknown.
    pub leader_epoch: i32,
    /// Records below are not lent: a fetch from the middle of a batch returns the whole of it.
    pub from: Offset,
    /// Records from here on are not lent: the end as it stood at the start.
    pub until: Offset,
    /// Where to go on after this batch.
    pub next_offset: Offset,
    /// How many records `records` holds.
    pub count: u32,
    /// The encoded records; empty where they were only to be counted and all of them are visible.
    pub records: Bytes,
}

impl Batch {
    /// Records that no log holds yet: the offsets count from 0, and all are lent.
    pub(crate) fn unplaced(
        topic: Arc<str>,
        partition: PartitionId,
        base_timestamp: Option<Timestamp>,
        count: u32,
        records: Bytes,
    ) -> Self {
        Self {
            topic,
            partition,
            base_offset: 0,
            base_timestamp,
            timestamp_type: TimestampType::Create,
            nulls_known: true,
            leader_epoch: -1,
            from: 0,
            until: Offset::MAX,
            next_offset: Offset::from(count),
            count,
            records,
        }
    }

    /// How many records there are to lend, also where they were only to be counted.
    ///
    /// # Errors
    /// A record is malformed.
    pub fn visible(&self) -> Result<u64, Malformed> {
        if self.records.is_empty() {
            return Ok(u64::from(self.count));
        }
        self.records().try_fold(0, |count, record| record.map(|_| count + 1))
    }

    /// A batch with `record` alone, which is one of this batch's.
    pub fn only(&self, record: &RecordRef<'_>) -> Self {
        let mut records = BytesMut::new();
        encode(&mut records, record, 0, 0);
        Self {
            base_offset: record.offset,
            base_timestamp: record.timestamp,
            from: record.offset,
            until: Offset::MAX,
            next_offset: record.offset.saturating_add(1),
            count: 1,
            records: records.freeze(),
            ..self.clone()
        }
    }

    /// Splits off the leading records up to the first one for which `belongs` does not hold; `None` when that is the
    /// first one.
    ///
    /// # Errors
    /// A record is malformed.
    pub fn split_off_while(
        &mut self,
        mut belongs: impl FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Option<Self>, Malformed> {
        let mut records = self.records();
        let mut last = None;
        loop {
            let (rest, left) = (records.rest.len(), records.left);
            match records.next().transpose()? {
                Some(record) if belongs(&record) => last = Some(record.offset),
                Some(_) => {
                    let Some(last) = last else { return Ok(None) };
                    let cut = self.records.len() - rest;
                    let (records, next_offset) = (self.records.slice(..cut), last.saturating_add(1));
                    let head = Self { count: self.count - left, records, next_offset, ..self.clone() };
                    (self.records, self.count, self.from) = (self.records.slice(cut..), left, next_offset);
                    return Ok(Some(head));
                }
                None => {
                    let rest = Self { count: 0, records: Bytes::new(), from: self.next_offset, ..self.clone() };
                    return Ok(Some(std::mem::replace(self, rest)));
                }
            }
        }
    }

    /// The records, in order.
    pub fn records(&self) -> Records<'_> {
        Records { batch: self, rest: &self.records, left: self.count, next: self.base_offset }
    }
}

/// A batch whose records do not fit their count, whose offsets do not advance within the batch's, or that holds lengths
/// that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed record in the batch at offset {base_offset}")]
pub struct Malformed {
    /// The batch's base offset.
    pub base_offset: Offset,
}

/// Lends the records of a [`Batch`]; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: &'a Batch,
    rest: &'a [u8],
    left: u32,
    /// The least offset that the next record may have.
    next: Offset,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.left == 0 {
                return if self.rest.is_empty() { None } else { self.malformed() };
            }
            self.left -= 1;
            let Some(record) = decode(self.batch, &mut self.rest) else { return self.malformed() };
            if record.offset < self.next {
                return self.malformed();
            }
            self.next = record.offset.saturating_add(1);
            if record.offset >= self.batch.next_offset {
                // Beyond the end that was asked for, unless the batch itself ends before.
                if record.offset < self.batch.until {
                    return self.malformed();
                }
                (self.left, self.rest) = (0, &[]);
                return None;
            }
            if record.offset >= self.batch.from {
                return Some(Ok(record));
            }
        }
    }
}

impl<'a> Records<'a> {
    /// Whether all records of the batch are lent, none of which lies outside of the limits.
    pub fn lends_all(&self) -> bool {
        self.batch.from <= self.batch.base_offset && self.batch.next_offset < self.batch.until
    }

    /// How many records of the batch were not looked at yet.
    pub fn remaining(&self) -> u32 {
        self.left
    }

    /// The encoded records that were not looked at yet.
    pub fn remaining_bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// Skips the records that end before `position` in the remaining bytes, without looking into them.
    pub fn skip_to(&mut self, position: usize) {
        let start = self.rest.len();
        while self.left > 0 {
            let mut rest = self.rest;
            // What is malformed is found when it is lent.
            let Some(Some(_)) = varint::read_bytes(&mut rest) else { return };
            if start - rest.len() > position {
                return;
            }
            (self.rest, self.left) = (rest, self.left - 1);
        }
    }

    /// Skips all records.
    pub fn skip_all(&mut self) {
        (self.left, self.rest) = (0, &[]);
    }

    #[cold]
    fn malformed(&mut self) -> Option<Result<RecordRef<'a>, Malformed>> {
        (self.left, self.rest) = (0, &[]);
        Some(Err(Malformed { base_offset: self.batch.base_offset }))
    }
}

/// Writes one record as a v2 batch holds it; the deltas count from the batch's base.
#[inline]
pub(crate) fn encode(out: &mut BytesMut, record: &RecordRef<'_>, timestamp_delta: i64, offset_delta: i32) {
    let key_len = record.key.map_or(-1, |key| key.len() as i64);
    let value_len = record.value.map_or(-1, |value| value.len() as i64);
    let headers = record.headers.as_bytes();
    let body = 1
        + varint::len(timestamp_delta)
        + varint::len(i64::from(offset_delta))
        + varint::len(key_len)
        + key_len.max(0) as usize
        + varint::len(value_len)
        + value_len.max(0) as usize
        + varint::len(record.headers.len() as i64)
        + headers.len();
    out.reserve(varint::MAX_LEN + body);

    // What stands before the key, and before the value where there is no key, goes in as one write.
    let mut head = [0; 5 * varint::MAX_LEN + 1];
    let mut at = varint::put(&mut head, 0, body as i64);
    head[at] = 0; // attributes: unused
    at = varint::put(&mut head, at + 1, timestamp_delta);
    at = varint::put(&mut head, at, i64::from(offset_delta));
    at = varint::put(&mut head, at, key_len);
    if let Some(key) = record.key {
        out.extend_from_slice(&head[..at]);
        out.extend_from_slice(key);
        at = 0;
    }
    at = varint::put(&mut head, at, value_len);
    out.extend_from_slice(&head[..at]);
    if let Some(value) = record.value {
        out.extend_from_slice(value);
    }
    at = varint::put(&mut head, 0, record.headers.len() as i64);
    out.extend_from_slice(&head[..at]);
    out.extend_from_slice(headers);
}

#[inline]
fn decode<'a>(batch: &Batch, rest: &mut &'a [u8]) -> Option<RecordRef<'a>> {
    let mut body = varint::read_bytes(rest)??;
    body = body.get(1..)?; // attributes: unused in v2
    let timestamp_delta = varint::read(&mut body)?;
    let offset_delta = varint::read(&mut body)?;
    let key = varint::read_bytes(&mut body)?;
    let value = varint::read_bytes(&mut body)?;
    let count = u32::try_from(varint::read(&mut body)?).ok()?;
    // A header takes two bytes at least: a count beyond that would only be a promise.
    if count as usize > body.len() / 2 {
        return None;
    }
    let timestamp = batch.base_timestamp.map(|base| match batch.timestamp_type {
        TimestampType::Create => base.wrapping_add(timestamp_delta),
        TimestampType::Append => base,
    });
    let offset = batch.base_offset.wrapping_add(offset_delta);
    Some(RecordRef { offset, timestamp, key, value, headers: Headers::encoded(count, body) })
}

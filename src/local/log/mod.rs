//! A partition's log: batches as they came, with the offset and the epoch that a leader writes into them.
//!
//! [`producers`] recognizes repeats and follows transactions, [`marker`] writes their ends. Calls `wire` alone.

mod marker;
mod producers;

pub(super) use producers::{Aborted, ActiveProducer};

use super::limits::BATCH_OVERHEAD;
use crate::engine::native::wire::{Decoder, Isolation, RawBatch, batches};
use crate::record::{Offset, RecordRef, Timestamp};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use producers::Producers;
use std::collections::{HashMap, VecDeque};

/// Where a batch was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) base: Offset,
    /// The broker's time, where the topic's timestamps are that.
    pub(super) append_time: Option<Timestamp>,
    /// What the log takes more for it; 0 for a repeat.
    pub(super) bytes: usize,
}

/// What a topic's configs and the moment determine about a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppendOptions {
    pub(super) max_message_bytes: usize,
    /// Now, where the topic's timestamps are the broker's.
    pub(super) append_time: Option<Timestamp>,
    pub(super) leader_epoch: i32,
}

/// The producer of a batch, as its header names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Abort = 0,
    Commit = 1,
}

/// The log of one partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    batches: VecDeque<RawBatch>,
    bytes: usize,
    start: Offset,
    next: Offset,
    producers: Producers,
}

/// The producer and its epoch, if `records` begin with a batch that belongs to a transaction.
pub(super) fn transactional_stamp(records: &Bytes) -> Option<Stamp> {
    let first = batches(records.clone()).unwrap_or_default().into_iter().next();
    let batch = first.filter(|batch| batch.magic() == 2 && batch.is_transactional())?;
    let (producer_id, epoch, _) = batch.producer();
    Some(Stamp { producer_id, epoch })
}

/// What a batch takes in memory.
fn size(batch: &RawBatch) -> usize {
    batch.len() + BATCH_OVERHEAD
}

impl Log {
    /// The log start offset.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// The offset that the next record gets; the high watermark too.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// The first offset that an open transaction has written, or the high watermark (KIP-98).
    pub(super) fn last_stable_offset(&self) -> Offset {
        self.producers.first_open().map_or(self.next, |first| first.max(self.start))
    }

    /// Appends what must be one batch, unless it is a repeat.
    pub(super) fn append(&mut self, records: &Bytes, options: &AppendOptions) -> Result<Appended, E> {
        let Ok([batch]) = <[RawBatch; 1]>::try_from(batches(records.clone()).unwrap_or_default()) else {
            return Err(E::InvalidRecord);
        };
        if batch.magic() != 2 || batch.len() != records.len() {
            return Err(E::InvalidRecord);
        }
        if batch.len() > options.max_message_bytes {
            return Err(E::MessageTooLarge);
        }
        if !batch.is_intact() {
            return Err(E::CorruptMessage);
        }
        let (count, last_delta) = (batch.record_count(), batch.last_offset_delta());
        if batch.is_control() || count < 1 || last_delta != count - 1 || batch.codec().is_none() {
            return Err(E::InvalidRecord);
        }
        if let Some(repeated) = self.producers.check(&batch)? {
            // Of a repeat Kafka reports the latest timestamp, whatever kind the topic's timestamps are.
            return Ok(Appended { bytes: 0, append_time: Some(batch.max_timestamp()), ..repeated });
        }
        let appended = Appended { base: self.next, append_time: options.append_time, bytes: size(&batch) };
        let batch = batch.placed(appended.base, options.leader_epoch, options.append_time);
        self.producers.record(&batch, appended);
        self.push(batch);
        Ok(appended)
    }

    /// Ends a transaction with a control batch; returns what the log takes more for it.
    pub(super) fn append_marker(&mut self, of: Stamp, outcome: Outcome, leader_epoch: i32, now: Timestamp) -> usize {
        let Some(batch) = marker::batch(of, outcome, now) else { return 0 };
        let batch = batch.placed(self.next, leader_epoch, None);
        let bytes = size(&batch);
        self.producers.end(of, outcome, self.next, now);
        self.push(batch);
        bytes
    }

    fn push(&mut self, batch: RawBatch) {
        self.next = batch.next_offset();
        self.bytes += size(&batch);
        self.batches.push_back(batch);
    }

    /// Whole batches from the one with `from` on and before `until`, up to `most` bytes; the first whatever its size,
    /// with `at_least_one`. Returns the offset after them too.
    pub(super) fn read(&self, from: Offset, until: Offset, most: usize, at_least_one: bool) -> (Bytes, Offset) {
        let first = self.batches.partition_point(|batch| batch.next_offset() <= from);
        let mut len = 0;
        let fits = |batch: &&RawBatch| {
            let fits = batch.next_offset() <= until && (len + batch.len() <= most || (len == 0 && at_least_one));
            len += if fits { batch.len() } else { 0 };
            fits
        };
        let read: Vec<&[u8]> = self.batches.range(first..).take_while(fits).map(|batch| &batch.bytes()[..]).collect();
        let last = (first + read.len()).checked_sub(1).filter(|_| !read.is_empty());
        let end = last.and_then(|last| self.batches.get(last)).map_or(from, RawBatch::next_offset);
        match self.batches.get(first) {
            Some(one) if read.len() == 1 => (one.bytes().clone(), end),
            _ => (read.concat().into(), end),
        }
    }

    /// The aborted transactions that have records in `from..until`.
    pub(super) fn aborted(&self, from: Offset, until: Offset) -> impl Iterator<Item = &Aborted> {
        self.producers.aborted().filter(move |aborted| aborted.last >= from && aborted.first < until)
    }

    /// The producers that have written lately.
    pub(super) fn active_producers(&self) -> impl Iterator<Item = ActiveProducer> {
        self.producers.active()
    }

    /// Whether the producer has written here under a later epoch.
    pub(super) fn has_fenced(&self, of: Stamp) -> bool {
        self.producers.has_fenced(of)
    }

    /// The first record with this timestamp or a later one.
    pub(super) fn at_time(&self, timestamp: Timestamp) -> Option<(Offset, Timestamp)> {
        let batch = self.batches.iter().find(|batch| !batch.is_control() && batch.max_timestamp() >= timestamp)?;
        let mut found = None;
        each_record(batch, |record| {
            let time = record.timestamp.unwrap_or(-1);
            if found.is_none() && time >= timestamp {
                found = Some((record.offset, time));
            }
        });
        found
    }

    /// The first record with the largest timestamp (KIP-734).
    pub(super) fn max_timestamp(&self) -> Option<(Offset, Timestamp)> {
        let data = self.batches.iter().filter(|batch| !batch.is_control());
        self.at_time(data.map(RawBatch::max_timestamp).max()?)
    }

    /// Moves the log start offset, up or down within what was ever written; the batches stay.
    pub(super) fn set_start(&mut self, offset: Offset) {
        self.start = offset.clamp(0, self.next);
    }

    /// Drops the oldest batch; returns what it took.
    pub(super) fn drop_first(&mut self) -> Option<usize> {
        let first = self.batches.pop_front()?;
        self.start = self.start.max(first.next_offset());
        self.producers.forget(first.producer().0, self.start);
        self.bytes -= size(&first);
        Some(size(&first))
    }

    /// Deletes the records before `offset`; returns how many batches went and what they took.
    pub(super) fn delete_before(&mut self, offset: Offset) -> (usize, usize) {
        let (mut count, mut freed) = (0, 0);
        while self.batches.front().is_some_and(|batch| batch.next_offset() <= offset) {
            freed += self.drop_first().unwrap_or_default();
            count += 1;
        }
        self.start = self.start.max(offset.min(self.next));
        (count, freed)
    }

    /// Deletes what is older than `since` or beyond `most` bytes, from the oldest batch on (`retention.ms`,
    /// `retention.bytes`); returns how many batches went and what they took.
    pub(super) fn expire(&mut self, since: Option<Timestamp>, most: Option<usize>) -> (usize, usize) {
        let mut over = self.batches.iter().map(RawBatch::len).sum::<usize>().saturating_sub(most.unwrap_or(usize::MAX));
        let (mut count, mut freed) = (0, 0);
        while let Some(first) = self.batches.front() {
            let (len, old) = (first.len(), since.is_some_and(|since| first.max_timestamp() < since));
            // As with Kafka's segments, no more goes than what is over.
            if !old && over < len {
                break;
            }
            over = over.saturating_sub(len);
            freed += self.drop_first().unwrap_or_default();
            count += 1;
        }
        (count, freed)
    }

    /// Removes every batch that holds no record that is the last of its key; returns how many went and what they took.
    /// Records without a key stay.
    pub(super) fn compact(&mut self) -> (usize, usize) {
        let mut last: HashMap<Vec<u8>, Offset> = HashMap::new();
        for batch in self.batches.iter().filter(|batch| !batch.is_control()) {
            each_record(batch, |record| {
                if let Some(key) = record.key {
                    last.insert(key.to_vec(), record.offset);
                }
            });
        }
        let before = (self.batches.len(), self.bytes);
        self.batches.retain(|batch| {
            let mut needed = batch.is_control();
            each_record(batch, |record| {
                needed |= record.key.is_none_or(|key| last.get(key) == Some(&record.offset));
            });
            needed
        });
        self.bytes = self.batches.iter().map(size).sum();
        (before.0 - self.batches.len(), before.1 - self.bytes)
    }

    /// Cuts off all batches from the one with `offset` on, as a leader that never received them would; returns how many
    /// and what they took.
    pub(super) fn truncate(&mut self, offset: Offset) -> (usize, usize) {
        let keep = self.batches.partition_point(|batch| batch.next_offset() <= offset);
        let gone: Vec<usize> = self.batches.drain(keep..).map(|batch| size(&batch)).collect();
        self.next = self.batches.back().map_or(self.start, RawBatch::next_offset);
        self.producers.truncate(self.next);
        let freed = gone.iter().sum();
        self.bytes -= freed;
        (gone.len(), freed)
    }

    /// The largest epoch up to `epoch` that the log has, and the offset after its last record (KIP-320). Where all that
    /// the log has is of later epochs, `epoch` ended where it begins.
    pub(super) fn end_of_epoch(&self, epoch: i32) -> (i32, Offset) {
        match self.batches.iter().rev().find(|batch| batch.leader_epoch() <= epoch) {
            Some(last) => (last.leader_epoch(), last.next_offset()),
            None => (epoch, self.batches.front().map_or(self.next, RawBatch::base_offset)),
        }
    }

    pub(super) fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// What all batches take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What all batches take on a broker's disk.
    pub(super) fn disk_bytes(&self) -> usize {
        self.batches.iter().map(RawBatch::len).sum()
    }
}

/// Calls `f` with each record, of none when the batch cannot be read.
fn each_record(batch: &RawBatch, mut f: impl FnMut(RecordRef<'_>)) {
    let decoder = Decoder {
        topic: "".into(),
        partition: 0,
        from: 0,
        until: Offset::MAX,
        isolation: Isolation::Uncommitted,
        aborted: Vec::new(),
        max_unpacked: usize::MAX,
    };
    let (decoded, _) = decoder.decode(vec![batch.clone()]);
    decoded.iter().flat_map(|batch| batch.records().map_while(Result::ok)).for_each(&mut f);
}

#[cfg(test)]
mod tests;

//! A partition's log: batches as they came, with the offset and the epoch that a leader writes into them.
//!
//! [`producers`] recognizes repeats and follows transactions, [`marker`] writes their ends, [`compaction`] removes what
//! later records replace. Calls `wire` alone.

mod compaction;
mod marker;
mod producers;

pub(super) use compaction::Compaction;
pub(super) use producers::{Aborted, ActiveProducer};

use super::limits::{BATCH_OVERHEAD, MOST_RECORD_ERRORS, MOST_UNPACKED};
use crate::engine::native::wire::{Decoder, Isolation, RawBatch, batches};
use crate::record::{Offset, RecordRef, Timestamp};
use bytes::Bytes;
use compaction::Compacted;
use kafka_protocol::error::ResponseError as E;
use producers::Producers;
use std::collections::VecDeque;

/// Where a batch was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) base: Offset,
    /// The broker's time, where the topic's timestamps are that.
    pub(super) append_time: Option<Timestamp>,
}

/// Why a batch is not appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: E,
    /// The records that the topic does not accept, by their place in the batch; up to [`MOST_RECORD_ERRORS`] of them.
    pub(super) records: Vec<i32>,
}

impl From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { error, records: Vec::new() }
    }
}

/// What a topic's configs and the moment determine about a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppendOptions {
    pub(super) max_message_bytes: usize,
    /// Now, where the topic's timestamps are the broker's.
    pub(super) append_time: Option<Timestamp>,
    /// The earliest and the latest timestamp that a producer may set.
    pub(super) earliest: Timestamp,
    pub(super) latest: Timestamp,
    /// Whether a record without a key is refused, as in a compacted topic.
    pub(super) needs_keys: bool,
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
    /// Where each leader epoch begins (KIP-101).
    epochs: Vec<(i32, Offset)>,
    compacted: Compacted,
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

    /// The offset that the next record gets.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// The first offset that an open transaction has written, or the high watermark (KIP-98).
    pub(super) fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        self.producers.first_open().map_or(high_watermark, |first| first.max(self.start).min(high_watermark))
    }

    /// Appends what must be one batch, unless it is a repeat.
    pub(super) fn append(&mut self, records: &Bytes, options: &AppendOptions) -> Result<Appended, Refusal> {
        let Ok([batch]) = <[RawBatch; 1]>::try_from(batches(records.clone()).unwrap_or_default()) else {
            return Err(E::InvalidRecord.into());
        };
        if batch.magic() != 2 || batch.len() != records.len() {
            return Err(E::InvalidRecord.into());
        }
        if batch.len() > options.max_message_bytes {
            return Err(E::MessageTooLarge.into());
        }
        if !batch.is_intact() {
            return Err(E::CorruptMessage.into());
        }
        let (count, last_delta) = (batch.record_count(), batch.last_offset_delta());
        if batch.is_control() || count < 1 || last_delta != count - 1 || batch.codec().is_none() {
            return Err(E::InvalidRecord.into());
        }
        check_records(&batch, options)?;
        if let Some(repeated) = self.producers.check(&batch)? {
            // Of a repeat Kafka reports the latest timestamp, whatever kind the topic's timestamps are.
            return Ok(Appended { append_time: Some(batch.max_timestamp()), ..repeated });
        }
        let appended = Appended { base: self.next, append_time: options.append_time };
        let batch = batch.placed(appended.base, options.leader_epoch, options.append_time);
        self.producers.record(&batch, appended);
        self.push(batch);
        Ok(appended)
    }

    /// Ends a transaction with a control batch.
    pub(super) fn append_marker(&mut self, of: Stamp, outcome: Outcome, leader_epoch: i32, now: Timestamp) {
        let Some(batch) = marker::batch(of, outcome, now) else { return };
        let batch = batch.placed(self.next, leader_epoch, None);
        self.producers.end(of, outcome, self.next, now);
        self.push(batch);
    }

    fn push(&mut self, batch: RawBatch) {
        let epoch = batch.leader_epoch();
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, batch.base_offset()));
        }
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

    /// Drops the oldest batch.
    pub(super) fn drop_first(&mut self) {
        if let Some(first) = self.batches.pop_front() {
            self.start = self.start.max(first.next_offset());
            self.producers.forget(self.start);
            self.bytes -= size(&first);
            // The epoch of what is left begins with it.
            let gone = self.epochs.partition_point(|(_, start)| *start <= self.start).saturating_sub(1);
            self.epochs.drain(..gone);
        }
    }

    /// Deletes the records before `offset`; returns how many batches went.
    pub(super) fn delete_before(&mut self, offset: Offset) -> usize {
        let mut count = 0;
        while self.batches.front().is_some_and(|batch| batch.next_offset() <= offset) {
            self.drop_first();
            count += 1;
        }
        self.start = self.start.max(offset.min(self.next));
        count
    }

    /// Deletes what is older than `since` or beyond `most` bytes, from the oldest batch on (`retention.ms`,
    /// `retention.bytes`), and before `until`; returns how many batches went.
    pub(super) fn expire(&mut self, since: Option<Timestamp>, most: Option<usize>, until: Offset) -> usize {
        let size = || self.batches.iter().map(RawBatch::len).sum::<usize>();
        let mut over = most.map_or(0, |most| size().saturating_sub(most));
        let mut count = 0;
        while let Some(first) = self.batches.front().filter(|first| first.next_offset() <= until) {
            let (len, old) = (first.len(), since.is_some_and(|since| first.max_timestamp() < since));
            // As with Kafka's segments, no more goes than what is over.
            if !old && over < len {
                break;
            }
            over = over.saturating_sub(len);
            self.drop_first();
            count += 1;
        }
        count
    }

    /// Cuts off all batches from the one with `offset` on, as a leader that never received them would.
    pub(super) fn truncate(&mut self, offset: Offset) {
        let keep = self.batches.partition_point(|batch| batch.next_offset() <= offset);
        if keep == self.batches.len() {
            return;
        }
        self.bytes -= self.batches.drain(keep..).map(|batch| size(&batch)).sum::<usize>();
        self.next = self.batches.back().map_or(self.start, RawBatch::next_offset).max(self.start);
        self.epochs.retain(|(_, start)| *start < self.next);
        self.producers = Producers::of(&self.batches);
    }

    /// The largest epoch up to `epoch` that the log has, and the offset after its last record (KIP-320); `None` when
    /// it has none.
    pub(super) fn end_of_epoch(&self, epoch: i32) -> Option<(i32, Offset)> {
        let after = self.epochs.partition_point(|(of, _)| *of <= epoch);
        let (found, _) = self.epochs.get(after.checked_sub(1)?)?;
        Some((*found, self.epochs.get(after).map_or(self.next, |(_, start)| *start)))
    }

    /// The same as it is returned to clients: where all that the log has is of later epochs, `epoch` ended where it begins.
    pub(in crate::local) fn reported_end_of_epoch(&self, epoch: i32) -> (i32, Offset) {
        let begin = || self.epochs.first().map_or(self.next, |(_, start)| *start);
        self.end_of_epoch(epoch).unwrap_or_else(|| (epoch, begin()))
    }

    /// Up to where this log and another are the same, as their leader epochs tell (KIP-101).
    pub(super) fn common_end(&self, other: &Self) -> Offset {
        let mut epoch = i32::MAX;
        loop {
            let Some((theirs, end)) = other.end_of_epoch(epoch) else { return other.start.min(self.next) };
            match self.end_of_epoch(theirs) {
                Some((ours, our_end)) if ours == theirs => return end.min(our_end),
                Some((ours, _)) => epoch = ours,
                None => return other.start.min(self.next),
            }
        }
    }

    /// Whether a producer's marker is at `offset`.
    pub(super) fn has_marker(&self, of: Stamp, offset: Offset) -> bool {
        let index = self.batches.partition_point(|batch| batch.next_offset() <= offset);
        let found = self.batches.get(index).filter(|batch| batch.is_control() && batch.base_offset() == offset);
        found.is_some_and(|batch| batch.producer().0 == of.producer_id && batch.producer().1 == of.epoch)
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

/// Refuses records that the topic does not accept. They are looked into only where the header does not tell.
fn check_records(batch: &RawBatch, options: &AppendOptions) -> Result<(), Refusal> {
    let checks_time = options.append_time.is_none();
    let may_be_refused = options.earliest > Timestamp::MIN || batch.max_timestamp() > options.latest;
    if !(options.needs_keys || checks_time && may_be_refused) {
        return Ok(());
    }
    let (mut count, mut records, mut refused) = (0, Vec::new(), None);
    each_record(batch, |record| {
        let is_in_time = record.timestamp.is_none_or(|time| (options.earliest..=options.latest).contains(&time));
        let error = match record.key {
            None if options.needs_keys => Some(E::InvalidRecord),
            _ if checks_time && !is_in_time => Some(E::InvalidTimestamp),
            _ => None,
        };
        if error.is_some() && records.len() < MOST_RECORD_ERRORS {
            records.push(count);
        }
        refused = refused.or(error);
        count += 1;
    });
    match refused {
        Some(error) => Err(Refusal { error, records }),
        None if count < batch.record_count() => Err(E::InvalidRecord.into()),
        None => Ok(()),
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
        max_unpacked: MOST_UNPACKED,
    };
    let (decoded, _) = decoder.decode(vec![batch.clone()]);
    decoded.iter().flat_map(|batch| batch.records().map_while(Result::ok)).for_each(&mut f);
}

#[cfg(test)]
mod tests;

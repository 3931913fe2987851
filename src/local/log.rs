//! A partition's log: batches as they came, with the offset and the epoch that a leader writes into them.

use crate::engine::native::wire::{Decoder, Isolation, RawBatch, batches};
use crate::record::{Offset, Timestamp};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, VecDeque};

/// Kafka remembers as many batches of a producer, to recognise them when they are repeated (KIP-98).
const REMEMBERED: usize = 5;
/// Beyond so many producers the oldest is forgotten.
const MOST_PRODUCERS: usize = 10_000;

/// A batch of a producer: its first and last sequence number, and where it stands.
#[derive(Debug)]
struct Written {
    sequences: (i32, i32),
    place: Appended,
}

#[derive(Debug)]
struct ProducerState {
    epoch: i16,
    written: VecDeque<Written>,
}

/// Where a batch was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) base: Offset,
    /// The broker's time, where the topic says that it counts.
    pub(super) append_time: Option<Timestamp>,
    /// Bytes that the log took; 0 for a repeat.
    pub(super) bytes: usize,
}

/// What a topic's configs and the moment say about a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) max_message_bytes: usize,
    /// Now, where the topic wants the broker's time.
    pub(super) append_time: Option<Timestamp>,
    pub(super) leader_epoch: i32,
}

/// The log of one partition.
#[derive(Debug, Default)]
pub(super) struct Log {
    batches: VecDeque<RawBatch>,
    start: Offset,
    next: Offset,
    producers: BTreeMap<i64, ProducerState>,
}

impl Log {
    /// The first offset there is.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// The offset that the next record gets.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Appends what must be one batch, unless it is a repeat.
    pub(super) fn append(&mut self, records: &Bytes, terms: &Terms) -> Result<Appended, E> {
        let Ok([batch]) = <[RawBatch; 1]>::try_from(batches(records.clone()).unwrap_or_default()) else {
            return Err(E::InvalidRecord);
        };
        if batch.magic() != 2 || batch.len() != records.len() {
            return Err(E::InvalidRecord);
        }
        if batch.len() > terms.max_message_bytes {
            return Err(E::MessageTooLarge);
        }
        if !batch.is_intact() {
            return Err(E::CorruptMessage);
        }
        let (count, last_delta) = (batch.record_count(), batch.last_offset_delta());
        if batch.is_control() || count < 1 || last_delta != count - 1 || batch.codec().is_none() {
            return Err(E::InvalidRecord);
        }
        if batch.is_transactional() {
            return Err(E::InvalidTxnState); // nobody could have begun one here
        }
        let (producer, epoch, first) = batch.producer();
        let sequences = (first, sequence_after(first, last_delta));
        if producer >= 0
            && let Some(repeated) = self.check_sequence(producer, epoch, sequences)?
        {
            // Of a repeat Kafka tells the latest timestamp, whatever kind the topic's times are.
            return Ok(Appended { bytes: 0, append_time: Some(batch.max_timestamp()), ..repeated });
        }
        let place = Appended { base: self.next, append_time: terms.append_time, bytes: batch.len() };
        self.next += i64::from(count);
        self.batches.push_back(batch.placed(place.base, terms.leader_epoch, terms.append_time));
        if producer >= 0 {
            self.remember(producer, epoch, Written { sequences, place });
        }
        Ok(place)
    }

    /// Whether the producer's next batch may have these sequence numbers; where it stands, if it is there already.
    fn check_sequence(&self, producer: i64, epoch: i16, sequences: (i32, i32)) -> Result<Option<Appended>, E> {
        // Any first sequence will do of a producer that is not known: its records may have been deleted.
        let Some(known) = self.producers.get(&producer) else { return Ok(None) };
        if epoch < known.epoch {
            return Err(E::InvalidProducerEpoch);
        }
        if epoch > known.epoch {
            return if sequences.0 == 0 { Ok(None) } else { Err(E::OutOfOrderSequenceNumber) };
        }
        if let Some(same) = known.written.iter().find(|written| written.sequences == sequences) {
            return Ok(Some(same.place));
        }
        match known.written.back() {
            Some(last) if sequence_after(last.sequences.1, 1) != sequences.0 => Err(E::OutOfOrderSequenceNumber),
            _ => Ok(None),
        }
    }

    fn remember(&mut self, producer: i64, epoch: i16, written: Written) {
        let state = self.producers.entry(producer).or_insert(ProducerState { epoch, written: VecDeque::new() });
        if epoch > state.epoch {
            *state = ProducerState { epoch, written: VecDeque::new() };
        }
        if state.written.len() == REMEMBERED {
            state.written.pop_front();
        }
        state.written.push_back(written);
        if self.producers.len() > MOST_PRODUCERS {
            self.producers.pop_first(); // ids are given in ascending order
        }
    }

    /// Whole batches from the one with `from` on, up to `most` bytes; the first whatever its size, with `at_least_one`.
    pub(super) fn read(&self, from: Offset, most: usize, at_least_one: bool) -> Bytes {
        let first = self.batches.partition_point(|batch| batch.next_offset() <= from);
        let mut len = 0;
        let fits = |batch: &&RawBatch| {
            let fits = len + batch.len() <= most || (len == 0 && at_least_one);
            len += if fits { batch.len() } else { 0 };
            fits
        };
        let read: Vec<&[u8]> = self.batches.range(first..).take_while(fits).map(|batch| &batch.bytes()[..]).collect();
        match self.batches.get(first) {
            Some(one) if read.len() == 1 => one.bytes().clone(),
            _ => read.concat().into(),
        }
    }

    /// The first record with this timestamp or a later one.
    pub(super) fn at_time(&self, timestamp: Timestamp) -> Option<(Offset, Timestamp)> {
        let batch = self.batches.iter().find(|batch| batch.max_timestamp() >= timestamp)?;
        times(batch).into_iter().find(|(_, time)| *time >= timestamp)
    }

    /// The first record with the largest timestamp (KIP-734).
    pub(super) fn max_timestamp(&self) -> Option<(Offset, Timestamp)> {
        self.at_time(self.batches.iter().map(RawBatch::max_timestamp).max()?)
    }

    /// Moves the log start offset, up or down within what was ever written; the batches stay.
    pub(super) fn set_start(&mut self, offset: Offset) {
        self.start = offset.clamp(0, self.next);
    }

    /// Drops the oldest batch; returns its size.
    pub(super) fn drop_first(&mut self) -> usize {
        let Some(first) = self.batches.pop_front() else { return 0 };
        self.start = self.start.max(first.next_offset());
        first.len()
    }

    /// Cuts off all batches from the one with `offset` on, as a leader that had not got them would; returns how many
    /// and their size.
    pub(super) fn truncate(&mut self, offset: Offset) -> (usize, usize) {
        let keep = self.batches.partition_point(|batch| batch.next_offset() <= offset);
        let gone: Vec<usize> = self.batches.drain(keep..).map(|batch| batch.len()).collect();
        self.next = self.batches.back().map_or(self.start, RawBatch::next_offset);
        self.producers.clear();
        (gone.len(), gone.iter().sum())
    }

    /// The largest epoch up to `epoch` that the log has, and the offset after its last record (KIP-320); `None` when
    /// it has none.
    pub(super) fn end_of_epoch(&self, epoch: i32) -> Option<(i32, Offset)> {
        let last = self.batches.iter().rev().find(|batch| batch.leader_epoch() <= epoch)?;
        Some((last.leader_epoch(), last.next_offset()))
    }

    /// Bytes of all batches.
    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(RawBatch::len).sum()
    }
}

/// Sequence numbers begin again at 0 after the largest.
fn sequence_after(sequence: i32, steps: i32) -> i32 {
    ((i64::from(sequence) + i64::from(steps)) % (1 << 31)) as i32
}

/// Offset and timestamp of each record; of none, when the batch cannot be read.
fn times(batch: &RawBatch) -> Vec<(Offset, Timestamp)> {
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
    let records = decoded.iter().flat_map(|batch| batch.records().map_while(Result::ok));
    records.map(|record| (record.offset, record.timestamp.unwrap_or(-1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::native::wire::{BatchBuilder, ProducerStamp};
    use crate::record::RecordRef;
    use bytes::BytesMut;
    use proptest::prelude::*;

    const TERMS: Terms = Terms { max_message_bytes: 1 << 20, append_time: None, leader_epoch: 7 };

    fn batch(values: &[i64], producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Bytes {
        let mut builder = BatchBuilder::default();
        for time in values {
            let record = RecordRef { timestamp: Some(*time), value: Some(b"v"), ..RecordRef::default() };
            builder.append(&record, 0);
        }
        let sealed = builder.seal(BytesMut::new());
        let stamp = ProducerStamp { producer_id, producer_epoch, base_sequence, transactional: false };
        [&sealed.header(stamp)[..], &sealed.records].concat().into()
    }

    #[test]
    fn a_repeat_is_recognised_and_a_gap_refused() {
        let mut log = Log::default();
        let first = log.append(&batch(&[1, 2], 5, 0, 0), &TERMS).unwrap();
        let second = log.append(&batch(&[3], 5, 0, 2), &TERMS).unwrap();
        assert_eq!((first.base, second.base, log.next()), (0, 2, 3));
        let again = log.append(&batch(&[1, 2], 5, 0, 0), &TERMS).unwrap();
        assert_eq!((again.base, again.bytes, log.next()), (0, 0, 3));
        assert_eq!(log.append(&batch(&[9], 5, 0, 4), &TERMS), Err(E::OutOfOrderSequenceNumber));
        assert_eq!(log.append(&batch(&[9], 5, 1, 4), &TERMS), Err(E::OutOfOrderSequenceNumber));
        assert_eq!(log.append(&batch(&[9], 5, 1, 0), &TERMS).unwrap().base, 3);
        assert_eq!(log.append(&batch(&[9], 5, 0, 3), &TERMS), Err(E::InvalidProducerEpoch));
    }

    #[test]
    fn times_find_the_record_and_not_only_its_batch() {
        let mut log = Log::default();
        log.append(&batch(&[10, 20, 30], -1, -1, -1), &TERMS).unwrap();
        log.append(&batch(&[40, 25], -1, -1, -1), &TERMS).unwrap();
        assert_eq!(log.at_time(11), Some((1, 20)));
        assert_eq!(log.at_time(31), Some((3, 40)));
        assert_eq!(log.at_time(41), None);
        assert_eq!(log.max_timestamp(), Some((3, 40)));
        log.append(&batch(&[1], -1, -1, -1), &Terms { append_time: Some(99), ..TERMS }).unwrap();
        assert_eq!(log.at_time(50), Some((5, 99)));
    }

    #[test]
    fn what_is_no_whole_batch_is_refused() {
        let mut log = Log::default();
        let good = batch(&[1, 2, 3], -1, -1, -1);
        let refused = |log: &mut Log, bytes: Vec<u8>| log.append(&bytes.into(), &TERMS).unwrap_err();
        assert_eq!(refused(&mut log, Vec::new()), E::InvalidRecord);
        assert_eq!(refused(&mut log, [&good[..], &good[..]].concat()), E::InvalidRecord);
        assert_eq!(refused(&mut log, [&good[..], b"x"].concat()), E::InvalidRecord);
        let mut flipped = good.to_vec();
        flipped[70] ^= 1;
        assert_eq!(refused(&mut log, flipped), E::CorruptMessage);
        let small = Terms { max_message_bytes: good.len() - 1, ..TERMS };
        assert_eq!(log.append(&good, &small), Err(E::MessageTooLarge));
        assert_eq!(log.next(), 0);
    }

    proptest! {
        #[test]
        fn a_read_begins_with_the_batch_of_the_offset_and_keeps_its_limit(
            sizes in prop::collection::vec(1usize..5, 1..20), from in 0i64..60, most in 0usize..600, dropped in 0usize..5
        ) {
            let mut log = Log::default();
            for size in &sizes {
                log.append(&batch(&vec![1; *size], -1, -1, -1), &TERMS).unwrap();
            }
            (0..dropped).for_each(|_| { log.drop_first(); });
            let read = log.read(from, most, true);
            let found = batches(read.clone()).unwrap();
            prop_assert!(read.len() <= most || found.len() == 1);
            if from < log.next() && log.bytes() > 0 {
                prop_assert!(found[0].next_offset() > from, "at least one");
            }
            let whole: usize = batches(log.read(0, usize::MAX, false)).unwrap().iter().map(RawBatch::len).sum();
            prop_assert_eq!(whole, log.bytes());
        }

        #[test]
        fn any_bytes_are_appended_or_refused(bytes: Vec<u8>) {
            let _ = Log::default().append(&bytes.into(), &TERMS);
        }
    }
}

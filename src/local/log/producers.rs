//! What a partition remembers of producers: their last batches, to recognize repeats, and their transactions (KIP-98).

use super::{Appended, Outcome, Stamp, marker};
use crate::engine::native::wire::RawBatch;
use crate::record::{Offset, Timestamp};
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, HashSet, VecDeque};

/// Kafka remembers as many batches of a producer.
const REMEMBERED: usize = 5;
/// So many producers of a partition are remembered when their records have gone; Kafka remembers all for a day.
const REMEMBERED_WITHOUT_RECORDS: usize = 100;

/// A batch of a producer: its first and last sequence number, and where it was appended.
#[derive(Debug, Clone)]
struct Written {
    sequences: (i32, i32),
    appended: Appended,
}

#[derive(Debug, Clone)]
struct Producer {
    epoch: i16,
    written: VecDeque<Written>,
    /// The first offset of its open transaction.
    open_since: Option<Offset>,
    last_offset: Offset,
    last_timestamp: Timestamp,
    /// Whether a coordinator has ended a transaction of it here.
    has_ended: bool,
}

/// An aborted transaction: the offsets of its first record and of its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) struct Aborted {
    pub(in crate::local) producer_id: i64,
    pub(in crate::local) first: Offset,
    pub(in crate::local) last: Offset,
}

/// A producer as DescribeProducers lists it (KIP-664).
#[derive(Debug, Clone, Copy)]
pub(in crate::local) struct ActiveProducer {
    pub(in crate::local) producer_id: i64,
    pub(in crate::local) epoch: i16,
    pub(in crate::local) last_sequence: Option<i32>,
    pub(in crate::local) last_timestamp: Timestamp,
    pub(in crate::local) has_ended: bool,
    pub(in crate::local) open_since: Option<Offset>,
}

/// All producers that a partition remembers: those with records in the log, and some without.
#[derive(Debug, Clone, Default)]
pub(super) struct Producers {
    producers: BTreeMap<i64, Producer>,
    /// In the order of their markers.
    aborted: VecDeque<Aborted>,
}

impl Producers {
    /// Refuses a batch that is out of sequence; returns where it was appended if it is a repeat.
    pub(super) fn check(&self, batch: &RawBatch) -> Result<Option<Appended>, E> {
        let (id, epoch, first) = batch.producer();
        // Any first sequence is right for a producer that is not known: its records may have been deleted.
        let Some(known) = self.producers.get(&id).filter(|_| id >= 0) else { return Ok(None) };
        if epoch < known.epoch {
            return Err(E::InvalidProducerEpoch);
        }
        if known.open_since.is_some() && !batch.is_transactional() {
            return Err(E::InvalidTxnState);
        }
        if epoch > known.epoch {
            return if first == 0 { Ok(None) } else { Err(E::OutOfOrderSequenceNumber) };
        }
        let sequences = sequences(batch);
        if let Some(same) = known.written.iter().find(|written| written.sequences == sequences) {
            return Ok(Some(same.appended));
        }
        match known.written.back() {
            Some(last) if sequence_after(last.sequences.1, 1) != first => Err(E::OutOfOrderSequenceNumber),
            // After a marker that raised the epoch.
            None if first != 0 => Err(E::OutOfOrderSequenceNumber),
            _ => Ok(None),
        }
    }

    /// Remembers an appended batch.
    pub(super) fn record(&mut self, batch: &RawBatch, appended: Appended) {
        let (id, epoch, _) = batch.producer();
        if id < 0 {
            return;
        }
        let producer = self.producer(Stamp { producer_id: id, epoch });
        if producer.written.len() == REMEMBERED {
            producer.written.pop_front();
        }
        producer.written.push_back(Written { sequences: sequences(batch), appended });
        producer.last_offset = batch.next_offset() - 1;
        producer.last_timestamp = batch.max_timestamp();
        if batch.is_transactional() {
            producer.open_since.get_or_insert(appended.base);
        }
    }

    /// The producer's state; a raised epoch begins its sequence again.
    fn producer(&mut self, of: Stamp) -> &mut Producer {
        let new = || Producer {
            epoch: of.epoch,
            written: VecDeque::new(),
            open_since: None,
            last_offset: 0,
            last_timestamp: -1,
            has_ended: false,
        };
        let producer = self.producers.entry(of.producer_id).or_insert_with(new);
        if of.epoch > producer.epoch {
            producer.epoch = of.epoch;
            producer.written.clear();
        }
        producer
    }

    /// Ends a producer's transaction with a marker at `offset`.
    pub(super) fn end(&mut self, of: Stamp, outcome: Outcome, offset: Offset, now: Timestamp) {
        let producer = self.producer(of);
        (producer.last_offset, producer.last_timestamp, producer.has_ended) = (offset, now, true);
        let open = producer.open_since.take();
        if let (Outcome::Abort, Some(first)) = (outcome, open) {
            self.aborted.push_back(Aborted { producer_id: of.producer_id, first, last: offset });
        }
    }

    /// The first offset of all open transactions.
    pub(super) fn first_open(&self) -> Option<Offset> {
        self.producers.values().filter_map(|producer| producer.open_since).min()
    }

    pub(super) fn has_fenced(&self, of: Stamp) -> bool {
        self.producers.get(&of.producer_id).is_some_and(|producer| producer.epoch > of.epoch)
    }

    pub(super) fn aborted(&self) -> impl Iterator<Item = &Aborted> {
        self.aborted.iter()
    }

    /// Whether a batch is part of an aborted transaction.
    pub(super) fn is_aborted(&self, batch: &RawBatch) -> bool {
        let (id, offset) = (batch.producer().0, batch.base_offset());
        let holds = |aborted: &Aborted| aborted.producer_id == id && (aborted.first..aborted.last).contains(&offset);
        batch.is_transactional() && self.aborted.iter().any(holds)
    }

    /// The last offset of each producer.
    pub(super) fn last_offsets(&self) -> HashSet<Offset> {
        self.producers.values().map(|producer| producer.last_offset).collect()
    }

    pub(super) fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        self.producers.iter().map(|(id, producer)| ActiveProducer {
            producer_id: *id,
            epoch: producer.epoch,
            last_sequence: producer.written.back().map(|written| written.sequences.1),
            last_timestamp: producer.last_timestamp,
            has_ended: producer.has_ended,
            open_since: producer.open_since,
        })
    }

    /// A batch has gone: where many producers are remembered, the one whose records went first is forgotten if none of it is
    /// left from `start` on. What is remembered is thereby bounded by the batches held.
    pub(super) fn forget(&mut self, start: Offset) {
        while self.aborted.front().is_some_and(|aborted| aborted.last < start) {
            self.aborted.pop_front();
        }
        if self.producers.len() > REMEMBERED_WITHOUT_RECORDS {
            let idle =
                self.producers.iter().filter(|(_, known)| known.last_offset < start && known.open_since.is_none());
            let oldest = idle.min_by_key(|(_, known)| known.last_offset).map(|(id, _)| *id);
            oldest.map(|id| self.producers.remove(&id));
        }
    }

    /// What the batches of a log tell of their producers.
    pub(super) fn of(batches: &VecDeque<RawBatch>) -> Self {
        let mut producers = Self::default();
        for batch in batches {
            let (producer_id, epoch, _) = batch.producer();
            match marker::outcome(batch) {
                Some(outcome) => {
                    producers.end(Stamp { producer_id, epoch }, outcome, batch.base_offset(), batch.max_timestamp());
                }
                None => {
                    producers.record(batch, Appended { base: batch.base_offset(), append_time: None });
                }
            }
        }
        producers
    }
}

fn sequences(batch: &RawBatch) -> (i32, i32) {
    let (_, _, first) = batch.producer();
    (first, sequence_after(first, batch.last_offset_delta()))
}

/// Sequence numbers begin again at 0 after the largest.
fn sequence_after(sequence: i32, steps: i32) -> i32 {
    ((i64::from(sequence) + i64::from(steps)) % (1 << 31)) as i32
}

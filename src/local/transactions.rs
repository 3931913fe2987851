//! The coordinator's side of transactions: state machines without I/O or a clock of their own (KIP-98, KIP-360, KIP-890).
//!
//! A transaction's markers and offsets are written by the [`cluster`](super::cluster), at once: there is no moment
//! between "prepared" and "complete".

use super::group::CommittedOffset;
use super::limits::{ENTRY_OVERHEAD, MOST_TRANSACTION_BYTES, MOST_TRANSACTIONAL_IDS};
use super::log::{Outcome, Stamp};
use crate::record::{Timestamp, TopicPartition};
use kafka_protocol::error::ResponseError as E;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The largest epoch that a producer ID gets; another ID follows.
const LAST_EPOCH: i16 = i16::MAX - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Ongoing { since: Instant, started: Timestamp },
    Complete(Outcome),
}

/// Which client ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// EndTxn before v5: the epoch stays.
    V1,
    /// EndTxn v5: every end raises the epoch (KIP-890).
    V2,
}

/// A transactional ID with its transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) stamp: Stamp,
    /// What the producer had before its epoch was last raised at its own request: a repeat of that request is known
    /// by it.
    previous: Option<Stamp>,
    pub(super) timeout: Duration,
    phase: Phase,
    pub(super) partitions: BTreeSet<TopicPartition>,
    /// The groups it commits for, and what.
    pub(super) groups: BTreeMap<String, Vec<(TopicPartition, CommittedOffset)>>,
    bytes: usize,
}

/// What a transaction leaves to be done when it ends.
#[derive(Debug)]
pub(super) struct Ended {
    /// The producer and epoch of the markers.
    pub(super) marker: Stamp,
    pub(super) outcome: Outcome,
    pub(super) partitions: BTreeSet<TopicPartition>,
    pub(super) groups: BTreeMap<String, Vec<(TopicPartition, CommittedOffset)>>,
}

impl Transaction {
    fn new(producer_id: i64) -> Self {
        Self {
            stamp: Stamp { producer_id, epoch: -1 },
            previous: None,
            timeout: Duration::ZERO,
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            groups: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Its state, by Kafka's name.
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Ongoing { .. } => "Ongoing",
            Phase::Complete(Outcome::Commit) => "CompleteCommit",
            Phase::Complete(Outcome::Abort) => "CompleteAbort",
        }
    }

    /// When it began, while it is open.
    pub(super) fn started(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Ongoing { started, .. } => Some(started),
            Phase::Empty | Phase::Complete(_) => None,
        }
    }

    /// When it is aborted for taking too long.
    fn expires(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ongoing { since, .. } => Some(since + self.timeout),
            Phase::Empty | Phase::Complete(_) => None,
        }
    }

    fn begin(&mut self, now: Instant, time: Timestamp) {
        if !matches!(self.phase, Phase::Ongoing { .. }) {
            self.phase = Phase::Ongoing { since: now, started: time };
        }
    }

    fn close(&mut self, outcome: Outcome, marker: Stamp) -> Ended {
        self.phase = Phase::Complete(outcome);
        self.bytes = 0;
        let (partitions, groups) = (std::mem::take(&mut self.partitions), std::mem::take(&mut self.groups));
        Ended { marker, outcome, partitions, groups }
    }

    /// Aborts it under a raised epoch, so that its producer is fenced.
    fn fence(&mut self) -> Ended {
        self.stamp.epoch = self.stamp.epoch.saturating_add(1);
        self.previous = None;
        self.close(Outcome::Abort, self.stamp)
    }

    /// Raises the epoch, or takes the next producer ID after the last epoch.
    fn raise_epoch(&mut self, next_producer_id: impl FnOnce() -> i64) {
        self.stamp = if self.stamp.epoch >= LAST_EPOCH {
            Stamp { producer_id: next_producer_id(), epoch: 0 }
        } else {
            Stamp { epoch: self.stamp.epoch + 1, ..self.stamp }
        };
    }
}

/// All transactional IDs.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    by_id: BTreeMap<String, Transaction>,
}

impl Transactions {
    pub(super) fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Transaction)> {
        self.by_id.iter()
    }

    /// InitProducerId: the producer's ID and epoch from now on. An open transaction is aborted first, and the client
    /// asks again.
    pub(super) fn init(
        &mut self,
        id: &str,
        timeout: Duration,
        expected: Option<Stamp>,
        mut next_producer_id: impl FnMut() -> i64,
    ) -> Result<Stamp, (E, Option<Ended>)> {
        if !self.by_id.contains_key(id) {
            self.make_room(id.len() + ENTRY_OVERHEAD).map_err(|error| (error, None))?;
            self.by_id.insert(id.to_owned(), Transaction::new(next_producer_id()));
        }
        let Some(found) = self.by_id.get_mut(id) else { return Err((E::CoordinatorNotAvailable, None)) };
        let is_new = found.stamp.epoch < 0;
        let exhausted = |stamp: Stamp| {
            stamp.epoch >= LAST_EPOCH && found.previous.map(|p| p.producer_id) == Some(stamp.producer_id)
        };
        if expected.is_some_and(|e| !is_new && e.producer_id != found.stamp.producer_id && !exhausted(e)) {
            return Err((E::ProducerFenced, None));
        }
        if matches!(found.phase, Phase::Ongoing { .. }) {
            if expected.is_some_and(|expected| expected != found.stamp) {
                return Err((E::ProducerFenced, None));
            }
            return Err((E::ConcurrentTransactions, Some(found.fence())));
        }
        found.timeout = timeout;
        match expected {
            Some(expected) if !is_new && expected != found.stamp => {
                // A repeat of a request that was granted.
                if found.previous == Some(expected) { Ok(found.stamp) } else { Err((E::ProducerFenced, None)) }
            }
            _ => {
                found.previous = expected.map(|_| found.stamp);
                found.raise_epoch(next_producer_id);
                found.phase = Phase::Empty;
                Ok(found.stamp)
            }
        }
    }

    /// The transaction of a producer that is not fenced.
    fn of(&mut self, id: &str, stamp: Stamp) -> Result<&mut Transaction, E> {
        let found = self.by_id.get_mut(id).ok_or(E::InvalidProducerIdMapping)?;
        if found.stamp.producer_id != stamp.producer_id {
            return Err(E::InvalidProducerIdMapping);
        }
        if found.stamp.epoch == stamp.epoch { Ok(found) } else { Err(E::ProducerFenced) }
    }

    /// Whether `partition` is in the producer's transaction.
    pub(super) fn check(&mut self, id: &str, stamp: Stamp, partition: &TopicPartition) -> Result<(), E> {
        let found = self.of(id, stamp)?;
        if found.partitions.contains(partition) { Ok(()) } else { Err(E::TransactionAbortable) }
    }

    /// Adds partitions to the producer's transaction, which begins with the first.
    pub(super) fn add(
        &mut self,
        id: &str,
        stamp: Stamp,
        partitions: Vec<TopicPartition>,
        now: Instant,
        time: Timestamp,
    ) -> Result<(), E> {
        self.of(id, stamp)?;
        let bytes = partitions.iter().map(|of| of.topic.len() + ENTRY_OVERHEAD).sum();
        self.make_room(bytes)?;
        let found = self.of(id, stamp)?;
        for partition in partitions {
            let bytes = partition.topic.len() + ENTRY_OVERHEAD;
            found.bytes += if found.partitions.insert(partition) { bytes } else { 0 };
        }
        found.begin(now, time);
        Ok(())
    }

    /// Adds a group to the producer's transaction.
    pub(super) fn add_group(
        &mut self,
        id: &str,
        stamp: Stamp,
        group: &str,
        now: Instant,
        time: Timestamp,
    ) -> Result<(), E> {
        self.of(id, stamp)?;
        self.make_room(group.len() + ENTRY_OVERHEAD)?;
        let found = self.of(id, stamp)?;
        if !found.groups.contains_key(group) {
            found.bytes += group.len() + ENTRY_OVERHEAD;
            found.groups.insert(group.to_owned(), Vec::new());
        }
        found.begin(now, time);
        Ok(())
    }

    /// Adds offsets that are committed with the transaction, for a group that was added to it.
    pub(super) fn add_offsets(
        &mut self,
        id: &str,
        stamp: Stamp,
        group: &str,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<(), E> {
        self.of(id, stamp)?;
        let bytes = offsets.iter().map(|(of, offset)| of.topic.len() + offset.metadata.len() + ENTRY_OVERHEAD).sum();
        self.make_room(bytes)?;
        let found = self.of(id, stamp)?;
        let pending = found.groups.get_mut(group).ok_or(E::InvalidTxnState)?;
        pending.extend(offsets);
        found.bytes += bytes;
        Ok(())
    }

    /// Whether a transaction is to commit an offset of `partition` for `group`.
    pub(super) fn is_pending(&self, group: &str, partition: &TopicPartition) -> bool {
        let pending = self.by_id.values().filter_map(|transaction| transaction.groups.get(group));
        pending.flatten().any(|(of, _)| of == partition)
    }

    /// EndTxn: returns the producer's ID and epoch from now on, and what is left to be done.
    pub(super) fn end(
        &mut self,
        id: &str,
        stamp: Stamp,
        outcome: Outcome,
        protocol: Protocol,
        next_producer_id: impl FnOnce() -> i64,
    ) -> Result<(Stamp, Option<Ended>), E> {
        let found = self.by_id.get_mut(id).ok_or(E::InvalidProducerIdMapping)?;
        let is_repeat = protocol == Protocol::V2 && found.previous == Some(stamp);
        if found.stamp.producer_id != stamp.producer_id && !is_repeat {
            return Err(E::InvalidProducerIdMapping);
        }
        if found.stamp.epoch != stamp.epoch && !is_repeat {
            return Err(E::ProducerFenced);
        }
        if is_repeat {
            return match found.phase {
                Phase::Complete(was) if was == outcome => Ok((found.stamp, None)),
                Phase::Complete(_) | Phase::Empty => Err(E::InvalidTxnState),
                Phase::Ongoing { .. } => Err(E::ProducerFenced),
            };
        }
        match (found.phase, protocol, outcome) {
            (Phase::Ongoing { .. }, ..) => {}
            (Phase::Complete(was), Protocol::V1, _) if was == outcome => return Ok((found.stamp, None)),
            // Aborting nothing still raises the epoch.
            (Phase::Complete(_) | Phase::Empty, Protocol::V2, Outcome::Abort) => {}
            (Phase::Complete(_) | Phase::Empty, ..) => return Err(E::InvalidTxnState),
        }
        let marker = match protocol {
            Protocol::V1 => found.stamp,
            Protocol::V2 => Stamp { epoch: stamp.epoch.saturating_add(1), ..stamp },
        };
        if protocol == Protocol::V2 {
            found.previous = Some(found.stamp);
            found.raise_epoch(next_producer_id);
        }
        let ended = found.close(outcome, marker);
        Ok((found.stamp, Some(ended)))
    }

    /// Aborts the transactions that take too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ended> {
        let late = self.by_id.values_mut().filter(|found| found.expires().is_some_and(|expires| expires <= now));
        late.map(Transaction::fence).collect()
    }

    /// When the next transaction takes too long.
    pub(super) fn due(&self) -> Option<Instant> {
        self.by_id.values().filter_map(Transaction::expires).min()
    }

    /// Refuses what would take more memory than transactions may; IDs without an open transaction are forgotten first.
    fn make_room(&mut self, bytes: usize) -> Result<(), E> {
        let fits = |by_id: &BTreeMap<String, Transaction>| {
            let held: usize = by_id.iter().map(|(id, found)| id.len() + ENTRY_OVERHEAD + found.bytes).sum();
            held + bytes <= MOST_TRANSACTION_BYTES && by_id.len() < MOST_TRANSACTIONAL_IDS
        };
        if !fits(&self.by_id) {
            self.by_id.retain(|_, found| matches!(found.phase, Phase::Ongoing { .. }));
        }
        if fits(&self.by_id) { Ok(()) } else { Err(E::PolicyViolation) }
    }
}

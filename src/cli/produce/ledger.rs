//! Restores the input's order of outcomes, which arrive by partition and batch.
//!
//! Neighbours that go to the same partition at the same time are one run, so that an unkeyed input costs a few
//! runs a chunk; whatever the input, nothing is allocated a record once the queue has its size.

use crate::engine::{Failure, Receipt, Slot};
use crate::error::Error;
use crate::output::{ReceiptRun, Undelivered};
use crate::record::{Offset, PartitionId, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A slot that no partition has: records that were never sent.
const REFUSED: u32 = u32::MAX;
/// What an outcome takes, with its share of the map's nodes.
const OUTCOME_BYTES: usize = 160;
/// What a refused record takes: chiefly its error's text.
const REFUSED_BYTES: usize = 256;

/// Small, for a keyed input has one a record.
#[derive(Debug)]
struct Run {
    slot: u32,
    count: u32,
    timestamp: Timestamp,
}

/// Records of one batch whose outcome is known.
#[derive(Debug)]
struct Outcome {
    count: u64,
    topic: Arc<str>,
    partition: PartitionId,
    append_time: Option<Timestamp>,
    result: Result<Option<Offset>, Arc<Failure>>,
}

#[derive(Debug, Default)]
struct Partition {
    /// By the number of the first record in the slot.
    outcomes: BTreeMap<u64, Outcome>,
    /// Records of the slot that are settled.
    settled: u64,
    /// Records before this one are delivered, and nobody wants to know more.
    delivered: u64,
}

/// Neighbours of the input with one outcome.
#[derive(Debug)]
pub(super) struct Settled<'a> {
    /// The first one's number in the input, from 1.
    pub(super) record: u64,
    pub(super) count: u64,
    /// Unknown for records that were refused before they had one.
    pub(super) place: Option<(&'a Arc<str>, PartitionId)>,
    pub(super) timestamp: Timestamp,
    /// The first one's offset, when the broker told; or why they failed.
    pub(super) result: Result<Option<Offset>, Arc<Failure>>,
}

impl Settled<'_> {
    /// What its receipts show.
    pub(super) fn receipts(&self) -> ReceiptRun<'_> {
        ReceiptRun {
            record: self.record,
            count: self.count,
            partition: self.place.map(|(topic, partition)| (&**topic, partition)),
            timestamp: self.timestamp,
            outcome: match &self.result {
                Ok(offset) => Ok(*offset),
                Err(failure) => Err(Undelivered { error: &failure.error, possibly_written: failure.possibly_written }),
            },
        }
    }
}

/// What is on its way, in the input's order.
#[derive(Debug)]
pub(super) struct Ledger {
    runs: VecDeque<Run>,
    partitions: Vec<Partition>,
    refused: VecDeque<Arc<Failure>>,
    /// Outcomes of all partitions.
    outcomes: usize,
    /// Whether [`Ledger::settle`] tells of delivered records too, and not only of those that failed.
    tells_delivered: bool,
    /// The input's number of the first record that is not settled.
    next: u64,
}

impl Ledger {
    /// The first record will have the number after `skipped`.
    pub(super) fn after(skipped: u64, tells_delivered: bool) -> Self {
        Self {
            runs: VecDeque::new(),
            partitions: Vec::new(),
            refused: VecDeque::new(),
            outcomes: 0,
            tells_delivered,
            next: skipped + 1,
        }
    }

    /// How many of the input's first records are settled.
    pub(super) fn settled(&self) -> u64 {
        self.next - 1
    }

    /// Memory that is kept until the records at the front are acknowledged.
    pub(super) fn held_bytes(&self) -> usize {
        self.runs.len() * size_of::<Run>() + self.outcomes * OUTCOME_BYTES + self.refused.len() * REFUSED_BYTES
    }

    /// The next record of the input is on its way.
    #[inline]
    pub(super) fn appended(&mut self, slot: Slot, timestamp: Timestamp) {
        let slot = slot as u32; // a cluster has not as many partitions
        match self.runs.back_mut() {
            Some(run) if run.slot == slot && run.timestamp == timestamp && run.count < u32::MAX => run.count += 1,
            _ => self.runs.push_back(Run { slot, count: 1, timestamp }),
        }
    }

    /// The next record of the input will never be sent.
    pub(super) fn refused(&mut self, error: Error) {
        self.refused.push_back(Arc::new(Failure { error, possibly_written: false, records: None }));
        self.runs.push_back(Run { slot: REFUSED, count: 1, timestamp: 0 });
    }

    /// Notes an outcome.
    pub(super) fn answered(&mut self, receipt: &Receipt) {
        if self.partitions.len() <= receipt.slot {
            self.partitions.resize_with(receipt.slot + 1, Partition::default);
        }
        let partition = &mut self.partitions[receipt.slot];
        if !self.tells_delivered
            && receipt.outcome.is_ok()
            && receipt.first_record == partition.delivered.max(partition.settled)
        {
            partition.delivered = receipt.first_record + receipt.records;
            return;
        }
        let result = match &receipt.outcome {
            Ok(offset) => Ok(*offset),
            Err(Failure { error, possibly_written, .. }) => {
                Err(Arc::new(Failure { error: error.clone(), possibly_written: *possibly_written, records: None }))
            }
        };
        let outcome = Outcome {
            count: receipt.records,
            topic: receipt.topic.clone(),
            partition: receipt.partition,
            append_time: receipt.append_time,
            result,
        };
        partition.outcomes.insert(receipt.first_record, outcome);
        self.outcomes += 1;
    }

    /// Tells the outcomes that are known, as far as the input's order allows.
    pub(super) fn settle<E>(&mut self, mut each: impl FnMut(Settled<'_>) -> Result<(), E>) -> Result<(), E> {
        while let Some(run) = self.runs.front_mut() {
            let record = self.next;
            let mut told = Ok(());
            let count = if run.slot == REFUSED {
                if let Some(failure) = self.refused.pop_front() {
                    told = each(Settled { record, count: 1, place: None, timestamp: 0, result: Err(failure) });
                }
                1
            } else {
                let Some(partition) = self.partitions.get_mut(run.slot as usize) else { break };
                let delivered = partition.delivered.saturating_sub(partition.settled).min(u64::from(run.count));
                let count = if delivered > 0 {
                    delivered
                } else {
                    let Some(entry) = partition.outcomes.first_entry().filter(|e| *e.key() <= partition.settled) else {
                        break;
                    };
                    let into = partition.settled - entry.key();
                    let outcome = entry.get();
                    let count = u64::from(run.count).min(outcome.count - into);
                    told = each(Settled {
                        record,
                        count,
                        place: Some((&outcome.topic, outcome.partition)),
                        timestamp: outcome.append_time.unwrap_or(run.timestamp),
                        result: outcome.result.clone().map(|offset| offset.map(|offset| offset + into as i64)),
                    });
                    if into + count == outcome.count {
                        entry.remove();
                        self.outcomes -= 1;
                    }
                    count
                };
                partition.settled += count;
                count
            };
            self.next += count;
            run.count -= count as u32;
            if run.count == 0 {
                self.runs.pop_front();
            }
            told?;
        }
        Ok(())
    }

    /// The transaction was not committed, or nobody knows: whatever was answered, nothing of it is delivered.
    pub(super) fn fail_all(&mut self, error: &Error, possibly_written: bool) {
        for partition in &mut self.partitions {
            for outcome in partition.outcomes.values_mut().filter(|outcome| outcome.result.is_ok()) {
                let error = error.clone();
                outcome.result = Err(Arc::new(Failure { error, possibly_written, records: None }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn receipt(slot: Slot, first_record: u64, records: u64, offset: Offset) -> Receipt {
        Receipt {
            slot,
            topic: "t".into(),
            partition: slot as i32,
            records,
            bytes: 0,
            first_record,
            append_time: None,
            outcome: Ok(Some(offset)),
        }
    }

    proptest! {
        /// Whatever order batches are answered in, each record gets its own offset, in the input's order.
        #[test]
        fn outcomes_come_in_the_inputs_order(
            slots in prop::collection::vec(0..4usize, 1..60),
            sizes in prop::collection::vec(1..6u64, 60),
            shuffle: Vec<prop::sample::Index>,
        ) {
            let mut ledger = Ledger::after(10, true);
            let mut counts = [0u64; 4];
            let mut expected = Vec::new();
            for (n, &slot) in slots.iter().enumerate() {
                ledger.appended(slot, 5);
                expected.push((n as u64 + 11, slot as i32, counts[slot] as i64 + 100));
                counts[slot] += 1;
            }
            let mut sizes = sizes.into_iter();
            let mut receipts = Vec::new();
            for (slot, &count) in counts.iter().enumerate() {
                let mut first = 0;
                while first < count {
                    let size = sizes.next().unwrap_or(1).min(count - first);
                    receipts.push(receipt(slot, first, size, first as i64 + 100));
                    first += size;
                }
            }
            for index in &shuffle {
                let last = receipts.len() - 1;
                let other = index.index(receipts.len());
                receipts.swap(other, last);
            }
            let mut told = Vec::new();
            for receipt in &receipts {
                ledger.answered(receipt);
                ledger.settle(|s| {
                    for n in 0..s.count {
                        told.push((s.record + n, s.place.unwrap().1, s.result.clone().unwrap().unwrap() + n as i64));
                    }
                    Ok::<_, ()>(())
                }).unwrap();
            }
            prop_assert_eq!(told, expected);
            prop_assert_eq!(ledger.settled(), slots.len() as u64 + 10);
        }
    }

    #[test]
    fn where_only_failures_are_told_the_count_is_the_same() {
        let mut ledger = Ledger::after(0, false);
        for slot in [0, 1, 0, 1, 0] {
            ledger.appended(slot, 1);
        }
        // The second batch of partition 0 is answered before the first.
        ledger.answered(&receipt(0, 2, 1, 2));
        ledger.answered(&receipt(1, 0, 2, 0));
        let mut told = 0;
        let mut tell = |_: Settled<'_>| {
            told += 1;
            Ok::<_, ()>(())
        };
        ledger.settle(&mut tell).unwrap();
        assert_eq!(ledger.settled(), 0);
        ledger.answered(&receipt(0, 0, 2, 0));
        ledger.settle(&mut tell).unwrap();
        assert_eq!((ledger.settled(), told), (5, 1));
    }

    #[test]
    fn what_could_not_be_told_is_counted_all_the_same() {
        let mut ledger = Ledger::after(0, true);
        (0..6).for_each(|n| ledger.appended(n % 2, 1));
        ledger.answered(&receipt(0, 0, 3, 0));
        ledger.answered(&receipt(1, 0, 3, 0));
        assert_eq!(ledger.settle(|settled| if settled.record == 3 { Err("gone") } else { Ok(()) }), Err("gone"));
        assert_eq!(ledger.settled(), 3);
        ledger.settle(|_| Ok::<_, ()>(())).unwrap();
        assert_eq!(ledger.settled(), 6);
    }

    #[test]
    fn a_refused_record_waits_for_those_before_it() {
        let mut ledger = Ledger::after(0, true);
        ledger.appended(0, 1);
        ledger.refused(Error::NotSent);
        ledger.appended(0, 1);
        let told = |ledger: &mut Ledger| {
            let mut told = Vec::new();
            let each = |s: Settled<'_>| {
                told.push((s.record, s.result.is_ok()));
                Ok::<_, ()>(())
            };
            ledger.settle(each).unwrap();
            told
        };
        assert!(told(&mut ledger).is_empty());
        ledger.answered(&receipt(0, 0, 2, 0));
        assert_eq!(told(&mut ledger), [(1, true), (2, false), (3, true)]);
    }
}

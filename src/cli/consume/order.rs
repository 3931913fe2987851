//! `--sort time` and `--last`: records of different partitions in the order of their timestamps.

use crate::error::{Error, Result};
use crate::record::{Batch, Malformed, Offset, PartitionId, RecordRef, Timestamp, TopicPartition};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of records that `--last` may hold.
const MOST_HELD: usize = 1 << 30;

/// Holds records back until it is their turn.
pub(super) enum Order {
    Merged(Merged),
    Last(Last),
}

impl Order {
    /// Merges partitions within `buffer` bytes, or for a tail within `most_wait`.
    pub(super) fn merged(buffer: usize, most_wait: Option<Duration>) -> Self {
        Self::Merged(Merged { buffer, most_wait, queues: Vec::new(), held: 0, since: None, is_draining: false })
    }

    /// The `count` latest records.
    pub(super) fn last(count: usize) -> Self {
        Self::Last(Last { count, held: 0, heap: BinaryHeap::new(), sorted: None })
    }

    /// Takes the records of a batch.
    ///
    /// # Errors
    /// A record is malformed, or there are too many.
    pub(super) fn push(&mut self, batch: Batch) -> Result<()> {
        match self {
            Self::Merged(merged) => merged.push(batch),
            Self::Last(last) => last.push(&batch),
        }
    }

    /// Forgets what is held of partitions that are not read any more.
    pub(super) fn forget(&mut self, gone: &[TopicPartition]) {
        let Self::Merged(merged) = self else { return };
        merged.queues.retain(|queue| {
            let is_gone = gone.iter().any(|of| of.partition == queue.partition && of.topic == queue.topic);
            if is_gone {
                merged.held -= queue.batches.iter().map(|(_, bytes)| bytes).sum::<usize>();
            }
            !is_gone
        });
    }

    /// Whether what is held is worth writing when a signal ends reading: the latest records are not known before the end.
    pub(super) fn is_partial(&self) -> bool {
        matches!(self, Self::Merged(_))
    }

    /// Everything that is held may go on: nothing more comes.
    pub(super) fn drain(&mut self) {
        match self {
            Self::Merged(merged) => merged.is_draining = true,
            Self::Last(last) => {
                let heap = std::mem::take(&mut last.heap);
                last.sorted.get_or_insert_with(|| heap.into_sorted_vec().into_iter().rev().collect());
            }
        }
    }

    /// The next records that may go on.
    ///
    /// # Errors
    /// A record is malformed.
    pub(super) fn next(&mut self) -> Result<Option<Batch>> {
        match self {
            Self::Merged(merged) => merged.next(),
            Self::Last(last) => Ok(last.sorted.as_mut().and_then(VecDeque::pop_front).map(|Reverse(kept)| kept.batch)),
        }
    }

    /// When records have waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Merged(merged) => Some(merged.since? + merged.most_wait?),
            Self::Last(_) => None,
        }
    }
}

fn corrupt(topic: &Arc<str>, partition: PartitionId, malformed: &Malformed) -> Error {
    Error::corrupt(TopicPartition::new(topic.clone(), partition), malformed)
}

/// Batches of one partition.
struct Queue {
    topic: Arc<str>,
    partition: PartitionId,
    /// Each with the bytes that it had when it came.
    batches: VecDeque<(Batch, usize)>,
    /// The timestamp of the first record; the least one where there is none to write, or it is unknown.
    head: Timestamp,
}

impl Queue {
    fn look(&mut self) -> Result<()> {
        let Some((batch, _)) = self.batches.front() else { return Ok(()) };
        let first = batch
            .records()
            .next()
            .transpose()
            .map_err(|malformed| corrupt(&batch.topic, batch.partition, &malformed))?;
        self.head = first.and_then(|record| record.timestamp).unwrap_or(Timestamp::MIN);
        Ok(())
    }
}

/// Batches of all partitions, merged by the timestamps of their records.
pub(super) struct Merged {
    buffer: usize,
    most_wait: Option<Duration>,
    queues: Vec<Queue>,
    /// Bytes of all queues.
    held: usize,
    /// Since when there is something in the queues.
    since: Option<Instant>,
    is_draining: bool,
}

impl Merged {
    fn push(&mut self, batch: Batch) -> Result<()> {
        // A copy, because the batch may share memory with all that was fetched with it.
        let batch = Batch { records: Bytes::copy_from_slice(&batch.records), ..batch };
        let is_of = |queue: &Queue| queue.partition == batch.partition && queue.topic == batch.topic;
        let index = self.queues.iter().position(is_of).unwrap_or_else(|| {
            let (topic, partition) = (batch.topic.clone(), batch.partition);
            self.queues.push(Queue { topic, partition, batches: VecDeque::new(), head: Timestamp::MIN });
            self.queues.len() - 1
        });
        let (queue, bytes) = (&mut self.queues[index], batch.records.len() + size_of::<Batch>());
        queue.batches.push_back((batch, bytes));
        self.held += bytes;
        self.since.get_or_insert_with(Instant::now);
        if queue.batches.len() == 1 { queue.look() } else { Ok(()) }
    }

    fn may_go_on(&self) -> bool {
        let waited = self.since.zip(self.most_wait).is_some_and(|(since, most)| since.elapsed() >= most);
        self.is_draining || waited || self.held > self.buffer
    }

    /// The leading records of the partition whose turn it is, up to those that come after another's.
    fn next(&mut self) -> Result<Option<Batch>> {
        let waiting = || self.queues.iter().enumerate().filter(|(_, queue)| !queue.batches.is_empty());
        if !self.may_go_on() {
            return Ok(None);
        }
        let Some((index, _)) = waiting().min_by_key(|(_, queue)| queue.head) else {
            (self.since, self.is_draining) = (None, false);
            return Ok(None);
        };
        let limit = waiting().filter(|(other, _)| *other != index).map(|(_, queue)| queue.head).min();
        let queue = &mut self.queues[index];
        let Some((batch, bytes)) = queue.batches.front_mut() else { return Ok(None) };
        let (head, limit) = (queue.head, limit.unwrap_or(Timestamp::MAX).max(queue.head));
        // The first one belongs in any case.
        let belongs = |record: &RecordRef<'_>| record.timestamp.unwrap_or(head) <= limit;
        let run = batch.split_off_while(belongs);
        let run = run.map_err(|malformed| corrupt(&queue.topic, queue.partition, &malformed))?;
        if batch.count == 0 {
            self.held = self.held.saturating_sub(*bytes);
            queue.batches.pop_front();
        }
        queue.look()?;
        Ok(run)
    }
}

/// The latest records seen so far.
pub(super) struct Last {
    count: usize,
    held: usize,
    /// The earliest of them first.
    heap: BinaryHeap<Reverse<Kept>>,
    /// What is to be written, once all were seen.
    sorted: Option<VecDeque<Reverse<Kept>>>,
}

/// A record; of those with the same timestamp, partitions and offsets give the order.
struct Kept {
    batch: Batch,
}

impl Kept {
    fn order(&self) -> (Option<Timestamp>, &str, PartitionId, Offset) {
        (self.batch.base_timestamp, &self.batch.topic, self.batch.partition, self.batch.base_offset)
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Kept {}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Last {
    fn push(&mut self, batch: &Batch) -> Result<()> {
        for record in batch.records() {
            let record = record.map_err(|malformed| corrupt(&batch.topic, batch.partition, &malformed))?;
            if self.heap.len() >= self.count {
                let earliest = self.heap.peek().map(|Reverse(kept)| kept.order());
                let order = (record.timestamp, &*batch.topic, batch.partition, record.offset);
                if earliest.is_none_or(|earliest| order < earliest) {
                    continue;
                }
                let removed = self.heap.pop();
                self.held -= removed.map_or(0, |Reverse(kept)| kept.batch.records.len());
            }
            let kept = Kept { batch: batch.only(&record) };
            self.held += kept.batch.records.len();
            self.heap.push(Reverse(kept));
            if self.held + self.heap.len() * size_of::<Kept>() > MOST_HELD {
                return Err(Error::Usage(
                    "--last: the records take more than 1 GiB (use -o -N, which streams)".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode;
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn batch(partition: i32, base_offset: i64, timestamps: &[i64]) -> Batch {
        let mut records = BytesMut::new();
        for (index, timestamp) in timestamps.iter().enumerate() {
            encode(&mut records, &RecordRef { value: Some(b"v"), ..RecordRef::default() }, *timestamp, index as i32);
        }
        let unplaced = Batch::unplaced("t".into(), partition, Some(0), timestamps.len() as u32, records.freeze());
        let next_offset = base_offset + timestamps.len() as i64;
        Batch { base_offset, from: base_offset, next_offset, ..unplaced }
    }

    /// Partition, offset and timestamp of all that goes on.
    fn all(order: &mut Order) -> Vec<(i32, i64, i64)> {
        let mut all = Vec::new();
        while let Some(batch) = order.next().unwrap() {
            let of = |record: RecordRef<'_>| (batch.partition, record.offset, record.timestamp.unwrap());
            let before = all.len();
            all.extend(batch.records().map(|record| of(record.unwrap())));
            let next = all[before..].last().map(|(_, offset, _)| offset + 1);
            assert!(next.is_none_or(|next| next <= batch.next_offset));
        }
        all
    }

    proptest! {
        /// Batches of three partitions, with timestamps in any order: each partition keeps its order, nothing is lost,
        /// and where timestamps grow, all of them do.
        #[test]
        fn partitions_are_merged(
            batches in prop::collection::vec((0..3_i32, prop::collection::vec(0..1_000_i64, 0..6)), 0..20), grows: bool,
        ) {
            let mut order = Order::merged(usize::MAX, None);
            let (mut next, mut last) = ([0_i64; 3], [0_i64; 3]);
            let mut expected = Vec::new();
            for (partition, mut timestamps) in batches {
                let index = partition as usize;
                if grows {
                    timestamps.iter_mut().for_each(|t| { last[index] += *t; *t = last[index]; });
                }
                expected.extend(timestamps.iter().zip(next[index]..).map(|(t, offset)| (partition, offset, *t)));
                order.push(batch(partition, next[index], &timestamps)).unwrap();
                next[index] += timestamps.len() as i64;
            }
            prop_assert!(order.next().unwrap().is_none(), "it waits for more");
            order.drain();
            let merged = all(&mut order);
            for partition in 0..3 {
                let of = |all: &[(i32, i64, i64)]| all.iter().copied().filter(|(p, ..)| *p == partition).collect::<Vec<_>>();
                prop_assert_eq!(of(&merged), of(&expected));
            }
            if grows {
                prop_assert!(merged.is_sorted_by_key(|(.., timestamp)| *timestamp));
            }
        }

        #[test]
        fn the_last_are_the_latest(
            batches in prop::collection::vec((0..3_i32, prop::collection::vec(0..50_i64, 0..6)), 0..20), count in 0..30_usize,
        ) {
            let (mut order, mut next, mut expected) = (Order::last(count), [0_i64; 3], Vec::new());
            for (partition, timestamps) in batches {
                let next = &mut next[partition as usize];
                expected.extend(timestamps.iter().zip(*next..).map(|(t, offset)| (*t, partition, offset)));
                order.push(batch(partition, *next, &timestamps)).unwrap();
                *next += timestamps.len() as i64;
            }
            order.drain();
            expected.sort_unstable();
            let expected: Vec<_> =
                expected[expected.len().saturating_sub(count)..].iter().map(|(t, p, offset)| (*p, *offset, *t)).collect();
            prop_assert_eq!(all(&mut order), expected);
        }
    }

    #[test]
    fn a_full_buffer_goes_on_with_what_there_is() {
        let mut order = Order::merged(3 * size_of::<Batch>(), None);
        for offset in 0..3 {
            order.push(batch(0, offset, &[offset])).unwrap();
        }
        assert_eq!(all(&mut order).len(), 1);
        order.push(batch(1, 0, &[0])).unwrap();
        assert_eq!(all(&mut order), [(1, 0, 0)]);
    }
}

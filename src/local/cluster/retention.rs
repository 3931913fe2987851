//! What is deleted, and when: the oldest batches of all, what retention and DeleteRecords delete, compaction.

use super::{Cluster, Partition};
use crate::local::configs;
use crate::local::log::Compaction;
use crate::record::{PartitionId, now};
use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// What all logs hold, and in which order it came.
#[derive(Debug, Default)]
pub(super) struct Retained {
    bytes: usize,
    batches: usize,
    /// The partition of each batch, the oldest first. Batches that a deletion has removed are skipped later.
    order: VecDeque<(Uuid, PartitionId)>,
}

/// What a partition's log holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    batches: usize,
    bytes: usize,
}

impl Held {
    pub(super) fn by(partition: &Partition) -> Self {
        Self { batches: partition.log.batch_count(), bytes: partition.log.bytes() }
    }
}

impl Retained {
    /// A partition's log held `before` until now, and has changed.
    pub(super) fn change(&mut self, id: Uuid, index: PartitionId, before: Held, partition: &Partition) {
        let after = Held::by(partition);
        self.bytes = self.bytes + after.bytes - before.bytes;
        self.batches = self.batches + after.batches - before.batches;
        self.order.extend(std::iter::repeat_n((id, index), after.batches.saturating_sub(before.batches)));
    }

    /// A partition is deleted.
    pub(super) fn remove(&mut self, partition: &Partition) {
        let held = Held::by(partition);
        self.bytes -= held.bytes;
        self.batches -= held.batches;
    }
}

impl Cluster {
    /// Drops the oldest batches beyond `retain_bytes`.
    pub(super) fn make_room(&mut self) {
        while self.retained.bytes > self.retain_bytes {
            let Some((id, index)) = self.retained.order.pop_front() else { break };
            let topic = self.names.get(&id).and_then(|name| self.topics.get_mut(name));
            if let Some(oldest) = topic.and_then(|topic| topic.partitions.get_mut(index as usize)) {
                let before = Held::by(oldest);
                oldest.drop_first();
                self.retained.change(id, index, before, oldest);
            }
        }
        // The entries of deleted batches would grow without end.
        if self.retained.order.len() > 2 * self.retained.batches + 1000 {
            let mut left: HashMap<(Uuid, PartitionId), usize> = HashMap::new();
            for topic in self.topics.values() {
                for (index, partition) in topic.partitions.iter().enumerate() {
                    left.insert((topic.id, index as PartitionId), partition.log.batch_count());
                }
            }
            // The newest entries stand for the batches that are left.
            let mut kept: VecDeque<_> = VecDeque::with_capacity(self.retained.batches);
            for of in self.retained.order.drain(..).rev() {
                if let Some(count) = left.get_mut(&of).filter(|count| **count > 0) {
                    *count -= 1;
                    kept.push_front(of);
                }
            }
            self.retained.order = kept;
        }
    }

    /// Deletes the records of a partition before `offset`; returns the log start offset, or `None` when there is no such
    /// partition.
    pub(in crate::local) fn delete_records(&mut self, topic: &str, partition: PartitionId, offset: i64) -> Option<i64> {
        self.change_partition(topic, partition, |partition| {
            partition.log.delete_before(offset);
            partition.log.start()
        })
    }

    /// Applies `cleanup.policy`, and `retention.ms` and `retention.bytes` where they are set; returns whether any topic
    /// may need it again.
    pub(super) fn clean(&mut self) -> bool {
        let mut any = false;
        for topic in self.topics.values_mut() {
            let since = configs::retention_ms(&topic.configs).map(|millis| now().saturating_sub(millis));
            let most = configs::retention_bytes(&topic.configs);
            let compaction = configs::compaction(&topic.configs);
            if since.is_none() && most.is_none() && compaction.is_none() {
                continue;
            }
            any = true;
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                let before = Held::by(partition);
                partition.expire(since, most);
                if let Some(how) = compaction {
                    partition.compact(how, now());
                }
                self.retained.change(topic.id, index as PartitionId, before, partition);
            }
        }
        any
    }

    /// Compacts a topic at once; false when it does not exist.
    pub(in crate::local) fn compact(&mut self, topic: &str) -> bool {
        let Some(count) = self.topics.get(topic).map(|topic| topic.partitions.len()) else { return false };
        for index in 0..count {
            self.change_partition(topic, index as PartitionId, |partition| partition.compact(Compaction::NOW, now()));
        }
        true
    }
}

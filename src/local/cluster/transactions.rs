//! What transactions do to logs and groups: records join them, markers end them, offsets are committed with them.

use super::{Cluster, Partition};
use crate::engine::native::clock;
use crate::local::log::{Outcome, Stamp};
use crate::local::transactions::{Ended, Protocol};
use crate::record::{TopicPartition, now};
use kafka_protocol::error::ResponseError as E;
use std::time::Duration;

/// How a produce request takes part in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Enlist {
    /// Before v12 AddPartitionsToTxn has added the partition.
    Added,
    /// Since v12 the first records add it (KIP-890).
    Implicit,
}

impl Cluster {
    /// InitProducerId with a transactional ID.
    pub(in crate::local) fn init_transactions(
        &mut self,
        id: &str,
        timeout: Duration,
        expected: Option<Stamp>,
    ) -> Result<Stamp, E> {
        let next = &mut self.next_producer_id;
        let granted = self.transactions.init(id, timeout, expected, || {
            *next += 1;
            *next - 1
        });
        granted.map_err(|(error, ended)| {
            self.finish(ended);
            error
        })
    }

    /// Has the records of a producer take part in its transaction.
    pub(in crate::local) fn enlist(
        &mut self,
        id: &str,
        stamp: Stamp,
        partition: TopicPartition,
        how: Enlist,
    ) -> Result<(), E> {
        match how {
            Enlist::Added => self.transactions.check(id, stamp, &partition),
            Enlist::Implicit => self.transactions.add(id, stamp, vec![partition], clock::now(), now()),
        }
    }

    /// EndTxn: returns the producer's ID and epoch from now on.
    pub(in crate::local) fn end_transaction(
        &mut self,
        id: &str,
        stamp: Stamp,
        outcome: Outcome,
        protocol: Protocol,
    ) -> Result<Stamp, E> {
        let next = &mut self.next_producer_id;
        let (stamp, ended) = self.transactions.end(id, stamp, outcome, protocol, || {
            *next += 1;
            *next - 1
        })?;
        self.finish(ended);
        Ok(stamp)
    }

    /// Writes the markers of ended transactions and commits their offsets.
    pub(super) fn finish(&mut self, ended: impl IntoIterator<Item = Ended>) {
        for ended in ended {
            for partition in &ended.partitions {
                // False: the topic has been deleted meanwhile.
                self.write_marker(partition, ended.marker, ended.outcome);
            }
            if ended.outcome == Outcome::Abort {
                continue;
            }
            for (group, offsets) in ended.groups {
                let bytes = offsets.iter().map(|(of, offset)| of.topic.len() + offset.metadata.len()).sum();
                // Err: no room; a coordinator that cannot write them loses them too.
                let Ok(group) = self.group_with_room(&group, bytes) else { continue };
                for (of, offset) in offsets {
                    group.offsets.insert(of, offset);
                }
            }
        }
    }

    /// Ends a producer's transaction in one partition; false when there is no such partition.
    pub(in crate::local) fn write_marker(&mut self, of: &TopicPartition, stamp: Stamp, outcome: Outcome) -> bool {
        let can_write = self.can_reach_leader(&of.topic, of.partition);
        let end = |partition: &mut Partition| partition.end_transaction(stamp, outcome, can_write, now());
        self.change_partition(&of.topic, of.partition, end).is_some()
    }
}

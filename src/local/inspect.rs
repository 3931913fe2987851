//! What a test can see of the cluster without sending requests.

use super::Local;
use crate::record::{Offset, PartitionId, TopicPartition};
use bytes::Bytes;
use std::collections::BTreeMap;

impl Local {
    /// The record batches of a partition, as a fetch of all of them would return them; `None` when there is no such
    /// partition.
    pub fn log(&self, topic: &str, partition: PartitionId) -> Option<Bytes> {
        let mut cluster = self.shared.cluster();
        let log = &cluster.partition_mut(topic, partition)?.log;
        Some(log.read(log.start(), log.next(), usize::MAX, true).0)
    }

    /// The log start offset of a partition: the first batch of its log may begin before it. `None` of a
    /// partition that does not exist.
    pub fn log_start(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        let mut cluster = self.shared.cluster();
        Some(cluster.partition_mut(topic, partition)?.log.start())
    }

    /// The high watermark of a partition; `None` of one that does not exist.
    pub fn high_watermark(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        let mut cluster = self.shared.cluster();
        Some(cluster.partition_mut(topic, partition)?.high_watermark())
    }

    /// The committed offsets of a group; none when it does not exist.
    pub fn committed(&self, group: &str) -> BTreeMap<TopicPartition, Offset> {
        let cluster = self.shared.cluster();
        let Some(group) = cluster.groups.get(group) else { return BTreeMap::new() };
        let offset = |of: &TopicPartition| Some((of.clone(), group.offsets.get(of)?.offset));
        group.offsets.partitions().filter_map(offset).collect()
    }
}

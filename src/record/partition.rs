//! What records belong to, and who keeps them: topic partitions, brokers, leader epochs.

use super::{Offset, PartitionId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A partition of a topic; displayed as `topic/partition`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number within the topic.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// Names a partition of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: PartitionId) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Groups values by topic, as requests carry them; topics and partitions come in order.
pub fn by_topic<T>(items: impl IntoIterator<Item = (TopicPartition, T)>) -> BTreeMap<Arc<str>, Vec<(PartitionId, T)>> {
    let mut topics: BTreeMap<Arc<str>, Vec<(PartitionId, T)>> = BTreeMap::new();
    for (of, value) in items {
        topics.entry(of.topic).or_default().push((of.partition, value));
    }
    topics.values_mut().for_each(|partitions| partitions.sort_by_key(|(partition, _)| *partition));
    topics
}

/// Groups partitions by topic, as requests name them; topics and partitions come in order.
pub fn partitions_by_topic(items: impl IntoIterator<Item = TopicPartition>) -> BTreeMap<Arc<str>, Vec<PartitionId>> {
    let indexes =
        |partitions: Vec<(PartitionId, ())>| partitions.into_iter().map(|(partition, ())| partition).collect();
    let grouped = by_topic(items.into_iter().map(|of| (of, ())));
    grouped.into_iter().map(|(topic, partitions)| (topic, indexes(partitions))).collect()
}

/// A broker's `node.id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct BrokerId(pub i32);

impl BrokerId {
    /// The ID that a message carries; -1 stands for "none" there.
    pub fn from_wire(id: i32) -> Option<Self> {
        (id >= 0).then_some(Self(id))
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the leaders of a partition, so that a stale one is recognized (KIP-101, KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(i32);

impl LeaderEpoch {
    /// The epoch that a message carries; -1 stands for "unknown" there (brokers before Kafka 2.1).
    pub fn from_wire(epoch: i32) -> Option<Self> {
        (epoch >= 0).then_some(Self(epoch))
    }

    pub fn get(self) -> i32 {
        self.0
    }

    /// The number that a message carries for `epoch`.
    pub fn to_wire(epoch: Option<Self>) -> i32 {
        epoch.map_or(-1, |epoch| epoch.0)
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where to continue in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next record's offset.
    pub offset: Offset,
    /// Epoch of the leader that wrote the record before (KIP-320), as far as it is known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A broker as messages name it: `broker 1 at host:9092`, or its address alone before its ID is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// `None` for an address of the bootstrap list.
    pub id: Option<BrokerId>,
    /// `host:port`; empty for a broker that metadata does not list.
    pub address: Arc<str>,
}

impl Node {
    /// An address of the bootstrap list.
    pub fn bootstrap(address: &str) -> Self {
        Self { id: None, address: address.into() }
    }

    /// Whether a broker can have such an ID and address in an answer.
    pub fn can_be(id: i32, host: &str, port: i32) -> bool {
        id >= 0 && !host.is_empty() && (1..=65535).contains(&port)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            None => f.write_str(&self.address),
            Some(id) if self.address.is_empty() => write!(f, "broker {id}"),
            Some(id) => write!(f, "broker {id} at {}", self.address),
        }
    }
}
